"""Preprocessed .pt files: both modes, the published split, and the same numbers as torch reads."""

from __future__ import annotations

import copy
import json
import pathlib
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo_files
from zoo_files import State
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers import detect, read_foreign

Parts = dict[str, dict[str, Any]]
SPLITS = {"trainset": "train", "valset": "val", "testset": "test"}


def expected_vectors(parts: Parts) -> dict[State, np.ndarray]:
    found = {}
    for attributes in parts.values():
        for path, epoch, state in zip(attributes["paths"], attributes["epochs"], attributes["data_in"], strict=True):
            found[path.name, epoch] = zoo_files.vector(state)
    return found


def as_vectors(parts: Parts) -> Parts:
    """The same samples in vector mode."""
    for attributes in parts.values():
        attributes["mode"] = "vector"
        vectors = [torch.from_numpy(zoo_files.vector(state)) for state in attributes["data_in"]]
        attributes["data_in"], attributes["data_out"] = vectors, [vector.clone() for vector in vectors]
    return parts


@pytest.fixture
def parts() -> Parts:
    return zoo_files.small_parts(6)


def test_the_real_file_is_read_bit_for_bit() -> None:
    """Weights, properties and split of the real file are what torch.load gives of it."""
    real = zoo_files.load_preprocessed()
    contents = read_foreign(zoo_files.SEED_PT)
    zoo_files.assert_weights(contents, expected_vectors(real))
    assert contents.layout == WeightLayout.from_architecture("cnn_s")
    assert contents.name == "dataset_digits_seed"
    assert contents.filenames == [str(zoo_files.SEED_PT)]
    assert detect(zoo_files.SEED_PT) == "dataset_pt"
    table = contents.properties
    assert list(table.columns) == ["model", "epoch", "split_published", "test_acc", "ggap"]
    assert [str(dtype) for dtype in table.dtypes] == ["category", "int32", "category", "float64", "float64"]
    rows = {(row["model"], row["epoch"]): row for row in table.to_dict("records")}
    for part, attributes in real.items():
        for i, path in enumerate(attributes["paths"]):
            row = rows[path.name, attributes["epochs"][i]]
            assert row["split_published"] == SPLITS[part]
            assert row["test_acc"] == attributes["properties"]["test_acc"][i]
            assert row["ggap"] == attributes["properties"]["ggap"][i]


def test_models_keep_the_order_of_the_file() -> None:
    """Rows come by epoch, and within it models as they first appear in train, validation and test part."""
    real = zoo_files.load_preprocessed()
    order = list(dict.fromkeys(path.name for part in SPLITS for path in real[part]["paths"]))
    contents = read_foreign(zoo_files.SEED_PT)
    assert list(contents.properties["model"].cat.categories) == order
    states = zoo_files.states_of(contents)
    assert states == sorted(states, key=lambda state: (state[1], order.index(state[0])))
    assert list(contents.properties["split_published"].cat.categories) == ["train", "val", "test"]


def test_the_file_agrees_with_the_raw_experiment() -> None:
    """The authors' own preprocessing of the raw files gives the rows that the raw files give."""
    ours = read_foreign(zoo_files.SEED_PT)
    raw = read_foreign(zoo_files.SEED_ZIP, epochs=[1, 5, 10])
    rows = {state: i for i, state in enumerate(zoo_files.states_of(raw))}
    places = [rows[state] for state in zoo_files.states_of(ours)]
    assert zoo_files.same_bits(ours.weights, raw.weights[places])
    for name in ("test_acc", "ggap"):
        assert np.array_equal(ours.properties[name], raw.properties[name].to_numpy()[places])


def test_hyperparameter_zoos(tmp_path: Path, parts: Parts) -> None:
    """Published keys become canonical ones; dropout mixes whole numbers and floats; -999 is missing, also in ggap."""
    for attributes in parts.values():
        attributes["properties"] |= {
            "model::nlin": ["relu", "tanh", "relu", "gelu", "sigmoid", "tanh"],
            "model::init_type": ["uniform"] * 6,
            "optim::optimizer": ["sgd", "adam"] * 3,
            "model::dropout": [0, 0.5, 0, 0.5, 0.0, 0.3],
            "optim::lr": [1e-3] * 6,
            "optim::wd": [0.1] * 6,
            "train_acc": [-999, 0.5, 0.5, 0.5, -999.0, 0.5],
        }
        attributes["properties"]["ggap"][0] = -999 - attributes["properties"]["test_acc"][0]
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    table = contents.properties.set_index(["model", "epoch"])
    first = parts["trainset"]
    rows = table.loc[[(path.name, epoch) for path, epoch in zip(first["paths"], first["epochs"], strict=True)]]
    assert rows["activation"].tolist() == first["properties"]["model::nlin"]
    assert rows["optimizer"].tolist() == first["properties"]["optim::optimizer"]
    assert rows["dropout"].tolist() == first["properties"]["model::dropout"]
    assert rows["ggap"].isna().tolist() == [True, False, False, False, False, False]
    assert rows["train_acc"].isna().tolist() == [True, False, False, False, True, False]
    assert rows[["lr", "weight_decay"]].iloc[0].tolist() == [1e-3, 0.1]
    assert str(table["dropout"].dtype) == "float64"


@pytest.mark.parametrize("form", ["list", "views", "tensor", "double"])
def test_vector_mode(tmp_path: Path, parts: Parts, form: str) -> None:
    """Vectors, one by one, as parts of a storage or as one tensor, give the same rows and the same layout."""
    expected = expected_vectors(parts)
    vectors = as_vectors(parts)
    for attributes in vectors.values():
        stacked = torch.stack(attributes["data_in"])
        if form == "views":
            attributes["data_in"] = list(torch.cat([stacked, stacked], dim=1)[:, : stacked.shape[1]])
        elif form == "tensor":
            attributes["data_in"] = torch.cat([stacked, stacked], dim=1)[:, : stacked.shape[1]]
        elif form == "double":
            attributes["data_in"] = stacked.double()
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", vectors))
    zoo_files.assert_weights(contents, expected)
    assert contents.layout == WeightLayout.from_architecture("cnn_s")


def test_vectors_of_an_unknown_architecture(tmp_path: Path, parts: Parts) -> None:
    """Vectors of which nobody can tell the layers are one layer."""
    for attributes in as_vectors(parts).values():
        attributes["data_in"] = [vector[:100].clone() for vector in attributes["data_in"]]
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    assert contents.weights.shape == (18, 100)
    assert len(contents.layout.layers) == 1
    assert contents.layout.n_weights == 100


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("variant", ["copies", "plain", "shared names", "same", "same tensors", "parallel", "tied"])
def test_state_dicts_of_every_make(tmp_path: Path, parts: Parts, variant: str, protocol: int) -> None:
    """However the state_dicts of a file relate to each other, the weights are those that torch reads."""
    expected = expected_vectors(parts)
    for attributes in parts.values():
        states = attributes["data_in"]
        if variant == "copies":
            attributes["data_in"] = [copy.deepcopy(states[0]), *states[1:]]
            attributes["data_out"] = [copy.deepcopy(state) for state in states]
        elif variant == "plain":
            attributes["data_in"] = [dict(state) for state in states]
        elif variant == "shared names":
            names = list(states[0])
            attributes["data_in"] = [OrderedDict(zip(names, state.values(), strict=True)) for state in states]
        elif variant == "same":
            attributes["data_in"], attributes["data_out"] = attributes["data_out"], attributes["data_out"]
        elif variant == "same tensors":
            # The pickle meets the tensors in an earlier attribute: those of data_in refer to them.
            earlier = {"earlier": states, **attributes, "data_in": [OrderedDict(state) for state in states]}
            attributes.clear()
            attributes.update(earlier)
        elif variant == "parallel":
            attributes["data_in"] = [OrderedDict((f"module.{k}", v) for k, v in state.items()) for state in states]
        else:
            whole = [torch.from_numpy(zoo_files.vector(state)) for state in states]
            layout = WeightLayout.from_architecture("cnn_s")
            attributes["data_in"] = [{t.name: w[t.slice].reshape(t.shape) for t in layout.tensors} for w in whole]
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts, pickle_protocol=protocol))
    zoo_files.assert_weights(contents, expected)
    assert contents.layout == WeightLayout.from_architecture("cnn_s")


def test_names_are_those_of_the_state(tmp_path: Path, parts: Parts) -> None:
    """States that differ in nothing but names that the pickle remembers from before keep their own."""
    for part, attributes in parts.items():
        names = [f"{part}.{i}" for i in range(3)]
        shapes = [list(state.values())[1:4] for state in attributes["data_in"]]
        attributes["data_in"] = [OrderedDict(zip(names, tensors, strict=True)) for tensors in shapes]
    parts["valset"]["epochs"][3] = 0
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    zoo_files.assert_weights(contents, expected_vectors(parts))
    assert [tensor.name for tensor in contents.layout.tensors] == ["valset.0", "valset.1", "valset.2"]


def test_a_million_digits_do_not_matter(tmp_path: Path, parts: Parts) -> None:
    """Numbers of storages grow from one digit to four while the file goes on: each state gets its own."""
    for attributes in parts.values():
        states = [copy.deepcopy(attributes["data_in"][i % 6]) for i in range(60)]
        for i, state in enumerate(states):
            state["module_list.11.bias"][0] = i
        attributes["data_in"] = states
        attributes["paths"] = [pathlib.PosixPath(f"/zoo/{id(attributes)}_{i}") for i in range(60)]
        attributes["epochs"] = attributes["epochs"] * 10
        attributes["properties"] = {key: values * 10 for key, values in attributes["properties"].items()}
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    zoo_files.assert_weights(contents, expected_vectors(parts))


def test_epochs_and_models_can_be_chosen() -> None:
    """Asked for are epochs, each model's last, and models by name."""
    everything = expected_vectors(zoo_files.load_preprocessed())
    models = list(read_foreign(zoo_files.SEED_PT).properties["model"].cat.categories)
    some = read_foreign(zoo_files.SEED_PT, epochs=[1, 10])
    zoo_files.assert_weights(some, {state: row for state, row in everything.items() if state[1] in (1, 10)})
    last = read_foreign(zoo_files.SEED_PT, epochs="last")
    zoo_files.assert_weights(last, {state: row for state, row in everything.items() if state[1] == 10})
    one = read_foreign(zoo_files.SEED_PT, epochs=(5,), keep_model=lambda name: name == models[3])
    zoo_files.assert_weights(one, {(models[3], 5): everything[models[3], 5]})
    with pytest.raises(ValueError, match=r"no epoch 0, 7; the available epochs are 1, 5, 10"):
        read_foreign(zoo_files.SEED_PT, epochs=[0, 5, 7])
    with pytest.raises(ValueError, match="none of its 40 models is kept"):
        read_foreign(zoo_files.SEED_PT, keep_model=lambda name: False)


def test_the_last_state_of_each_model(tmp_path: Path, parts: Parts) -> None:
    """Models may end at different epochs: each has its own last."""
    for attributes in parts.values():
        for name in ("data_in", "paths", "epochs"):
            del attributes[name][2]
        attributes["properties"] = {key: values[:5] for key, values in attributes["properties"].items()}
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts), epochs="last")
    assert sorted(contents.properties["epoch"]) == [5, 5, 5, 10, 10, 10]


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    """A damaged storage is met only where it is asked for."""
    content = bytearray(zoo_files.SEED_PT.read_bytes())
    with zipfile.ZipFile(zoo_files.SEED_PT) as archive:
        info = archive.getinfo("dataset_digits_seed/data/4")
    content[info.header_offset + 100] ^= 1
    path = tmp_path / "zoo.pt"
    path.write_bytes(bytes(content))
    real = zoo_files.load_preprocessed()
    assert real["trainset"]["epochs"][0] == 1
    assert len(read_foreign(path, epochs=[5, 10]).weights) == 80
    with pytest.raises(ZooFormatError, match="checksum"):
        read_foreign(path, epochs=[1])


def test_models_are_counted_in_paths(tmp_path: Path, parts: Parts) -> None:
    """path_list names also models of which no state is left: they are not models of the zoo."""
    for attributes in parts.values():
        attributes["path_list"] = [*attributes["path_list"], pathlib.PosixPath("/zoo/nothing_left")]
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    assert len(contents.properties["model"].cat.categories) == 6
    text = {part: attributes | {"paths": [str(p) for p in attributes["paths"]]} for part, attributes in parts.items()}
    again = read_foreign(zoo_files.write_preprocessed(tmp_path / "text.pt", text))
    assert again.properties.equals(contents.properties)


def test_an_empty_part(tmp_path: Path, parts: Parts) -> None:
    """A part without samples is no error; a file without any is."""
    for name in ("data_in", "data_out", "paths", "epochs"):
        parts["valset"][name] = []
    parts["valset"]["properties"] = {key: [] for key in parts["valset"]["properties"]}
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    assert set(contents.properties["split_published"]) == {"train", "test"}
    empty = dict.fromkeys(parts, parts["valset"])
    with pytest.raises(ZooFormatError, match="no samples"):
        read_foreign(zoo_files.write_preprocessed(tmp_path / "empty.pt", empty))


def test_a_file_that_was_packed_anew(tmp_path: Path) -> None:
    """Deflated records are inflated."""
    path = tmp_path / "zoo.pt"
    path.write_bytes(zoo_files.repacked(zoo_files.SEED_PT.read_bytes(), {}, zipfile.ZIP_DEFLATED))
    zoo_files.assert_weights(read_foreign(path), expected_vectors(zoo_files.load_preprocessed()))


@pytest.mark.parametrize("name", ["data_in", "paths", "epochs", "test_acc"])
def test_lists_of_different_lengths(tmp_path: Path, parts: Parts, name: str) -> None:
    """A list that is too short is an error that names it."""
    attributes = parts["valset"]
    target = attributes["properties"] if name == "test_acc" else attributes
    target[name] = target[name][:-1]
    with pytest.raises(ZooFormatError, match=r"valset has \d paths, but \d of \w+"):
        read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))


@pytest.mark.parametrize("name", ["data_in", "paths", "properties"])
def test_missing_attributes(tmp_path: Path, parts: Parts, name: str) -> None:
    """A part that lacks what is needed is an error that names it."""
    del parts["testset"][name]
    with pytest.raises(ZooFormatError, match=f"testset lacks {name}"):
        read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))


def test_epochs_from_the_properties(tmp_path: Path, parts: Parts) -> None:
    """Without the list of epochs, training_iteration says them; without both, there is an error."""
    expected = expected_vectors(parts)
    for attributes in parts.values():
        del attributes["epochs"]
    contents = read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))
    zoo_files.assert_weights(contents, expected)
    del parts["valset"]["properties"]["training_iteration"]
    with pytest.raises(ZooFormatError, match="epochs of its valset is missing"):
        read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))


def test_one_architecture_a_zoo(tmp_path: Path, parts: Parts) -> None:
    """Samples of different shapes are an error."""
    parts["valset"]["data_in"][2].popitem()
    with pytest.raises(ZooFormatError, match="one architecture"):
        read_foreign(zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts))


@pytest.mark.parametrize("content", [{}, {"trainset": 1, "valset": 2, "testset": 3}, [1, 2], {"a": torch.zeros(3)}])
def test_other_torch_files(tmp_path: Path, content: Any) -> None:
    """A torch file that is no preprocessed zoo, such as a single checkpoint, is told from one."""
    path = tmp_path / "zoo.pt"
    torch.save(content, path)
    with pytest.raises(ZooFormatError, match="no preprocessed zoo"):
        read_foreign(path)


def test_a_class_that_is_not_the_authors(tmp_path: Path, parts: Parts) -> None:
    """Only the one class that published files need is admitted."""
    path = zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts)
    with zipfile.ZipFile(path) as archive:
        pickle = archive.read("zoo/data.pkl")
    other = pickle.replace(b"dataset_base\nModelDatasetBase", b"dataset_evil\nModelDatasetBase")
    path.write_bytes(zoo_files.repacked(path.read_bytes(), {"data.pkl": other}))
    with pytest.raises(UnsafeFileError, match=r"checkpoints_to_datasets.dataset_evil.ModelDatasetBase"):
        read_foreign(path)


def test_the_layout_is_the_published_index_dict() -> None:
    """The layout of the real file is the index_dict.json that lies beside it."""
    published = json.loads((zoo_files.DATA / "index_dict_small.json").read_text())
    assert read_foreign(zoo_files.SEED_PT).layout.to_index_dict() == published
