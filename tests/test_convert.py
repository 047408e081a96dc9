"""Conversion of foreign zoos: through a file, atomic, and the same bytes whatever happened on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zoo_files
from zoobench import ZooFormatError, load_zoo, save_zoo
from zoobench.convert import convert
from zoobench.readers import read_foreign
from zoobench.readers.room import DiskRoom
from zoobench.store import check_zoo


def files_of(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if not f.name.endswith(".lock")}


@pytest.fixture(scope="module")
def members() -> zoo_files.Members:
    return zoo_files.experiment(n_models=4)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz", "folder"])
def test_weights_on_disk_are_those_in_memory(members: zoo_files.Members, tmp_path: Path, form: str) -> None:
    """Reading into a file gives what reading into memory gives, also where the number of rows is not known before."""
    source = tmp_path / f"zoo.{form}"
    if form == "zip":
        zoo_files.write_zip(source, members)
    elif form == "folder":
        source = zoo_files.write_folder(source, members)
    else:
        zoo_files.write_tar(source, members, mode="w:gz" if form == "tar.gz" else "w")
    expected = read_foreign(source)
    found = read_foreign(source, room=DiskRoom(tmp_path / "room"))
    assert isinstance(found.weights, np.memmap)
    assert np.array_equal(found.weights, expected.weights)
    assert (tmp_path / "room").stat().st_size == expected.weights.nbytes


def test_converted_is_what_loading_and_saving_gives(data_dir: Path, tmp_path: Path) -> None:
    """One step through a file, or two through memory: the same states, and nothing else in the folder."""
    source = data_dir / "dataset_digits_seed.pt"
    convert(source, tmp_path / "one")
    save_zoo(load_zoo(source, drop_nan=False), tmp_path / "two")
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert {name: content for name, content in one.items() if name != "zoo.json"} == {
        name: content for name, content in two.items() if name != "zoo.json"
    }
    assert sorted(name.partition("-")[0] for name in one) == ["properties", "weights", "zoo.json"]


def test_epochs_that_are_added_give_the_whole_zoo(members: zoo_files.Members, tmp_path: Path) -> None:
    """Epoch by epoch, in any order and with one asked for twice, or all at once: the same states."""
    source = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    for epochs in ((10,), (0, 5), (5, 1)):
        convert(source, tmp_path / "parts", epochs=epochs, add=True)
    convert(source, tmp_path / "whole")
    parts, whole = load_zoo(tmp_path / "parts"), load_zoo(tmp_path / "whole")
    assert np.array_equal(parts.data, whole.data)
    assert parts.properties.astype(str).equals(whole.properties.astype(str))
    assert np.array_equal(parts.groups, whole.groups)


def test_a_damaged_source_leaves_nothing(tmp_path: Path) -> None:
    """No folder where there was none, and an old zoo as it was."""
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK\x03\x04 and nothing else")
    with pytest.raises(ZooFormatError):
        convert(bad, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    good = zoo_files.write_zip(tmp_path / "good.zip", zoo_files.small_experiment())
    convert(good, tmp_path / "old")
    before = files_of(tmp_path / "old")
    with pytest.raises(ZooFormatError):
        convert(bad, tmp_path / "old", add=True)
    assert files_of(tmp_path / "old") == before


KILLED = """
import sys, time
from zoobench import convert, store
def slowly(*arguments, write=store.write_weights):
    print("writing", flush=True)
    time.sleep(60)
store.write_weights = slowly
convert.convert(sys.argv[1], sys.argv[2])
"""


def test_a_killed_conversion_is_finished_by_the_next(members: zoo_files.Members, tmp_path: Path) -> None:
    """kill -9 half-way: no zoo yet; the next call makes it, equal byte for byte to one that nobody killed."""
    source = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source), str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "killed" / "zoo.json").exists()
    convert(source, tmp_path / "killed")
    convert(source, tmp_path / "whole")
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    check_zoo(tmp_path / "killed")


MEASURED = """
import sys
from zoobench.convert import convert
convert(sys.argv[1], sys.argv[2])
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("RssAnon")))
"""


def test_weights_do_not_pass_through_memory(members: zoo_files.Members, tmp_path: Path) -> None:
    """Sixty-four times the models, with 10 MB of weights, take less than that more of memory."""
    trials = {name: content for name, content in members.items() if name.count("/") > 1}
    sizes = []
    for copies in (1, 64):
        more = {
            name.replace("/NN_", f"/NN_{copy:03d}_", 1): content
            for copy in range(copies)
            for name, content in trials.items()
        }
        source = zoo_files.write_zip(tmp_path / f"{copies}.zip", more)
        command = [sys.executable, "-c", MEASURED, str(source), str(tmp_path / str(copies))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        sizes.append(1024 * int(done.stdout))
    n_bytes = load_zoo(tmp_path / "64").data.nbytes
    assert n_bytes > 10e6
    assert sizes[1] - sizes[0] < n_bytes
