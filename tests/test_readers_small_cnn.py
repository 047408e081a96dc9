"""The Small CNN Zoo: its files in every form and order, and weights that compute what TensorFlow's compute."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small_cnn_files as files
import zoo_files
from loopback import Loopback
from zoobench import acquire, fetch_zoo, list_zoos, load_zoo
from zoobench.convert import convert
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.origins import Hosts
from zoobench.readers import detect, read_foreign
from zoobench.readers.room import DiskRoom
from zoobench.readers.small_cnn_tables import read_layout, read_metrics
from zoobench.store import check_zoo

FORMS = ("folder", "zip", "tar", "tar.gz", "tar.xz")
SMALL = WeightLayout.from_architecture("small_cnn")


def tensorflow_forward(vector: np.ndarray, variables: dict[str, tuple[int, ...]], images: np.ndarray) -> np.ndarray:
    """Outputs of a network given as TensorFlow keeps it: images (n, height, width, channels), no padding, stride 2."""
    values, start = {}, 0
    for name, shape in variables.items():
        values[name] = vector[start : start + math.prod(shape)].reshape(shape).astype(np.float64)
        start += math.prod(shape)
    hidden = images.astype(np.float64)
    for name in [name for name in values if "kernel" in name]:
        kernel, bias = values[name], values.get(name.replace("kernel", "bias"), 0.0)
        if kernel.ndim == 4:
            windows = np.lib.stride_tricks.sliding_window_view(hidden, kernel.shape[:2], axis=(1, 2))[:, ::2, ::2]
            hidden = np.tanh(np.einsum("nxyihw,hwio->nxyo", windows, kernel) + bias)
        else:
            pooled = (
                hidden.mean(axis=(1, 2)) if kernel.shape[0] == hidden.shape[-1] else hidden.reshape(len(hidden), -1)
            )
            hidden = pooled @ kernel + bias
    return hidden


def torch_forward(weights: np.ndarray, layout: WeightLayout, images: np.ndarray) -> np.ndarray:
    """The same network from one of our vectors, by torch."""
    hidden = torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2)
    tensors = {t.name: torch.from_numpy(weights[t.slice].reshape(t.shape).astype(np.float64)) for t in layout.tensors}
    for layer in layout.layers:
        weight, bias = tensors[f"{layer.name}.weight"], tensors.get(f"{layer.name}.bias")
        if layer.kind == "conv2d":
            hidden = torch.tanh(torch.nn.functional.conv2d(hidden, weight, bias, stride=2))
        else:
            pooled = hidden.mean(dim=(2, 3)) if weight.shape[1] == hidden.shape[1] else hidden.flatten(1)
            hidden = torch.nn.functional.linear(pooled, weight, bias)
    return hidden.numpy()


def test_networks_compute_what_they_did(tmp_path: Path) -> None:
    """Every column is where it belongs: our tensors in torch give the outputs of the published ones in TensorFlow's."""
    members = files.zoo_members()
    contents = read_foreign(files.write(tmp_path / "mnist", members, "tar.xz"))
    assert contents.layout == SMALL
    published = np.load(io.BytesIO(members["mnist/weights.npy"]))
    table = files.metrics_table()
    images = np.random.default_rng(1).normal(size=(4, 28, 28, 1))
    states = zoo_files.states_of(contents)
    for row in range(len(table)):
        state = (table["modeldir"][row].rpartition("/")[2], table["step"][row])
        ours = torch_forward(contents.weights[states.index(state)], SMALL, images)
        assert np.allclose(ours, tensorflow_forward(published[row], files.VARIABLES, images), atol=1e-9)


@given(st.data())
@settings(max_examples=25)
def test_chains_of_other_layers(data: st.DataObject) -> None:
    """Other convolutions and dense layers, with and without biases, flattened or not, in any order of variables."""
    channels = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    n_out = data.draw(st.integers(2, 4))
    flattened = data.draw(st.booleans())
    side = 12
    groups: list[dict[str, tuple[int, ...]]] = []
    for i, (n_in, n) in enumerate(pairwise(channels)):
        kernel = data.draw(st.integers(1, 3))
        side = (side - kernel) // 2 + 1
        groups.append({f"net/conv_{i}/kernel:0": (kernel, kernel, n_in, n)})
        if data.draw(st.booleans()):
            groups[-1] = {f"net/conv_{i}/bias:0": (n,)} | groups[-1]
    groups.append({"net/out/bias:0": (n_out,), "net/out/kernel:0": (channels[-1] * side * side**flattened, n_out)})
    if not flattened:
        groups[-1]["net/out/kernel:0"] = (channels[-1], n_out)
    variables = {name: shape for group in groups for name, shape in group.items()}
    lines = files.layout_csv(variables).splitlines(keepends=True)
    shuffled = data.draw(st.permutations(lines[1:]))
    order = read_layout(b"".join([lines[0], *shuffled]))
    n_weights = sum(math.prod(shape) for shape in variables.values())
    assert sorted(order.columns.tolist()) == list(range(n_weights))
    rng = np.random.default_rng(0)
    published, images = rng.normal(size=n_weights), rng.normal(size=(2, 12, 12, channels[0]))
    ours = torch_forward(published[order.columns], order.layout, images)
    assert np.allclose(ours, tensorflow_forward(published, variables, images))
    roles = {tensor.name.rpartition(".")[0]: tensor.kind for tensor in order.layout.tensors}
    assert list(roles) == [f"net.conv_{i}" for i in range(len(channels) - 1)] + ["net.out"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_order_gives_the_same(tmp_path: Path, form: str) -> None:
    """Folder, zip and tar, packed or not, the members in any order: the same zoo, in memory and in a file."""
    members = files.zoo_members()
    expected = read_foreign(files.write(tmp_path / "reference", members, "folder"))
    for i, names in enumerate(permutations(members)):
        path = files.write(tmp_path / f"zoo-{i}", {name: members[name] for name in names}, form)
        assert detect(path) == "small_cnn_zoo"
        for room in ({}, {"room": DiskRoom(tmp_path / "room")}):
            contents = read_foreign(path, **room)
            assert zoo_files.same_bits(np.asarray(contents.weights), expected.weights)
            assert contents.properties.equals(expected.properties)
            assert contents.name == "mnist"


@given(
    order=st.permutations(["layout.csv", "metrics.csv.gz", "weights.npy", "README.md", "._weights.npy"]),
    epochs=st.one_of(st.none(), st.just("last"), st.sets(st.sampled_from(files.EPOCHS), min_size=1)),
    kept=st.sets(st.sampled_from(["100", "101", "102", "103"]), min_size=1),
)
@settings(max_examples=30)
def test_what_is_asked_for(tmp_path_factory: pytest.TempPathFactory, order: list, epochs: Any, kept: set) -> None:
    """Some epochs, each model's last, some models: the rows of the whole zoo that are these, whatever comes first."""
    members = files.zoo_members(4) | {"mnist/README.md": b"hello", "mnist/._weights.npy": b"\0\5\26\7"}
    folder = tmp_path_factory.mktemp("zoo")
    whole = read_foreign(files.write(folder / "whole", files.zoo_members(4), "folder"))
    path = files.write(folder / "some", {f"mnist/{name}": members[f"mnist/{name}"] for name in order}, "tar.gz")
    some = read_foreign(path, epochs=epochs, keep_model=lambda name: name in kept, room=DiskRoom(folder / "room"))
    wanted = {86} if epochs == "last" else set(epochs or files.EPOCHS)
    states = zoo_files.states_of(whole)
    rows = [i for i, (model, epoch) in enumerate(states) if model in kept and epoch in wanted]
    assert zoo_files.states_of(some) == [states[row] for row in rows]
    assert zoo_files.same_bits(np.asarray(some.weights), whole.weights[rows])
    assert (folder / "room").stat().st_size == some.weights.nbytes


def test_rows_and_properties(tmp_path: Path) -> None:
    """Rows by epoch and then model; published columns under canonical names, the others under their own."""
    members = files.zoo_members()
    contents = read_foreign(files.write(tmp_path / "mnist", members, "tar.xz"))
    published = files.metrics_table()
    published["model"] = published["modeldir"].str.rpartition("/")[2]
    published = published.sort_values(["step", "model"]).reset_index(drop=True)
    table = contents.properties
    assert list(table["model"].astype(str)) == list(published["model"])
    assert table["epoch"].tolist() == published["step"].tolist()
    assert str(table["epoch"].dtype) == "int32"
    for ours, theirs in {
        "test_acc": "test_accuracy",
        "train_acc": "train_accuracy",
        "test_loss": "test_loss",
        "train_loss": "train_loss",
        "dropout": "config.dropout",
        "lr": "config.learning_rate",
        "weight_decay": "config.l2reg",
        "activation": "config.activation",
        "init": "config.w_init",
        "optimizer": "config.optimizer",
        "b_init": "config.b_init",
        "init_std": "config.init_std",
        "train_fraction": "config.train_fraction",
    }.items():
        assert table[ours].tolist() == published[theirs].tolist(), ours
        assert str(table[ours].dtype) in ("float64", "category")
    assert np.array_equal(table["ggap"], published["train_accuracy"] - published["test_accuracy"])
    # What is the same for all, as the name of the dataset, is no property.
    assert "dataset" not in table
    zoo = load_zoo(tmp_path / "mnist.tar.xz", properties=["test_acc", "train_fraction"], epochs="last")
    assert zoo.target.shape == (3, 2)


def test_properties_of_one_kind_of_value(tmp_path: Path) -> None:
    """Losses that were not finite are missing; a seed is a whole number; a name like 'none' is a name."""
    table = files.metrics_table()
    table["config.random_seed"] = 42
    table["config.w_init"] = "None"
    table["step"] = table["step"].astype(float)
    table.loc[3, "train_loss"] = np.nan
    members = files.zoo_members()
    for index in (True, False):
        members["mnist/metrics.csv.gz"] = gzip.compress(files.csv_bytes(table, index=index))
        found = read_foreign(files.write(tmp_path / f"zoo_{index}", members, "zip")).properties
        assert found["seed"].tolist() == [42] * 27
        assert str(found["seed"].dtype) == "int64"
        assert found["init"].tolist() == ["None"] * 27
        assert found["train_loss"].isna().sum() == 1
        assert np.isnan(found.set_index(["model", "epoch"]).loc[("100", 3), "train_loss"])


def test_models_whose_last_names_are_the_same(tmp_path: Path) -> None:
    """Then the whole path is the model's name."""
    table = files.metrics_table()
    table["modeldir"] = [f"/runs/{path.rpartition('/')[2]}/model/" for path in table["modeldir"]]
    metrics = read_metrics(files.csv_bytes(table))
    assert metrics.models == ["/runs/100/model/", "/runs/101/model/", "/runs/102/model/"]
    table["modeldir"] = "/one"
    with pytest.raises(ZooFormatError, match="two rows of model 'one' at step 0"):
        read_metrics(files.csv_bytes(table))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2"])
def test_floats_of_every_make(tmp_path: Path, dtype: str) -> None:
    """Weights are float32, whatever floats the matrix has, in either version of numpy's format."""
    members = files.zoo_members()
    expected = read_foreign(files.write(tmp_path / "expected", members, "zip")).weights
    matrix = files.published_weights(27).astype(dtype)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, matrix, version=(2, 0))
    for i, content in enumerate((files.npy_bytes(matrix), buffer.getvalue())):
        path = files.write(tmp_path / f"zoo{i}", members | {"mnist/weights.npy": content}, "tar")
        found = read_foreign(path).weights
        assert found.dtype == np.float32
        assert np.allclose(found, expected, atol=1e-3 if dtype == "<f2" else 0)


# -- damage ------------------------------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[bytes], bytes]) -> zoo_files.Members:
    members = files.zoo_members()
    members[f"mnist/{name}"] = change(members[f"mnist/{name}"])
    return members


def table_with(**columns: Any) -> Callable[[bytes], bytes]:
    return lambda _: gzip.compress(files.csv_bytes(files.metrics_table().assign(**columns)))


def other_array(array: Any, **options: Any) -> Callable[[bytes], bytes]:
    return lambda _: files.npy_bytes(array, **options)


def replaced(*pairs: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        for old, new in pairs:
            assert old in raw
            raw = raw.replace(old, new)
        return raw

    return change


def packed(text: bytes) -> Callable[[bytes], bytes]:
    return lambda _: gzip.compress(text)


MATRIX = files.published_weights(27)
SHAPE = b"(27, 4970)"
#: How a file is damaged, and what the error says.
BAD_WEIGHTS = {
    "cut": (lambda raw: raw[:-1000], "has 535888 bytes, but its header says 27 rows"),
    "cut in the header": (lambda raw: raw[:50], "header cannot be read"),
    "too long": (lambda raw: raw + b"more", "536892 bytes, but its header says"),
    "no numpy file": (lambda raw: b"PK" + raw, "header cannot be read"),
    "empty": (lambda raw: b"", "header cannot be read"),
    "newer format": (lambda raw: raw[:6] + b"\3" + raw[7:], "header cannot be read"),
    "lying header": (replaced((SHAPE, b"(9999, 1) ")), "its header says 9999 rows"),
    "huge rows": (replaced((SHAPE, b"(1, 9**9) ")), "header cannot be read"),
    "code in the header": (replaced((SHAPE, b"(exit(),) ")), "header cannot"),
    "integers": (other_array(MATRIX.astype(int)), "int64 of shape .27, 4970.; expected rows of floats"),
    "vector": (other_array(MATRIX[0]), "expected rows of floats, a row a state"),
    "columns first": (other_array(np.asfortranarray(MATRIX)), "in Fortran's order"),
    "no rows": (other_array(MATRIX[:0]), r"has shape \(0, 4970\)"),
    "fewer rows": (other_array(MATRIX[:20]), "has 20 rows of weights, but 27 rows of metrics"),
    "fewer columns": (other_array(MATRIX[:, 1:]), "4969 weights a row, but its layout.csv describes 4970"),
}
BAD_METRICS = {
    "no gzip": (lambda raw: raw[:100], "truncated or damaged"),
    "flipped": (lambda raw: raw[:-6] + bytes([raw[-6] ^ 1]) + raw[-5:], "truncated or damaged"),
    "a web page": (lambda raw: b"<html>\n<p>404", "lacks the column modeldir"),
    "ragged": (packed(b"modeldir,step\n1,2,3,4\n1,2,3,4,5"), "is no table"),
    "no text": (packed(b"\xff\xfe\0\n"), "is no table|lacks the column"),
    "empty table": (packed(b""), "is no table"),
    "no steps": (packed(b"modeldir\nx"), "lacks the column step; it has modeldir"),
    "words": (table_with(test_accuracy="good"), "'good' in the column test_accuracy"),
    "word in the grid": (table_with(**{"config.l2reg": "much"}), "'much' in the column config.l2reg"),
    "half steps": (table_with(step=0.5), "a step that is no whole number"),
    "missing step": (table_with(step=None), "a step that is no whole number"),
    "negative step": (table_with(step=-1), "a step that is no whole number"),
    "endless step": (table_with(step="inf"), "a step that is no whole number"),
    "no model": (table_with(modeldir=None), "a row without modeldir"),
}
BAD_LAYOUT = {
    "a web page": (lambda raw: b"<html>\n404", "no table of varname"),
    "empty": (lambda raw: b"", "names no variables"),
    "short": (lambda raw: raw[: raw.index(b"sequential/dense/k")], "expected a kernel, and at most one bias"),
    "shorter": (lambda raw: raw[: raw.index(b"sequential/dense/b")], "its layout.csv describes 4800"),
    "gap": (replaced((b'd/bias:0,0,16,"(16,)', b'd/bias:0,0,8,"(8,)')), "a gap or an overlap at column 8"),
    "contradiction": (replaced((b"(16, 10)", b"(16, 11)")), "do not fit together"),
    "code": (replaced((b"(16, 10)", b"exit(10)")), "do not fit together"),
    "no number": (replaced((b",4810,", b",many,")), "no table of varname"),
    "other role": (replaced((b"dense/kernel", b"dense/gamma")), "expected a kernel, and at most one bias"),
    "other names": (replaced((b"kernel", b"weights"), (b"bias", b"offset")), "expected a kernel, and at most one bias"),
    "long bias": (replaced((b'0,16,"(16,)"', b'0,8,"(8,)"'), (b",16,160", b",8,160"), (b"3, 3, 1, 16", b"1, 1, 8, 19")),
                  "gives 'sequential/conv2d/bias:0' another length"),
    "three sides": (replaced((b"(3, 3, 1, 16)", b"(9, 1, 16)")), "3 sides; only convolutions"),
}  # fmt: skip
BAD = {
    f"{name}: {case}": (name, change, message)
    for name, cases in (("weights.npy", BAD_WEIGHTS), ("metrics.csv.gz", BAD_METRICS), ("layout.csv", BAD_LAYOUT))
    for case, (change, message) in cases.items()
}


@pytest.mark.parametrize("form", ["tar.xz", "folder"])
@pytest.mark.parametrize("case", BAD)
def test_damage_is_named(tmp_path: Path, case: str, form: str) -> None:
    """What is wrong is said in one sentence that names the file, whatever is wrong."""
    name, change, message = BAD[case]
    path = files.write(tmp_path / "zoo", changed(name, change), form)
    with pytest.raises(ZooFormatError, match=message) as caught:
        read_foreign(path)
    assert str(caught.value).startswith(str(path))
    assert type(caught.value) is ZooFormatError


@pytest.mark.parametrize("form", FORMS)
def test_pickles_in_the_matrix_are_refused(tmp_path: Path, form: str) -> None:
    """A matrix of objects is a pickle, which is not read."""
    path = files.write(
        tmp_path / "zoo", changed("weights.npy", other_array(MATRIX.astype(object), allow_pickle=True)), form
    )
    with pytest.raises(UnsafeFileError, match="mnist/weights.npy: holds a pickle"):
        read_foreign(path)


def test_a_table_that_inflates_without_end(tmp_path: Path) -> None:
    """A small file that inflates to gigabytes is refused before it does."""
    bomb = gzip.compress(b"0" * (1 << 25))
    path = files.write(tmp_path / "zoo", changed("metrics.csv.gz", lambda _: bomb), "folder")
    with pytest.raises(UnsafeFileError, match="metrics.csv.gz: is a decompression bomb"):
        read_foreign(path)


@pytest.mark.parametrize("missing", ["layout.csv", "metrics.csv.gz", "weights.npy"])
@pytest.mark.parametrize("form", FORMS)
def test_a_missing_file(tmp_path: Path, form: str, missing: str) -> None:
    """The error says what is there and what is needed."""
    members = files.zoo_members()
    del members[f"mnist/{missing}"]
    with pytest.raises(ZooFormatError, match=r"expected weights.npy, metrics.csv.gz and layout.csv in one folder"):
        read_foreign(files.write(tmp_path / "zoo", members, form))


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_two_parts_in_one_archive(tmp_path: Path, form: str) -> None:
    """One is read where it is named; without that neither is taken by guess."""
    members = files.zoo_members() | files.zoo_members(2, folder="svhn/")
    path = files.write(tmp_path / "zoo", members, form)
    with pytest.raises(ZooFormatError, match="read one zoo at a time"):
        read_foreign(path)
    assert len(read_foreign(path, member="svhn").weights) == 18
    mixed = {
        ("a/" if "weights" in name else "b/") + name.partition("/")[2]: c for name, c in files.zoo_members().items()
    }
    with pytest.raises(ZooFormatError, match="in one folder"):
        read_foreign(files.write(tmp_path / "mixed", mixed, form))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit_in_a_zip(tmp_path: Path, compression: int) -> None:
    """The zip's checksum of the matrix is compared, although it is never in memory as a whole."""
    path = zoo_files.write_zip(tmp_path / "zoo.zip", files.zoo_members(), compression)
    path.write_bytes(zoo_files.flipped_in_zip(path.read_bytes(), "mnist/weights.npy"))
    with pytest.raises(ZooFormatError, match="mnist/weights.npy: (fails its checksum|is damaged)"):
        read_foreign(path)


def test_a_truncated_archive(tmp_path: Path) -> None:
    """A download that broke off is damage, not a smaller zoo."""
    path = files.write(tmp_path / "zoo", files.zoo_members(), "tar.xz")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ZooFormatError, match="truncated or damaged"):
        read_foreign(path)


@given(
    name=st.sampled_from(["layout.csv", "metrics.csv.gz", "metrics.csv", "weights.npy"]),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=3),
    piece=st.one_of(
        st.binary(max_size=3), st.sampled_from([b",", b"\n", b'"', b"-", b"9" * 30, b"(", b"nan", b"kernel"])
    ),
    n_removed=st.integers(0, 20),
)
@settings(max_examples=80)
def test_damage_of_any_kind(
    tmp_path_factory: pytest.TempPathFactory, name: str, places: list[float], piece: bytes, n_removed: int
) -> None:
    """Bytes that are missing, wrong or too many are one of our errors or other numbers, never a traceback."""
    members = {key.partition("/")[2]: content for key, content in files.zoo_members(2, (0, 1)).items()}
    if name == "metrics.csv":
        members[name] = gzip.decompress(members.pop("metrics.csv.gz"))
    # Of the matrix, its header: no checksum covers the numbers themselves.
    content = members[name]
    for place in places:
        start = int(place * (128 if name == "weights.npy" else len(content)))
        content = content[:start] + piece + content[start + n_removed :]
    path = zoo_files.write_folder(tmp_path_factory.mktemp("zoo"), members | {name: content})
    with contextlib.suppress(ZooFormatError):
        contents = read_foreign(path)
        assert contents.weights.shape == (len(contents.properties), contents.layout.n_weights)


def test_unknown_epochs_and_models(tmp_path: Path) -> None:
    """What there is, is named."""
    path = files.write(tmp_path / "zoo", files.zoo_members(), "tar.xz")
    with pytest.raises(ValueError, match="no epoch 5; the available epochs are 0, 1, 2, 3, 20, 40, 60, 80, 86"):
        read_foreign(path, epochs=[5, 86])
    with pytest.raises(ValueError, match="none of its 3 models is kept; the first is '100'"):
        read_foreign(path, keep_model=lambda name: False)


# -- size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["weights.npy", "layout.csv"])
def test_weights_do_not_pass_through_memory(tmp_path: Path, first: str) -> None:
    """A matrix of 54 MB is read into a file with less than 20 MB of memory, whether the tables come before or after."""
    members = files.zoo_members(300)
    ordered = dict(sorted(members.items(), key=lambda item: not item[0].endswith(first)))
    path = zoo_files.write_tar(tmp_path / "zoo.tar.gz", ordered, "w:gz", compresslevel=1)
    del members, ordered
    tracemalloc.start()
    weights = read_foreign(path, room=DiskRoom(tmp_path / "room")).weights
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert weights.nbytes > 50e6
    assert peak < 20e6


# -- by name -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as server:
        monkeypatch.setattr(acquire, "HOSTS", Hosts(server.url("tree") + "/", server.url("api"), server.url("plain/")))
        yield server


def test_fetched_by_name(host: Loopback, tmp_path: Path, data_home: Path) -> None:
    """The published archive is fetched once, converted, and from then on a memory map."""
    path = files.write(tmp_path / "mnist", files.zoo_members(4), "tar.xz")
    host.add("plain/storage.googleapis.com/gresearch/smallcnnzoo-dataset/mnist.tar.xz", path)
    zoo = fetch_zoo("small_cnn_zoo_mnist", epochs=[20, 86], n_retries=0)
    expected = load_zoo(path, epochs=[20, 86])
    assert np.array_equal(zoo.data, expected.data)
    assert np.array_equal(zoo.target, expected.target)
    assert zoo.layout == SMALL
    assert "CC-BY-4.0" in zoo.DESCR
    assert check_zoo(data_home / "small_cnn_zoo_mnist")["n_states"] == 36
    before = len(host.log)
    assert len(fetch_zoo("small_cnn_zoo_mnist", properties=["train_fraction", "ggap"]).target) == 36
    assert len(host.log) == before
    assert bool(list_zoos(dataset="mnist", cached=True)["name"].isin(["small_cnn_zoo_mnist"]).any())


def test_converting_is_loading_and_saving(tmp_path: Path) -> None:
    """The zoo format keeps every property, the ones without a canonical name included."""
    path = files.write(tmp_path / "mnist", files.zoo_members(), "tar.xz")
    convert(path, tmp_path / "zoo")
    stored, read = load_zoo(tmp_path / "zoo"), load_zoo(path)
    assert np.array_equal(stored.data, read.data)
    pd.testing.assert_frame_equal(stored.properties.astype(str), read.properties.astype(str))
