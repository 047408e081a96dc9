"""The preprocessed files of the two papers on hyper-representations, which other classes than the Model Zoos' wrote."""

from __future__ import annotations

import contextlib
import io
import pathlib
import pickle
import random
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import zoo_files
from loopback import Loopback
from zoobench import acquire, fetch_zoo, load_zoo
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.origins import Hosts
from zoobench.readers import detect, read_foreign
from zoobench.readers.admitted import unpacked
from zoobench.readers.unpickle import load_pickle
from zoobench.store import check_zoo

LAYERS = [(0, "conv2d"), (3, "conv2d"), (6, "conv2d"), (9, "fc"), (11, "fc")]
SPLITS = {"trainset": "train", "valset": "val", "testset": "test"}
Parts = dict[str, dict[str, Any]]
State = OrderedDict[str, torch.Tensor]


@contextlib.contextmanager
def authors_classes(package: str = "") -> Iterator[dict[str, type]]:
    """Stand-ins for the classes that the authors' files are pickles of, importable for a while."""
    root = f"{package}checkpoints_to_datasets"
    made = {
        "SimCLRDataset": (f"{root}.dataset_simclr", (torch.utils.data.Dataset,)),
        "GoogleDatasetSimCLR": (f"{root}.dataset_google_simclr", ()),
        "RandomErasingVector": (f"{root}.random_erasing", (torch.nn.Module,)),
    }
    names = [root.rpartition(".")[0], root, *(module for module, _ in made.values())]
    modules = {name: types.ModuleType(name) for name in names if name}
    classes = {name: type(name, bases, {"__module__": module}) for name, (module, bases) in made.items()}
    for name, made_class in classes.items():
        setattr(modules[made_class.__module__], name, made_class)
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name in modules:
            del sys.modules[name]


def states_of(n_models: int, epochs: list[int], layout: WeightLayout, *, seed: int) -> list[State]:
    generator = torch.Generator().manual_seed(seed)
    return [
        OrderedDict((t.name, torch.randn(t.shape, generator=generator)) for t in layout.tensors)
        for _ in range(n_models * len(epochs))
    ]


def dataset(
    part: str,
    states: list[State],
    n_models: int,
    epochs: list[int],
    *,
    layers: list[tuple[int, str]] = LAYERS,
    with_biases: bool = True,
    n_permutations: int = 3,
) -> dict[str, Any]:
    """The attributes of a dataset in the form that the authors train on: vectors, and permutations of them."""
    paths = [pathlib.PosixPath(f"/home/zoo/NN_trainable_{part}_{i // len(epochs)}") for i in range(len(states))]
    seen = epochs * n_models
    roles = ("weight", "bias") if with_biases else ("weight",)
    names = [f"module_list.{number}.{role}" for number, _ in layers for role in roles]
    vectors = [torch.cat([state[name].reshape(-1) for name in names if name in state]) for state in states]
    labels = [f"{path}#_#epoch_{epoch}#_#layer_{layers}" for path, epoch in zip(paths, seen, strict=True)]
    indices = list(range(len(vectors[0])))
    return {
        "layer_lst": layers,
        "epoch_lst": epochs,
        "mode": "vector",
        "task": "reconstruction",
        "use_bias": with_biases,
        "weight_threshold": float("inf"),
        "property_keys": {"result_keys": ["test_acc", "training_iteration", "ggap"], "config_keys": []},
        "train_val_test": SPLITS[part],
        "ds_split": [0.7, 0.15, 0.15],
        "root": [pathlib.PosixPath("/home/zoo")],
        "path_list": list(dict.fromkeys(paths)),
        "data_in": vectors,
        "data_out": [vector.clone() for vector in vectors],
        "labels_in": labels,
        "labels_out": list(labels),
        "paths": paths,
        "epochs": seen,
        "properties": {
            "test_acc": [0.5 + i / 1000 for i in range(len(states))],
            "training_iteration": list(seen),
            "ggap": [i / 1000 for i in range(len(states))],
            "model::nlin": ["tanh", "relu"] * (len(states) // 2) + ["tanh"] * (len(states) % 2),
        },
        "permutations_number": n_permutations,
        "permute_layers": [0, 3],
        "permutations_dct": {"layer_0": [[1, 0], [0, 1]], "layer_3": [[0, 1, 2]]},
        "permutations_index": [(0, 0), (1, 0)],
        "permutations_dct_lst": [{"layer_0": [1, 0]}],
        "checkpoint_base": states[0],
        "permutation_index_list": [random.Random(i).sample(indices, len(indices)) for i in range(n_permutations)],
        "add_noise_input": 0.0,
        "add_noise_output": [False],
        "num_threads": 4,
        "view_1_canonical": False,
        "map_2_canon_metric": "absolute",
    }


def write(file: Any, parts: Parts, *, package: str = "", of: str = "SimCLRDataset", **options: Any) -> Any:
    with authors_classes(package) as classes:
        content = {}
        for part, attributes in parts.items():
            augmentation = classes["RandomErasingVector"]()
            augmentation.p, augmentation.scale, augmentation.value, augmentation.mode = 0.5, (0.02, 0.33), 0, "block"
            content[part] = classes[of]()
            vars(content[part]).update(attributes | {"erase_augment": augmentation})
        torch.save(content, file, **options)
    return file


def sample(
    layout: WeightLayout, *, n_models: int = 2, epochs: list[int] | None = None, **options: Any
) -> tuple[Parts, dict[zoo_files.State, np.ndarray]]:
    """Three datasets, and the weight vector of each of their states as torch joins it."""
    epochs = epochs or [1, 5, 10]
    parts, expected = {}, {}
    for i, part in enumerate(SPLITS):
        states = states_of(n_models, epochs, layout, seed=i)
        parts[part] = dataset(part, states, n_models, epochs, **options)
        for path, epoch, state in zip(parts[part]["paths"], parts[part]["epochs"], states, strict=True):
            expected[path.name, epoch] = zoo_files.vector(state)
    return parts, expected


CNN = WeightLayout.from_architecture("cnn_s")


@pytest.mark.parametrize("package", ["", "ghrp."])
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_file_of_vectors(tmp_path: Path, package: str, protocol: int) -> None:
    """Weights, layout, split and properties of a file in the form of 2021, and under the package's name of 2022."""
    parts, expected = sample(CNN)
    path = write(tmp_path / "dataset_21_mnist_seed.pt", parts, package=package, pickle_protocol=protocol)
    contents = read_foreign(path)
    zoo_files.assert_weights(contents, expected)
    assert contents.layout == CNN
    assert contents.name == "dataset_21_mnist_seed"
    table = contents.properties.set_index(["model", "epoch"])
    for part, split in SPLITS.items():
        for i, (trial, epoch) in enumerate(zip(parts[part]["paths"], parts[part]["epochs"], strict=True)):
            row = table.loc[(trial.name, epoch)]
            assert (row["split_published"], row["test_acc"]) == (split, parts[part]["properties"]["test_acc"][i])
            assert row["activation"] == parts[part]["properties"]["model::nlin"][i]
            assert row["ggap"] == parts[part]["properties"]["ggap"][i]
    assert len(load_zoo(path, subset="train").data) == 6


def test_perceptrons_without_biases(tmp_path: Path) -> None:
    """The tetris zoos: two dense layers, no biases, 100 weights; layers are those that the file names."""
    layout = WeightLayout.from_shapes([("module_list.0.weight", (5, 16)), ("module_list.2.weight", (4, 5))])
    layers = [(0, "fc"), (2, "fc")]
    for with_biases in (True, False):
        parts, expected = sample(layout, layers=layers, with_biases=with_biases)
        contents = read_foreign(write(tmp_path / "dataset_11_tetris_seed.pt", parts))
        zoo_files.assert_weights(contents, expected)
        assert contents.layout == layout
        assert contents.layout.n_weights == 100


def test_vectors_that_leave_biases_out(tmp_path: Path) -> None:
    """Where the authors left biases out of the vectors, the layout has none, although the networks do."""
    parts, _ = sample(CNN, with_biases=False)
    contents = read_foreign(write(tmp_path / "zoo.pt", parts))
    assert {tensor.role for tensor in contents.layout.tensors} == {"weight"}
    assert [t.shape for t in contents.layout.tensors] == [t.shape for t in CNN.tensors if t.role == "weight"]
    assert np.array_equal(contents.weights[0], parts["trainset"]["data_in"][0].numpy())


def test_vectors_that_nobody_can_explain(tmp_path: Path) -> None:
    """Vectors of another length than the named layers have are refused, not guessed at."""
    parts, _ = sample(CNN)
    for attributes in parts.values():
        attributes["layer_lst"] = LAYERS[:-1]
    with pytest.raises(ZooFormatError, match="vectors of 2464 weights, but the layers that it names have 2254"):
        read_foreign(write(tmp_path / "zoo.pt", parts))


def test_two_parts_and_no_properties(tmp_path: Path) -> None:
    """Some datasets have no validation part, and some were told to read no properties."""
    parts, expected = sample(CNN)
    del parts["valset"]
    for attributes in parts.values():
        attributes["properties"] = None
    contents = read_foreign(write(tmp_path / "zoo.pt", parts))
    zoo_files.assert_weights(contents, {state: row for state, row in expected.items() if "valset" not in state[0]})
    assert list(contents.properties) == ["model", "epoch", "split_published"]
    assert set(contents.properties["split_published"]) == {"train", "test"}
    assert list(contents.properties["split_published"].cat.categories) == ["train", "val", "test"]


def test_whole_numbers_in_long_lists(tmp_path: Path) -> None:
    """Epochs and other whole numbers of more than a few samples are read as they are."""
    epochs = list(range(0, 400, 3))
    small = WeightLayout.from_shapes([("module_list.0.weight", (2, 3))])
    parts, expected = sample(small, epochs=epochs, layers=[(0, "fc")])
    zoo_files.assert_weights(read_foreign(write(tmp_path / "zoo.pt", parts)), expected)


@given(
    st.lists(
        st.one_of(st.integers(0, 300), st.integers(-(2**31), 2**31 - 1), st.integers(), st.just("e")), max_size=300
    )
)
def test_lists_of_integers_are_what_pickle_says(values: list[Any]) -> None:
    """Integers of every size, alone, between other things, and in tuples and dictionaries."""
    content: dict[str, Any] = {"a": values, "b": [values, values * 5], "c": tuple(values), "d": {v: v for v in values}}
    found = load_pickle(memoryview(pickle.dumps(content, 2)))
    assert unpacked(found["a"]) == values
    assert [unpacked(inner) for inner in found["b"]] == content["b"]
    assert found["c"] == content["c"]
    assert dict(found["d"]) == content["d"]


def test_permutations_are_not_read(tmp_path: Path) -> None:
    """The lists of permutations, most of a file of 2021, take no memory."""
    parts, expected = sample(CNN)
    for attributes in parts.values():
        one = list(range(CNN.n_weights))
        attributes["permutation_index_list"] = [one[i:] + one[:i] for i in range(400)]
    path = write(tmp_path / "zoo.pt", parts)
    with zipfile.ZipFile(path) as archive:
        n_bytes = archive.getinfo("zoo/data.pkl").file_size
    assert n_bytes > 8_000_000
    read_foreign(path)
    tracemalloc.start()
    contents = read_foreign(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    zoo_files.assert_weights(contents, expected)
    assert peak < n_bytes / 4


def test_numbers_where_states_should_be(tmp_path: Path) -> None:
    """Samples that are numbers are damage, however many follow each other."""
    parts, _ = sample(CNN, epochs=list(range(50)))
    parts["valset"]["data_in"] = list(range(100))
    with pytest.raises(ZooFormatError, match="a sample is neither a state_dict nor a weight vector"):
        read_foreign(write(tmp_path / "zoo.pt", parts))


def test_classes_of_other_files_are_refused(tmp_path: Path) -> None:
    """The authors' packing of the Small CNN Zoo is another class, which needs pandas: refused by name."""
    parts, _ = sample(CNN)
    path = write(tmp_path / "zoo.pt", parts, of="GoogleDatasetSimCLR")
    with pytest.raises(UnsafeFileError, match="checkpoints_to_datasets.dataset_google_simclr.GoogleDatasetSimCLR"):
        read_foreign(path)


# -- in archives -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archived() -> tuple[zoo_files.Members, dict[str, dict[zoo_files.State, np.ndarray]]]:
    """What the archive of 2022 holds: a folder a zoo, with the dataset beside configurations and an autoencoder."""
    members, expected = {}, {}
    for name, epochs in (("mnist", [1, 2]), ("svhn", [3, 4, 5])):
        parts, expected[name] = sample(CNN, epochs=epochs)
        members[f"hyper_representations/{name}/config_ae.json"] = b"{}"
        members[f"hyper_representations/{name}/checkpoint_ae.pt"] = zoo_files.torch_bytes({"a": torch.zeros(3)})
        members[f"hyper_representations/{name}/dataset.pt"] = write(io.BytesIO(), parts, package="ghrp.").getvalue()
    return members, expected


@pytest.mark.parametrize("form", ["folder", "stored zip", "zip", "tar"])
def test_one_of_several_zoos_in_an_archive(archived: Any, tmp_path: Path, form: str) -> None:
    """The zoo that lies in the named folder is read, and nothing of the others."""
    members, expected = archived
    path = tmp_path / f"hyper_reps.{form.split()[-1]}"
    if form == "folder":
        zoo_files.write_folder(path, members)
    elif form == "tar":
        zoo_files.write_tar(path, members)
    else:
        zoo_files.write_zip(path, members, zipfile.ZIP_STORED if form.startswith("stored") else zipfile.ZIP_DEFLATED)
    for name in ("mnist", "svhn"):
        contents = read_foreign(path, member=f"hyper_representations/{name}")
        zoo_files.assert_weights(contents, expected[name])
        assert contents.name == name
        assert contents.filenames == [str(path)]
    assert detect(path) == "dataset_pt"
    left = {found.name for found in tmp_path.iterdir()}
    assert left == {path.name}, "a file was left beside the archive"


def test_a_folder_has_to_be_named_and_to_exist(archived: Any, tmp_path: Path) -> None:
    """Of several zoos none is taken by guess; the error says what there is."""
    members, _ = archived
    path = zoo_files.write_zip(tmp_path / "hyper_reps.zip", members)
    with pytest.raises(
        ZooFormatError, match=r"several preprocessed files, hyper_representations/mnist/dataset.pt, hyp"
    ):
        read_foreign(path)
    with pytest.raises(ZooFormatError, match=r"no folder 'zoos/stl10'; it has hyper_representations/mnist, hyper_repr"):
        read_foreign(path, member="zoos/stl10")
    one = {name: content for name, content in members.items() if "mnist" in name}
    assert len(read_foreign(zoo_files.write_zip(tmp_path / "one.zip", one)).weights) == 12
    packed = zoo_files.write_tar(tmp_path / "one.tar.gz", one, "w:gz")
    with pytest.raises(ZooFormatError, match=r"mnist/dataset.pt, which cannot be read inside a compressed tar; unpack"):
        read_foreign(packed)


def test_the_published_split_is_that_of_the_file(archived: Any, tmp_path: Path) -> None:
    """Also in an archive, the file's split is the one that subsets are taken by."""
    members, _ = archived
    one = {name: content for name, content in members.items() if "svhn" in name}
    path = zoo_files.write_zip(tmp_path / "one.zip", one)
    for split in ("train", "val", "test"):
        assert len(load_zoo(path, subset=split).data) == 6


def test_an_archive_with_nothing_known(tmp_path: Path) -> None:
    """Images, results and configurations without models: the error says what there is."""
    members = {f"zoos/mnist/{name}": b"PK" for name in ("config_zoo.json", "image_dataset.pt", "zoo_testsplit.pt")}
    path = zoo_files.write_zip(tmp_path / "zoos.zip", members)
    with pytest.raises(ZooFormatError, match=r"zoos.zip: holds zoos/mnist/config_zoo.json, .*, which zoobench cannot"):
        read_foreign(path, member="zoos/mnist")


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_one_of_several_experiments(tmp_path: Path, form: str) -> None:
    """A folder of an archive may hold a raw experiment as well."""
    members = zoo_files.small_experiment()
    both = {f"zoos/{zoo}/{name}": content for zoo in ("mnist", "svhn") for name, content in members.items()}
    path = tmp_path / f"zoos.{form}"
    if form == "folder":
        zoo_files.write_folder(path, both)
    elif form == "zip":
        zoo_files.write_zip(path, both)
    else:
        zoo_files.write_tar(path, both, "w:gz")
    zoo_files.assert_weights(read_foreign(path, member="zoos/svhn"), zoo_files.expected_vectors(members))
    with pytest.raises(ZooFormatError, match="belongs to experiment"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"<html>", "web page"), (b"PK\3\4..", "truncated")]
)
def test_a_damaged_file_in_an_archive(tmp_path: Path, content: bytes, message: str) -> None:
    """The error names the archive and the file in it."""
    members = {"a/dataset.pt": content}
    for path in (
        zoo_files.write_zip(tmp_path / "reps.zip", members),
        zoo_files.write_folder(tmp_path / "reps", members),
    ):
        with pytest.raises(ZooFormatError, match=rf"reps(\.zip)?: (reps/)?a/dataset.pt: .*{message}"):
            read_foreign(path)


def test_a_flipped_bit_in_an_archive(archived: Any, tmp_path: Path) -> None:
    """The archive's own checksum is compared."""
    members, _ = archived
    name = "hyper_representations/mnist/dataset.pt"
    path = zoo_files.write_zip(tmp_path / "reps.zip", {name: members[name]}, zipfile.ZIP_STORED)
    path.write_bytes(zoo_files.flipped_in_zip(path.read_bytes(), name))
    with pytest.raises(ZooFormatError, match="checksum"):
        read_foreign(path)


def test_fetched_by_name(archived: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_home: Path) -> None:
    """The card names archive and folder: its zoo is converted, the other one in the archive is not."""
    members, expected = archived
    path = zoo_files.write_zip(tmp_path / "hyper_reps.zip", members)
    with Loopback() as host:
        monkeypatch.setattr(acquire, "HOSTS", Hosts(host.url("tree") + "/", host.url("api")))
        host.add_record(7529960, {"hyper_reps.zip": path})
        zoo = fetch_zoo("hyper_representations_2022_svhn", n_retries=0)
        before = len(host.log)
        again = fetch_zoo("hyper_representations_2022_svhn", epochs="last")
        assert len(host.log) == before
    states = list(zip(zoo.properties["model"].astype(str), zoo.properties["epoch"], strict=True))
    assert set(states) == set(expected["svhn"])
    assert all(np.array_equal(row, expected["svhn"][state]) for state, row in zip(states, zoo.data, strict=True))
    assert len(again.data) == 6
    assert check_zoo(data_home / "hyper_representations_2022_svhn")["provenance"]["source"] == "preprocessed .pt"
