"""Zoos that are there already, opened and read, against the same numbers as plain files.

A bundled zoo against its safetensors and parquet files, read by the libraries for them. A folder of 5000 states of
10,853 weights, 217 MB, against the weights as one .npy file and one of torch, with the properties as a parquet file
beside it. Opening maps the weights and reads none; a part reads its own rows. All files are in the system's cache, so
that no disk is measured. Promised are that opening takes less than half of reading the array, and an epoch less time
than the whole array and a choice of its rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.numpy import load_file

from conftest import Beside, Turns
from zoobench.contents import ZooContents
from zoobench.datasets_registry.cards import find_card
from zoobench.fetch import fetch_zoo
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.split import split_of
from zoobench.store import write_zoo

BUNDLED, N_MODELS, N_EPOCHS = "digits_cnn_s_seed", 500, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo of random weights; beside it the same as .npy, .pt and parquet."""
    rng, layout = np.random.default_rng(0), WeightLayout.from_architecture("cnn_l")
    names = [f"seed={i}" for i in range(N_MODELS)]
    n_states = N_MODELS * N_EPOCHS
    table = pd.DataFrame(
        {
            "model": pd.Categorical(names * N_EPOCHS, categories=names),
            "epoch": np.repeat(np.arange(N_EPOCHS), N_MODELS),
            "test_acc": rng.random(n_states),
        }
    )
    weights = rng.standard_normal((n_states, layout.n_weights), dtype=np.float32)
    root = tmp_path_factory.mktemp("loading")
    np.save(root / "weights.npy", weights)
    torch.save(torch.from_numpy(weights), root / "weights.pt")
    table.assign(split=[split_of(name) for name in table["model"]]).to_parquet(root / "properties.parquet")
    write_zoo(root / "zoo", ZooContents("large", weights, table, layout, provenance={"source": "random numbers"}))
    return root


@pytest.mark.parametrize("epoch", [None, 50])
def test_bundled_zoo(benchmark: BenchmarkFixture, by_turns: Turns, beside: Beside, epoch: int | None) -> None:
    place = find_card(BUNDLED).bundled
    assert place is not None
    (weights,), (properties,) = place.glob("weights-*"), place.glob("properties-*")

    def plain() -> float:
        table = pd.read_parquet(properties)
        rows = np.ones(len(table), dtype=bool) if epoch is None else (table["epoch"] == epoch).to_numpy()
        return float(load_file(weights)["weights"][rows].sum())

    def ours() -> float:
        return float(np.asarray(fetch_zoo(BUNDLED, epochs=epoch).data).sum())

    assert ours() == pytest.approx(plain())
    times = by_turns({"ours": ours, "plain": plain}, 20)
    what = f"fetch_zoo, bundled zoo, {'whole' if epoch is None else 'one epoch'}, read"
    beside(what, times["ours"], "safetensors and parquet files", times["plain"])
    benchmark.pedantic(ours, rounds=5)


def test_opening(benchmark: BenchmarkFixture, folder: Path, by_turns: Turns, beside: Beside) -> None:
    work = {
        "ours": lambda: load_zoo(folder / "zoo"),
        "numpy": lambda: np.load(folder / "weights.npy"),
        "torch": lambda: torch.load(folder / "weights.pt", weights_only=True),
    }
    times = by_turns(work)
    beside("load_zoo, 217 MB, open", times["ours"], "numpy.load", times["numpy"])
    beside("load_zoo, 217 MB, open", times["ours"], "torch.load", times["torch"])
    benchmark.pedantic(work["ours"], rounds=5)
    assert times["ours"] < times["numpy"] / 2


def test_reading_all(benchmark: BenchmarkFixture, folder: Path, by_turns: Turns, beside: Beside) -> None:
    def ours() -> float:
        return float(load_zoo(folder / "zoo").data.sum())

    times = by_turns({"ours": ours, "numpy": lambda: float(np.load(folder / "weights.npy").sum())})
    beside("load_zoo, 217 MB, read and summed", times["ours"], "numpy.load, summed", times["numpy"])
    benchmark.pedantic(ours, rounds=3)


@pytest.mark.parametrize(
    ("what", "selection"),
    [("last epoch", {"epochs": "last"}), ("test part of an epoch", {"epochs": 5, "subset": "test"})],
)
def test_reading_a_part(
    benchmark: BenchmarkFixture, folder: Path, by_turns: Turns, beside: Beside, what: str, selection: dict[str, object]
) -> None:
    def plain() -> np.ndarray:
        table = pd.read_parquet(folder / "properties.parquet")
        epoch = table["epoch"].max() if selection["epochs"] == "last" else selection["epochs"]
        rows = table["epoch"] == epoch
        if "subset" in selection:
            rows &= table["split"] == selection["subset"]
        chosen: np.ndarray = np.load(folder / "weights.npy")[rows.to_numpy()]
        return chosen

    def ours() -> np.ndarray:
        return np.array(load_zoo(folder / "zoo", **selection).data)

    assert np.array_equal(ours(), plain())
    times = by_turns({"ours": ours, "plain": plain})
    beside(f"load_zoo, {what}, read", times["ours"], "numpy.load, choice of rows", times["plain"])
    benchmark.pedantic(ours, rounds=5)
    assert times["ours"] < times["plain"]
