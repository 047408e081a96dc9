"""load_zoo: one function for every format, whose results do not depend on the format."""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoobench import ZooFormatError, load_zoo, save_zoo
from zoobench.split import split_of

SEED_ZOO = "tune_zoo_digits_uniform"


@pytest.fixture(scope="module")
def folder(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("raw")
    with zipfile.ZipFile(data_dir / f"{SEED_ZOO}.zip") as archive:
        archive.extractall(out)
    return out / SEED_ZOO


@pytest.fixture(scope="module")
def forms(data_dir: Path, folder: Path) -> dict[str, Path]:
    """The same experiment as folder, zip, tar, compressed tar and zoo folder."""
    forms = {"folder": folder, "zip": data_dir / f"{SEED_ZOO}.zip"}
    for suffix, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        forms[suffix] = folder.parent / f"{SEED_ZOO}.{suffix}"
        with tarfile.open(forms[suffix], mode) as archive:
            archive.add(folder, SEED_ZOO)
    forms["zoo"] = save_zoo(load_zoo(forms["zip"]), folder.parent / "zoo")
    return forms


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz", "zoo"])
@pytest.mark.parametrize(
    "selection",
    [{}, {"epochs": [0, 5]}, {"subset": "val", "epochs": "last"}, {"subset": "train", "properties": "ggap"}],
)
def test_every_form_of_an_experiment_gives_the_same_zoo(forms: dict[str, Path], form: str, selection: dict) -> None:
    """Rows, properties, split and groups do not depend on how the experiment is stored, whatever is selected."""
    expected, found = load_zoo(forms["zip"], **selection), load_zoo(forms[form], **selection)
    assert np.array_equal(found.data, expected.data)
    assert np.array_equal(found.target, expected.target, equal_nan=True)
    assert np.array_equal(found.split, expected.split)
    pd.testing.assert_frame_equal(
        found.properties.astype({"model": str}), expected.properties.astype({"model": str}), check_categorical=False
    )
    assert len(set(found.groups)) == found.properties["model"].nunique()


def test_split_of_an_experiment_is_the_hash(forms: dict[str, Path]) -> None:
    """The split is that of the models' names."""
    zoo = load_zoo(forms["zip"])
    assert list(zoo.split) == [split_of(model) for model in zoo.properties["model"].astype(str)]


def test_split_of_a_pt_is_the_published_one(data_dir: Path, tmp_path: Path) -> None:
    """A .pt keeps its authors' split; converted, it has the hash split beside it, so that both can be used."""
    path = data_dir / "dataset_digits_seed.pt"
    zoo = load_zoo(path)
    assert list(zoo.split) == list(zoo.properties["split_published"])
    assert {part: len(load_zoo(path, subset=part).data) for part in ("train", "val", "test")} == {
        "train": 84, "val": 18, "test": 18,
    }  # fmt: skip
    converted = load_zoo(save_zoo(zoo, tmp_path / "zoo"))
    assert list(converted.properties["split_published"]) == list(zoo.split)
    assert list(converted.split) == [split_of(model) for model in converted.properties["model"].astype(str)]
    assert np.array_equal(converted.data, zoo.data)


def test_pt_and_raw_hold_the_same_states(data_dir: Path) -> None:
    """The authors' two forms of one zoo agree: same models and epochs, same weights, same properties."""
    pt = load_zoo(data_dir / "dataset_digits_seed.pt")
    raw = load_zoo(data_dir / f"{SEED_ZOO}.zip", epochs=[1, 5, 10])
    key = ["model", "epoch"]
    left = pt.properties.astype({"model": str}).reset_index().sort_values(key)
    right = raw.properties.astype({"model": str}).reset_index().sort_values(key)
    assert left[key].values.tolist() == right[key].values.tolist()
    assert np.array_equal(pt.data[left["index"]], raw.data[right["index"]])
    for name in ("test_acc", "ggap"):
        np.testing.assert_allclose(left[name], right[name], rtol=1e-12)


@pytest.mark.parametrize("name", [f"{SEED_ZOO}.zip", "dataset_digits_seed.pt"])
def test_pickle_of_a_foreign_zoo_reads_it_again(data_dir: Path, name: str) -> None:
    """A zoo from a published file travels as path and selection as well."""
    zoo = load_zoo(data_dir / name, subset="test", epochs=[5, 10])
    pickled = pickle.dumps(zoo)
    assert len(pickled) < 5_000
    back = pickle.loads(pickled)
    assert np.array_equal(back.data, zoo.data)
    assert np.array_equal(back.split, zoo.split)


def test_hyper_parameters_come_from_params_json(data_dir: Path) -> None:
    """A hyper-parameter zoo has its grid as properties, names as categories."""
    zoo = load_zoo(data_dir / "tune_zoo_digits_hyperparameter_10_random_seeds.zip", properties="all", as_frame=True)
    assert set(zoo.target["activation"]) <= {"tanh", "sigmoid", "relu", "gelu"}
    assert set(zoo.target["dropout"]) == {0.0, 0.5}
    assert "seed" not in zoo.target


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!doctype html><html>", "web page"),
        (b"PK\x03\x04 and then nothing", "truncated"),
        (b"text", "neither"),
    ],
)
def test_what_is_no_zoo_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is none of the formats gives one sentence with the file's name."""
    path = tmp_path / "zoo.zip"
    path.write_bytes(content)
    with pytest.raises(ZooFormatError, match=message) as caught:
        load_zoo(path)
    assert "zoo.zip" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="check the path"):
        load_zoo(tmp_path / "nothing")
    with pytest.raises(ZooFormatError):
        load_zoo(tmp_path)
