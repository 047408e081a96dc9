"""The zoo format on disk: whole or not at all, checked before use."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo_samples import sample_contents
from zoobench import ZooFormatError, load_zoo, save_zoo
from zoobench.store import check_zoo, read_zoo, write_zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_zoo(tmp_path / "zoo", sample_contents())


def part(folder: Path, suffix: str) -> Path:
    return next(folder.glob(f"*.{suffix}"))


def rewrite_index(folder: Path, **changes: object) -> None:
    """Change zoo.json as a writer would: with a checksum that fits."""
    from zoobench.store import _checksum

    index = json.loads((folder / "zoo.json").read_text()) | changes
    index["checksum"] = _checksum(index)
    (folder / "zoo.json").write_text(json.dumps(index))


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def assert_same(found, expected) -> None:
    assert np.array_equal(found.weights, expected.weights, equal_nan=True)
    pd.testing.assert_frame_equal(found.properties, expected.properties, check_categorical=False)
    assert found.layout == expected.layout


def test_what_was_written_is_read(folder: Path) -> None:
    """Weights bit for bit, properties with their types, layout, name and provenance come back."""
    expected, found = sample_contents(), read_zoo(folder)
    assert_same(found, expected)
    assert found.name == "sample"
    assert found.provenance == {"source": "a test"}
    assert list(found.properties["model"].cat.categories) == list(expected.properties["model"].cat.categories)
    assert check_zoo(folder)["n_states"] == 60


@pytest.mark.parametrize(
    "values",
    [[True, False] * 30, np.arange(60, dtype=np.int16), pd.array([1, None] * 30, dtype="Int64"), ["a", None] * 30],
    ids=["bool", "int16", "Int64", "text"],
)
def test_a_users_own_property_comes_back(tmp_path: Path, values) -> None:
    """What is written can be read, whatever type a column of the user's has."""
    contents = sample_contents()
    contents.properties["mine"] = values
    found = load_zoo(write_zoo(tmp_path / "zoo", contents), properties=["mine", "test_acc"]).properties["mine"]
    expected = pd.Series(values)
    assert (found.isna() == expected.isna()).all()
    assert list(found.dropna()) == list(expected.dropna())


def test_whole_zoo_is_a_read_only_memory_map(folder: Path) -> None:
    """Nothing is read before it is used, nothing can be overwritten, and neighbouring rows are views."""
    zoo = load_zoo(folder)
    assert isinstance(zoo.data, np.memmap)
    assert not zoo.data.flags.writeable
    assert zoo.data.dtype == np.float32
    epoch = load_zoo(folder, epochs=5).data
    assert isinstance(epoch, np.memmap)
    assert epoch.shape == (20, 2464)


def test_weights_file_is_plain_safetensors(folder: Path) -> None:
    """The safetensors library reads the file that we write."""
    tensors = safetensors.numpy.load_file(part(folder, "safetensors"))
    assert list(tensors) == ["weights"]
    assert np.array_equal(tensors["weights"], sample_contents().weights)


def test_same_zoo_same_bytes(tmp_path: Path) -> None:
    """Writing twice gives the same files, so that a rebuilt zoo can be compared by checksum."""
    folders = [write_zoo(tmp_path / name, sample_contents()) for name in ("a", "b")]
    files = [{f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders]
    assert files[0] == files[1]
    assert {name.split("-")[0] for name in files[0]} == {".lock", "zoo.json", "weights", "properties"}


def test_rows_are_brought_into_epoch_model_order(tmp_path: Path) -> None:
    """Whatever the order of the rows, the stored zoo is the same."""
    contents = sample_contents()
    order = np.random.default_rng(1).permutation(60)
    shuffled = sample_contents()
    shuffled.weights, shuffled.properties = contents.weights[order], contents.properties.iloc[order]
    assert_same(read_zoo(write_zoo(tmp_path / "zoo", shuffled)), contents)


def test_two_states_of_one_model_and_epoch_are_refused(tmp_path: Path) -> None:
    """A row must be told by its model and epoch."""
    contents = sample_contents()
    contents.properties["epoch"] = np.int32(1)
    with pytest.raises(ValueError, match="two states of model 'seed=1' at epoch 1"):
        write_zoo(tmp_path / "zoo", contents)
    assert not (tmp_path / "zoo").exists()


def test_replacing_a_zoo_leaves_only_the_new_one(folder: Path) -> None:
    """A zoo is replaced by another without a trace of the old; a reader's map of the old one stays valid."""
    old = load_zoo(folder)
    first = float(old.data[0, 0])
    write_zoo(folder, sample_contents(5, (1,), seed=2))
    assert load_zoo(folder).data.shape == (5, 2464)
    assert len(list(folder.glob("*-*"))) == 2
    assert float(old.data[0, 0]) == first


def test_a_zoo_can_be_saved_over_itself(folder: Path) -> None:
    """Selecting from a stored zoo and saving the selection to the same folder works, though its weights are mapped."""
    zoo = load_zoo(folder, epochs=[5, 10])
    expected = np.array(zoo.data)
    save_zoo(zoo, folder)
    assert np.array_equal(load_zoo(folder).data, expected)


def test_folders_that_hold_something_else_are_left_alone(tmp_path: Path) -> None:
    """A path that is a file, or a folder with other files, is refused and unchanged."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match="thesis.tex"):
        write_zoo(tmp_path / "mine", sample_contents())
    with pytest.raises(FileExistsError, match="is a file"):
        write_zoo(tmp_path / "mine" / "thesis.tex", sample_contents())
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


DAMAGE = {
    "later version": (lambda f: rewrite_index(f, version=2), "version 2, but this zoobench reads version 1; install"),
    "odd version": (lambda f: rewrite_index(f, version="x"), "version 'x'"),
    "edited index": (lambda f: edit(f / "zoo.json", "sample", "other"), "checksum differs"),
    "no JSON": (lambda f: (f / "zoo.json").write_text("<html>"), "not readable JSON"),
    "other JSON": (lambda f: (f / "zoo.json").write_text("[]"), "does not describe a zoo"),
    "missing weights": (lambda f: part(f, "safetensors").unlink(), "lacks weights-"),
    "missing table": (lambda f: part(f, "parquet").unlink(), "lacks properties-"),
    "short weights": (lambda f: os.truncate(part(f, "safetensors"), 1000), "has 1000 bytes, but"),
    "empty table": (lambda f: os.truncate(part(f, "parquet"), 0), "has 0 bytes, but"),
    "wrong n_states": (lambda f: rewrite_index(f, n_states=59), "was expected"),
    "wrong n_weights": (lambda f: rewrite_index(f, n_weights=2463), "was expected"),
    "wrong layout": (lambda f: rewrite_index(f, layout={"tensors": [["a.weight", [3], "norm"]]}), "layout of 3"),
    "broken layout": (lambda f: rewrite_index(f, layout={"tensors": [["a"]]}), "not a weight layout"),
    "escape": (
        lambda f: rewrite_index(f, files={"weights": {"name": "../x", "size": 1, "sha256": ""}}),
        "names no valid weights file",
    ),
    "no files": (lambda f: rewrite_index(f, files={}), "names no valid weights file"),
    "no title": (lambda f: rewrite_index(f, card={"licence": "x"}), "lacks a valid 'card: title'"),
    "odd columns": (lambda f: rewrite_index(f, properties={"model": 3}), "lacks a valid 'properties'"),
    "odd size": (lambda f: rewrite_index(f, n_states=True), "lacks a valid 'n_states'"),
    "no name": (lambda f: rewrite_index(f, name=None), "lacks a valid 'name'"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_before_anything_is_used(folder: Path, damage: str) -> None:
    """A damaged zoo folder gives one sentence that says what is wrong and how to mend it."""
    apply, message = DAMAGE[damage]
    apply(folder)
    with pytest.raises(ZooFormatError, match=message) as caught:
        load_zoo(folder)
    assert str(folder) in str(caught.value)


def test_changed_bytes_are_found(folder: Path) -> None:
    """One flipped bit in the weights is found on demand, one in the property table always."""
    flip(part(folder, "safetensors"), 1234)
    load_zoo(folder)
    with pytest.raises(ZooFormatError, match="has changed since it was written: its sha256 is"):
        check_zoo(folder)
    with pytest.raises(ZooFormatError, match="has changed"):
        load_zoo(folder, verify=True)
    flip(part(folder, "safetensors"), 1234)
    check_zoo(folder)
    flip(part(folder, "parquet"), 99)
    with pytest.raises(ZooFormatError, match="has changed"):
        load_zoo(folder)


def flip(path: Path, position: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= mask
    path.write_bytes(data)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    name=st.sampled_from(["zoo.json", "weights", "properties"]),
    position=st.integers(0, 10**9),
    mask=st.integers(1, 255),
    cut=st.booleans(),
)
def test_any_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, name: str, position: int, mask: int, cut: bool
) -> None:
    """A byte flipped or a file cut anywhere: with hashes checked, a ZooFormatError or exactly what was written."""
    folder = tmp_path_factory.mktemp("fuzz") / "zoo"
    expected = sample_contents(3, (1, 2))
    write_zoo(folder, expected)
    path = next(folder.glob(f"{name}*"))
    if cut:
        os.truncate(path, position % path.stat().st_size)
    else:
        flip(path, position, mask)
    try:
        zoo = load_zoo(folder, verify=True)
    except ZooFormatError:
        return
    finally:
        shutil.rmtree(folder)
    assert np.array_equal(zoo.data, expected.weights)


def _rewrite(folder: str, seed: int) -> None:
    for _ in range(4):
        write_zoo(folder, sample_contents(4, (1,), seed=seed))


def test_readers_and_writers_may_meet(tmp_path: Path) -> None:
    """While two processes replace a zoo again and again, every reader gets one of the two, whole."""
    folder = tmp_path / "zoo"
    write_zoo(folder, sample_contents(4, (1,), seed=1))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_rewrite, args=(str(folder), seed)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    whole = [sample_contents(4, (1,), seed=seed).weights for seed in (1, 2)]
    reads = 0
    while any(writer.is_alive() for writer in writers):
        found = read_zoo(folder).weights
        assert any(np.array_equal(found, each) for each in whole)
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert reads > 0
    check_zoo(folder)


KILLED_WRITER = """
import sys, numpy as np
from zoo_samples import sample_contents
from zoobench import weightfile, store
weightfile.BLOCK_BYTES = 1 << 12
store.write_zoo(sys.argv[1], sample_contents(seed=7))
print("ready", flush=True)
for seed in range(8, 1000):
    store.write_zoo(sys.argv[1], sample_contents(300, seed=seed))
"""


def test_a_killed_writer_leaves_a_whole_zoo(tmp_path: Path) -> None:
    """kill -9 in the middle of writing: the zoo is whole, and the next writer clears up."""
    folder = tmp_path / "zoo"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED_WRITER, str(folder)], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 60
    while not list(folder.glob(".writing-*/weights")) and time.monotonic() < deadline:
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    check_zoo(folder)
    write_zoo(folder, sample_contents(2, (1,)))
    assert not list(folder.glob(".writing-*"))


def test_disk_full_leaves_the_old_zoo(folder: Path) -> None:
    """Where the disk is full, the error is the system's own and the old zoo is still whole."""
    script = (
        "import resource, sys; from zoo_samples import sample_contents; from zoobench.store import write_zoo\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    write_zoo(sys.argv[1], sample_contents(seed=3))\n"
        "except OSError as error:\n    print(type(error).__name__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "OSError"
    assert_same(read_zoo(folder), sample_contents())
    assert not list(folder.glob(".writing-*"))


def test_states_with_nan_are_stored_and_left_out_on_reading(tmp_path: Path) -> None:
    """NaN and infinite weights are kept on disk; reading drops them by default and says how many, once."""
    contents = sample_contents()
    contents.weights[3, 7], contents.weights[9, 0] = np.nan, -np.inf
    folder = write_zoo(tmp_path / "zoo", contents)
    assert_same(read_zoo(folder), contents)
    with pytest.warns(UserWarning, match="states left out: 2 with NaN or infinite weights") as caught:
        assert len(load_zoo(folder).data) == 58
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(
        UserWarning, match="kept, as asked: 2 with NaN or infinite weights .the first is seed=4 at epoch 0"
    ):
        assert len(load_zoo(folder, drop_nan=False).data) == 60
    check_zoo(folder)


def test_saving_says_what_the_disk_refused(tmp_path: Path) -> None:
    """Where a folder cannot be made, or has no room, the error names path, zoo and remedy; no half zoo is left."""
    (tmp_path / "file").write_text("in the way")
    zoo = load_zoo(write_zoo(tmp_path / "zoo", sample_contents()))
    with pytest.raises(NotADirectoryError, match=r"cannot write zoo .*choose another folder.*file/below"):
        save_zoo(zoo, tmp_path / "file" / "below")
    script = (
        "import resource, signal, sys; from zoobench import load_zoo, save_zoo\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "zoo = load_zoo(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    save_zoo(zoo, sys.argv[2])\n"
        "except OSError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "zoo"), str(tmp_path / "new")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot write zoo" in done.stdout
    assert "make room" in done.stdout
    assert not (tmp_path / "new").exists()
