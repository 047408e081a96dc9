"""The measures of a zoo's diversity are what their formulas say, and the command shows them."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zoobench.benchmark import similarity
from zoobench.benchmark.analysis import MEASURES, analyze_zoo
from zoobench.benchmark.similarity import agreement, draw_pairs, linear_cka, weight_distances
from zoobench.cli import main
from zoobench.cli_analyze import MEASURES as OFFERED
from zoobench.contents import ZooContents
from zoobench.fetch import fetch_zoo
from zoobench.generators.activations import last_hidden
from zoobench.generators.images import ImageData, load_images
from zoobench.layout import WeightLayout
from zoobench.store import save_zoo
from zoobench.zoo import Zoo

N_MODELS, N_IMAGES = 6, 40


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    """Six models at two epochs, of the bundled ones."""
    whole = fetch_zoo("digits_cnn_s", epochs=[5, 50]).to_contents()
    names = list(whole.properties["model"].unique()[:N_MODELS])
    rows = np.flatnonzero(whole.properties["model"].isin(names))
    table = whole.properties.iloc[rows].reset_index(drop=True)
    table["model"] = table["model"].cat.remove_unused_categories()
    return Zoo.from_contents(replace(whole, weights=np.array(whole.weights[rows]), properties=table, peaks=None))


@pytest.fixture(scope="module")
def images() -> ImageData:
    whole = load_images("digits")
    return replace(whole, test=whole.test[:N_IMAGES], test_labels=whole.test_labels[:N_IMAGES])


@pytest.fixture(scope="module")
def table(zoo: Zoo, images: ImageData) -> pd.DataFrame:
    return analyze_zoo(zoo, images=images)


def modules_at(zoo: Zoo, epoch: int) -> list[nn.Module]:
    return [zoo.module(i) for i in np.flatnonzero(zoo.properties["epoch"] == epoch)]


def outputs_of(module: nn.Module, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Predicted classes, and what the last linear layer reads, by a plain pass."""
    read: list[torch.Tensor] = []
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    last.register_forward_hook(lambda _, inputs, __: read.append(inputs[0]))
    with torch.no_grad():
        chosen = module(images).argmax(1).numpy()
    return chosen, read[0].double().numpy()


def plain_cka(a: np.ndarray, b: np.ndarray) -> float:
    """By centred Gram matrices over images: the definition, which the library does not compute."""
    n = len(a)
    centre = np.eye(n) - 1 / n
    k, m = centre @ a @ a.T @ centre, centre @ b @ b.T @ centre
    return float(np.sum(k * m) / np.sqrt(np.sum(k * k) * np.sum(m * m)))


@pytest.mark.parametrize("epoch", [5, 50])
def test_every_measure_is_what_a_plain_loop_gives(zoo: Zoo, images: ImageData, table: pd.DataFrame, epoch: int) -> None:
    """Models one by one, pairs one by one, in float64."""
    outputs = [outputs_of(module, images.test) for module in modules_at(zoo, epoch)]
    accuracies = [np.mean(chosen == images.test_labels.numpy()) for chosen, _ in outputs]
    weights = np.array(zoo.data[zoo.properties["epoch"] == epoch], dtype=np.float64)
    norm = np.mean([np.linalg.norm(w) for w in weights])
    pairs = list(combinations(range(N_MODELS), 2))
    expected = {
        "accuracy": accuracies,
        "agreement": [np.mean(outputs[i][0] == outputs[j][0]) for i, j in pairs],
        "l2": [np.linalg.norm(weights[i] - weights[j]) / norm for i, j in pairs],
        "cosine": [
            1 - weights[i] @ weights[j] / np.linalg.norm(weights[i]) / np.linalg.norm(weights[j]) for i, j in pairs
        ],
        "cka": [plain_cka(outputs[i][1], outputs[j][1]) for i, j in pairs],
    }
    row = table.loc[epoch]
    for name, values in expected.items():
        tolerance = 1e-5 if name == "cka" else 1e-9
        assert row[f"{name}_mean"] == pytest.approx(np.mean(values), abs=tolerance), name
        assert row[f"{name}_std"] == pytest.approx(np.std(values), abs=tolerance), name
    assert (row["accuracy_min"], row["accuracy_max"]) == (min(accuracies), max(accuracies))
    assert (row["n_models"], row["cka_pairs"]) == (N_MODELS, len(pairs))


def test_the_table_has_a_row_an_epoch_and_a_column_a_measure(zoo: Zoo, images: ImageData, table: pd.DataFrame) -> None:
    """What is not asked for is not there, and does not change what is."""
    assert table.index.tolist() == [5, 50]
    assert table.index.name == "epoch"
    for measures in (["distance"], ["agreement"], ["accuracy", "cka"]):
        part = analyze_zoo(zoo, images=images, measures=measures)
        pd.testing.assert_frame_equal(part, table[part.columns])
        assert len(part.columns) < len(table.columns)


def test_distances_need_no_images(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for distances alone never loads images, so that a zoo of unknown images will do."""
    monkeypatch.setattr("zoobench.generators.image_fit.images_of", lambda *_: pytest.fail("images were loaded"))
    assert analyze_zoo(zoo, measures=["distance"])["l2_mean"].gt(0).all()


def test_pairs_for_cka_are_drawn_once_and_repeatably(zoo: Zoo, images: ImageData) -> None:
    """The same random_state gives the same table, another another; no more pairs than asked for."""

    def cka(**given: int) -> pd.DataFrame:
        return analyze_zoo(zoo, images=images, measures=["cka"], n_pairs=4, **given)

    first = cka(random_state=1)
    assert first["cka_pairs"].tolist() == [4, 4]
    pd.testing.assert_frame_equal(first, cka(random_state=1))
    assert not first["cka_mean"].equals(cka(random_state=2)["cka_mean"])
    assert not first["cka_mean"].equals(cka(random_state=1, n_images=20)["cka_mean"])


def test_blocks_change_nothing(
    zoo: Zoo, images: ImageData, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little memory a block may take, the numbers stay."""
    monkeypatch.setattr(similarity, "_ROWS", 4)
    monkeypatch.setattr(similarity, "_ENTRIES", 300)
    monkeypatch.setattr("zoobench.benchmark.analysis._VALUES", 4_000)
    pd.testing.assert_frame_equal(analyze_zoo(zoo, images=images), table, rtol=1e-6)


def test_a_single_model_has_no_pairs(zoo: Zoo, images: ImageData) -> None:
    """What is of pairs is NaN, not zero; its accuracy is known."""
    whole = zoo.to_contents()
    one = Zoo.from_contents(replace(whole, weights=whole.weights[:1], properties=whole.properties.iloc[:1], peaks=None))
    row = analyze_zoo(one, images=images).iloc[0]
    assert row[["agreement_mean", "l2_mean", "cosine_mean", "cka_mean"]].isna().all()
    assert row["cka_pairs"] == 0
    assert row["accuracy_mean"] == row["accuracy_min"]


def test_a_model_that_sees_no_difference_has_no_cka(zoo: Zoo, images: ImageData) -> None:
    """Zero weights represent all images alike: the pairs without a value are left out and counted."""
    whole = zoo.select(epochs=[50]).to_contents()
    weights = np.array(whole.weights)
    weights[0] = 0
    dead = Zoo.from_contents(replace(whole, weights=weights, peaks=None))
    row = analyze_zoo(dead, images=images, measures=["cka", "distance"]).iloc[0]
    assert row["cka_pairs"] == (N_MODELS - 1) * (N_MODELS - 2) // 2
    assert np.isfinite(row[["cka_mean", "cosine_mean", "l2_mean"]]).all()


def test_running_statistics_are_no_distance() -> None:
    """What a normalisation has seen is no parameter: two networks that differ in it alone have distance 0."""
    layout = WeightLayout.from_state_dict(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict())
    buffers = ~layout.mask(roles=["weight", "bias"])
    assert buffers.any()
    weights = np.ones((2, layout.n_weights), dtype=np.float32)
    weights[1, buffers] = 7
    table = pd.DataFrame({"model": pd.Categorical(["a", "b"]), "epoch": [1, 1], "test_acc": [0.5, 0.5]})
    row = analyze_zoo(Zoo.from_contents(ZooContents("mine", weights, table, layout)), measures=["distance"]).iloc[0]
    assert row["l2_mean"] == 0
    assert row["cosine_mean"] == pytest.approx(0, abs=1e-12)


def test_last_hidden_of_networks_that_are_no_chain() -> None:
    """ResNet-18 is computed module by module, in batches, and gives what its last layer reads."""
    layout = WeightLayout.from_architecture("resnet18")
    vector = np.random.default_rng(0).uniform(0.01, 0.05, size=(1, layout.n_weights)).astype(np.float32)
    table = pd.DataFrame(
        {"model": pd.Categorical(["a"]), "epoch": [1], "test_acc": [0.5], "activation": pd.Categorical(["relu"])}
    )
    zoo = Zoo.from_contents(ZooContents("mine", vector, table, layout))
    inputs = torch.linspace(-1, 1, 101 * 3 * 8 * 8).reshape(101, 3, 8, 8)
    found = last_hidden(zoo, inputs, [0])
    assert found.shape == (1, 101, 512)
    np.testing.assert_allclose(found[0], outputs_of(zoo.module(0), inputs)[1], rtol=1e-4)
    assert np.ptp(found) > 0


# -- the measures by themselves ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(2, 40), st.integers(1, 200), st.integers(0, 99))
def test_pairs_are_different_models_and_each_once(n_models: int, n_pairs: int, seed: int) -> None:
    """Never a model with itself, never a pair twice, as many as asked for or as there are."""
    pairs = draw_pairs(n_models, n_pairs, seed)
    assert len(pairs) == min(n_pairs, n_models * (n_models - 1) // 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < n_models
    assert len({tuple(pair) for pair in pairs.tolist()}) == len(pairs)


def test_known_values() -> None:
    """Equal models agree, have no distance and a CKA of 1; opposite ones a cosine distance of 2."""
    assert agreement(np.array([[1, 2], [1, 2]])) == (1.0, 0.0, 1)
    assert agreement(np.array([[1, 2], [0, 0]])).mean == 0
    l2, cosine = weight_distances(np.array([[3.0, 4.0], [-3.0, -4.0]]))
    assert (l2.mean, cosine.mean) == (2, 2)
    values = np.random.default_rng(0).normal(size=(1, 9, 3))
    assert linear_cka(values, 2 * values + 1) == pytest.approx(1)
    assert np.isnan(linear_cka(values, np.full((1, 9, 2), 0.1)))


# -- refusals and the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"measures": ["accurcy"]}, "measure 'accurcy' is unknown; there are accuracy, agreement"),
        ({"measures": "cka"}, "must be a list"),
        ({"measures": []}, "must be a list"),
        ({"n_pairs": 0}, "n_pairs must be a whole number of at least 1, not 0"),
        ({"n_images": 1.5}, "n_images must be a whole number of at least 2, not 1.5"),
        ({"images": 3}, "images must be the name of an image set"),
    ],
    ids=["unknown", "text", "none", "pairs", "images", "no images"],
)
def test_what_cannot_be_analysed_is_said(zoo: Zoo, given: dict[str, object], said: str) -> None:
    """Each refusal names the argument and what it may be."""
    with pytest.raises(ValueError, match=said):
        analyze_zoo(zoo, **given)  # type: ignore[arg-type]


def test_a_name_is_no_zoo_and_nan_is_no_weight(zoo: Zoo) -> None:
    """Both errors say what to do instead."""
    with pytest.raises(ValueError, match=r"fetch_zoo\('digits'\)"):
        analyze_zoo("digits")  # type: ignore[arg-type]
    whole = zoo.to_contents()
    weights = np.array(whole.weights)
    weights[3, 7] = np.nan
    with pytest.warns(UserWarning, match="1 with NaN"):
        broken = Zoo.from_contents(replace(whole, weights=weights, peaks=None), drop_nan=False)
    with pytest.raises(ValueError, match=r"1 states of .* the first in row 3; leave such states out"):
        analyze_zoo(broken, measures=["distance"])


def test_the_command_prints_what_the_function_returns(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CSV has every digit, the other forms mean and deviation; the figure is written where it should be."""
    folder, figure = tmp_path / "zoo", tmp_path / "figure.png"
    save_zoo(zoo, folder)
    argv = ["analyze", str(folder), "--epochs", "50", "--measures", "distance", "--format"]
    assert main([*argv, "csv", "--figure", str(figure)]) == 0
    found = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="epoch")
    expected = analyze_zoo(zoo.select(epochs=[50]), measures=["distance"])
    pd.testing.assert_frame_equal(found, expected)
    assert figure.read_bytes()[:4] == b"\x89PNG"
    value = f"{expected.loc[50, 'l2_mean']:.3f} ±{expected.loc[50, 'l2_std']:.3f}"
    for style, head in (("text", "epoch  models"), ("markdown", "| epoch | models |")):
        assert main([*argv, style]) == 0
        text = capsys.readouterr().out
        assert text.startswith(head)
        assert value in text


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (("--figure", "there/is/none.png"), 1, "there is no folder there/is for the figure"),
        (("--figure", "figure.txt"), 2, "no figure can be written to figure.txt"),
        (("--images", "cifar"), 2, "cifar10"),
    ],
    ids=["folder", "kind", "images"],
)
def test_the_command_fails_with_a_sentence(
    argv: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is computed."""
    assert main(["analyze", "digits_cnn_s", *argv]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_the_command_offers_every_measure() -> None:
    """The command line does not wait for the analysis to know them, but knows the same."""
    assert OFFERED == MEASURES
