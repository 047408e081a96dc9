"""fetch_zoo and list_zoos: one line from a name to data, without a network and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo_samples import sample_contents
from zoobench import clear_data_home, fetch_zoo, get_data_home, list_zoos
from zoobench.datasets_registry import find_card, read_cards
from zoobench.fetch import stored_at
from zoobench.store import write_zoo


def test_one_line_gives_data_and_target() -> None:
    """The sentence of the README works, in each of its spellings."""
    X, y = fetch_zoo("digits_cnn_s", return_X_y=True)
    assert X.shape == (600, 2464)
    assert X.dtype == np.float32
    assert y.shape == (600,)
    assert ((y >= 0) & (y <= 1)).all()
    full = fetch_zoo("digits_cnn_s_seed")
    assert np.array_equal(full.data, X)
    assert fetch_zoo("digits_cnn_s", variant="hyp_rand").card["name"] == "digits_cnn_s_hyp_rand"


def test_fetched_zoo_shows_its_licence() -> None:
    """Whoever uses the data sees the licence and what to cite."""
    zoo = fetch_zoo("digits_cnn_s")
    assert "CC-BY-4.0" in zoo.DESCR
    assert "arXiv 2209.14764" in zoo.DESCR
    assert zoo.card["licence"] == "CC-BY-4.0"


def test_subsets_are_disjoint_by_model_and_complete() -> None:
    """train, val and test share no model and together are the zoo."""
    parts = [fetch_zoo("digits_cnn_s_hyp_rand", subset=part) for part in ("train", "val", "test")]
    models = [set(part.groups) for part in parts]
    assert not (models[0] & models[1] or models[0] & models[2] or models[1] & models[2])
    assert sum(len(part.data) for part in parts) == len(fetch_zoo("digits_cnn_s_hyp_rand").data)


def test_fetching_needs_no_torch_and_no_network() -> None:
    """A fresh process fetches without importing torch or opening a socket."""
    script = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('the network was used')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "import zoobench\n"
        "zoobench.fetch_zoo('digits_cnn_s')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_list_zoos() -> None:
    """One row a zoo with the documented columns; filters narrow it; unknown values are named."""
    table = list_zoos()
    assert list(table.columns) == [
        "name", "dataset", "architecture", "variant", "n_models",
        "n_epochs", "n_weights", "source", "cached", "licence",
    ]  # fmt: skip
    assert list(list_zoos(variant="hyp_rand", dataset="digits")["name"]) == ["digits_cnn_s_hyp_rand"]
    assert set(list_zoos(cached=True)["name"]) >= {"digits_cnn_s_seed", "digits_cnn_s_hyp_rand"}
    assert len(list_zoos(cached=True)) + len(list_zoos(cached=False)) == len(table)
    with pytest.raises(ValueError, match="no zoo has dataset 'digit'; there is"):
        list_zoos(dataset="digit")
    table = table.set_index("name")
    assert list(table.loc["mnist_cnn_s_hyp_fix", ["n_models", "n_epochs", "n_weights"]]) == [2560, 51, 2464]
    assert {str(table[count].dtype) for count in ("n_models", "n_epochs", "n_weights")} == {"Int64"}
    # What is not known is missing, and what cannot be read yet says so.
    assert list(table.loc["cnn_wild_park", ["n_epochs", "n_weights"]].isna()) == [True, True]
    assert table.loc["cnn_wild_park", "source"] == "zenodo (no reader yet)"
    assert table.loc["digits_cnn_s_seed", "source"] == "bundled"
    assert table.loc["cifar10_resnet18", "source"] == "directory"
    assert set(table.index[table["cached"]]) == {card.name for card in read_cards().values() if card.bundled}


def test_zoos_of_the_data_folder_are_listed_and_loaded(data_home: Path) -> None:
    """A published zoo that lies in the data folder is cached, and fetched from there."""
    assert "mnist_cnn_s_seed" not in set(list_zoos(cached=True)["name"])
    write_zoo(data_home / "mnist_cnn_s_seed", sample_contents(4, (1, 2)))
    assert "mnist_cnn_s_seed" in set(list_zoos(cached=True)["name"])
    assert fetch_zoo("mnist_cnn_s").data.shape[0] == 8


def test_where_zoos_lie(data_home: Path, tmp_path: Path) -> None:
    """A bundled zoo lies in the package, wherever the data folder is; others in the data folder, under their name."""
    bundled, published = find_card("digits_cnn_s"), find_card("mnist_cnn_s_sparse")
    assert stored_at(bundled) == stored_at(bundled, tmp_path) == bundled.bundled
    assert stored_at(published) == data_home / "mnist_cnn_s_seed_sparse"
    assert stored_at(published, tmp_path) == tmp_path / "mnist_cnn_s_seed_sparse"


def test_missing_zoo_names_sources_folder_and_command(data_home: Path) -> None:
    """A zoo that is not on the machine and may not be downloaded: an OSError with all that is needed to go on."""
    with pytest.raises(OSError, match="zoo 'cifar10_cnn_l_seed' .2.21 GB of weights. is not in") as caught:
        fetch_zoo("cifar10_cnn_l", download_if_missing=False)
    for text in (
        str(data_home / "cifar10_cnn_l_seed"),
        "`zoobench fetch cifar10_cnn_l_seed`",
        "https://zenodo.org/records/6620869/files/cifar_large_seed.zip",
        "https://ai.unisg.ch/files/weight_space_learning/model_zoos/core-modelzoo/cnn-large_cifar10/"
        "tune_zoo_cifar10_uniform_large/",
    ):
        assert text in str(caught.value)
    assert not any(data_home.iterdir())


def test_zoo_without_a_reader_is_not_downloaded(data_home: Path) -> None:
    """What zoobench cannot read yet is not transferred: the error says so, and where the files are."""
    with pytest.raises(OSError, match=r"no reader for its format yet.*https://zenodo.org/records/12797219"):
        fetch_zoo("cnn_wild_park")
    assert "(no reader yet)" in list_zoos(dataset="cifar10").set_index("name").loc["cnn_wild_park", "source"]
    assert not (data_home / "cnn_wild_park").exists()


def test_data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument before environment before the system's cache folder; clearing deletes zoos and nothing else."""
    monkeypatch.setenv("ZOOBENCH_DATA", str(tmp_path / "env"))
    assert get_data_home() == tmp_path / "env"
    assert get_data_home(tmp_path / "arg") == tmp_path / "arg"
    monkeypatch.delenv("ZOOBENCH_DATA")
    assert "zoobench" in str(get_data_home())
    home = tmp_path / "home"
    write_zoo(home / "a zoo", sample_contents(2, (1,)))
    (home / "notes.txt").write_text("mine")
    (home / ".raw" / "a zoo").mkdir(parents=True)
    (home / "checksums.json").write_text("{}")
    clear_data_home(home)
    assert [f.name for f in home.iterdir()] == ["notes.txt"]
    clear_data_home(tmp_path / "nothing there")
