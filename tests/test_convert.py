"""Conversion of foreign zoos: through a file, atomic, and the same bytes whatever happened on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zoo_files
from zoobench import ZooFormatError, load_zoo, save_zoo
from zoobench.contents import ZooContents
from zoobench.convert import convert
from zoobench.readers import read_foreign
from zoobench.readers.journal import Journal
from zoobench.readers.room import DiskRoom
from zoobench.store import check_zoo
from zoobench.weightfile import Seal


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
from zoobench import convert, weightfile
def slowly(*arguments):
    print("writing", flush=True)
    time.sleep(60)
weightfile.Seal.finish = slowly
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


RESUMED = """
import sys
from zoobench import convert
from zoobench.readers import checkpoint
convert.JOURNAL_BYTES = 30_000  # every four states of ten kilobytes
read, n_read = checkpoint.CheckpointReader.read, 0
def counted(self, content):
    global n_read
    n_read += 1
    if n_read == int(sys.argv[3]):
        print("here", flush=True)
        sys.stdin.read()
    return read(self, content)
checkpoint.CheckpointReader.read = counted
convert.convert(sys.argv[1], sys.argv[2])
print(n_read)
"""


def converted_until(source: Path, out: Path, n_read: int) -> int:
    """Convert in a process of its own, killed at that checkpoint if there are so many; how many it read if not."""
    command = [sys.executable, "-c", RESUMED, str(source), str(out), str(n_read)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said == "here":
            process.kill()
    return 0 if said == "here" else int(said)


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_a_killed_conversion_goes_on_where_it_was(members: zoo_files.Members, tmp_path: Path, form: str) -> None:
    """What the journal notes is not read again, but for the first checkpoint; the bytes are those of one go."""
    source = tmp_path / f"zoo.{form}"
    if form == "folder":
        source = zoo_files.write_folder(source, members)
    else:
        (zoo_files.write_zip if form == "zip" else zoo_files.write_tar)(source, members)
    convert(source, tmp_path / "whole")
    n_states = len(load_zoo(tmp_path / "whole").data)
    out = tmp_path / "killed"
    assert converted_until(source, out, 10) == 0
    assert not (out / "zoo.json").exists()
    # Nine were written, of which eight were noted; the first is read again to see whether it is the same.
    assert converted_until(source, out, n_states + 1) == n_states - 8 + 1
    assert files_of(out) == files_of(tmp_path / "whole")
    check_zoo(out)


def test_a_journal_of_another_source_counts_for_nothing(members: zoo_files.Members, tmp_path: Path) -> None:
    """A source that was replaced between two attempts is read anew."""
    source = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    out = tmp_path / "out"
    assert converted_until(source, out, 10) == 0
    zoo_files.write_zip(source, {name.replace("/NN_", "/MM_"): content for name, content in members.items()})
    convert(source, out)
    convert(source, tmp_path / "whole")
    assert files_of(out) == files_of(tmp_path / "whole")


def test_an_interrupted_conversion_keeps_what_it_has(
    members: zoo_files.Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C leaves journal and weights to the next call, and any other failure leaves nothing."""
    monkeypatch.setattr("zoobench.convert.JOURNAL_BYTES", 30_000)
    source = zoo_files.write_zip(tmp_path / "zoo.zip", members)

    def failing(error: BaseException) -> Callable[[ZooContents], ZooContents]:
        def finish(contents: ZooContents) -> ZooContents:
            raise error

        return finish

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "out", finish=failing(KeyboardInterrupt()))
    assert (tmp_path / "out" / ".converting.journal").exists()
    assert not (tmp_path / "out" / "zoo.json").exists()
    with pytest.raises(ZooFormatError, match="no good"):
        convert(source, tmp_path / "out", finish=failing(ZooFormatError("no good")))
    assert [file.name for file in (tmp_path / "out").glob(".converting*") if file.suffix != ".lock"] == []
    with pytest.raises(ZooFormatError, match="no good"):
        convert(source, tmp_path / "new", finish=failing(ZooFormatError("no good")))
    assert not (tmp_path / "new").exists()
    convert(source, tmp_path / "out")
    check_zoo(tmp_path / "out")


@settings(max_examples=30)
@given(cut=st.integers(0, 400), every=st.integers(1, 40_000))
def test_a_torn_journal_is_no_danger(cut: int, every: int) -> None:
    """Whatever a power failure leaves of the journal, what is read by its help is what the source holds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = zoo_files.write_zip(folder / "zoo.zip", zoo_files.small_experiment())
        expected = read_foreign(source)
        for _ in range(3):
            journal = Journal(folder / "journal", source, every=every)
            found = read_foreign(source, room=DiskRoom(folder / "weights", journal=journal))
            assert np.array_equal(found.weights, expected.weights)
            assert found.properties.equals(expected.properties)
            if (folder / "journal").exists():
                content = (folder / "journal").read_bytes()
                (folder / "journal").write_bytes(content[: max(0, len(content) - cut)])


def test_checkpoints_that_changed_between_two_attempts_are_read_again(
    members: zoo_files.Members, tmp_path: Path
) -> None:
    """A folder does not tell that a file in it has changed, but the file does: what is read is what is there now."""
    source = zoo_files.write_folder(tmp_path / "zoo", members)

    def reading() -> DiskRoom:
        return DiskRoom(tmp_path / "weights", journal=Journal(tmp_path / "journal", source, every=1))

    read_foreign(source, room=reading())
    paths = sorted(source.rglob("checkpoints"), key=lambda path: (path.parent.name, path))
    changes: list[tuple[Path, bytes]] = [
        (paths[-1], b"gone"),
        (paths[5], paths[7].read_bytes()),
        (paths[0], paths[3].read_bytes()),
    ]
    for path, content in changes:
        path.write_bytes(content)
        found, expected = read_foreign(source, room=reading()), read_foreign(source)
        assert np.array_equal(found.weights, expected.weights)
        assert found.properties.equals(expected.properties)


def test_whoever_waits_does_not_disturb_who_converts(members: zoo_files.Members, tmp_path: Path) -> None:
    """Ctrl-C on a second conversion that waits for the first leaves the first's files alone."""
    source = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    out = tmp_path / "out"

    def finish(contents: ZooContents) -> ZooContents:
        # Whoever was started in the background ignores Ctrl-C, and so would its children.
        script = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from zoobench.convert import convert; convert(sys.argv[1], sys.argv[2])"
        )
        command = [sys.executable, "-c", script, str(source), str(out)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
            assert second.stderr is not None
            assert "waiting for another process" in second.stderr.readline()
            second.send_signal(signal.SIGINT)
            try:
                assert "KeyboardInterrupt" in second.communicate(timeout=60)[1]
            finally:
                second.kill()
        return contents

    convert(source, out, finish=finish)
    check_zoo(out)


def test_the_checksum_is_computed_behind_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are in the checksum before the last state is read, and a resumed reading is no exception."""
    monkeypatch.setattr("zoobench.weightfile.BLOCK_BYTES", 30_000)
    source = zoo_files.write_zip(tmp_path / "zoo.zip", zoo_files.experiment(n_models=4))
    taken: list[int] = []
    monkeypatch.setattr(Seal, "finish", lambda self, finish=Seal.finish: (taken.append(self.n_taken), finish(self))[1])
    contents = convert(source, tmp_path / "out")
    assert len(contents.weights) - 3 <= taken[0]
    check_zoo(tmp_path / "out")
