"""Processes that are killed while they fetch, and several that want one zoo: nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zoo_files
from loopback import Fault, Loopback
from published import CARD, CONTENT, assert_same_states, fetch, files_of, outcome, serve_tree, serve_zip, served, start
from zoobench import load_zoo
from zoobench.store import check_zoo

pytestmark = pytest.mark.slow

SIZE = zoo_files.SEED_ZIP.stat().st_size


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server
        server.release.set()


def kill(process: subprocess.Popen[str], when: Callable[[], bool]) -> None:
    """`kill -9`, as soon as something has happened."""
    deadline = time.monotonic() + 300
    while not when():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def a_clean_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **arguments: object) -> dict[str, bytes]:
    """The files of the zoo as they are where nobody is killed."""
    with monkeypatch.context() as patch:
        patch.setenv("ZOOBENCH_DATA", str(tmp_path / "clean"))
        fetch(**arguments)
    return files_of(tmp_path / "clean" / CARD)


def test_four_processes_transfer_one_file(host: Loopback, data_home: Path) -> None:
    """Four want a zoo that is not there: one fetches and converts it, the others wait, all four have it."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(CONTENT, Fault(hold_after=100_000))
    processes = [start(host) for _ in range(4)]
    while not host.requests(CONTENT):
        time.sleep(0.01)
    time.sleep(2.0)  # so that the others come while the first is at it
    host.release.set()
    assert [outcome(process) for process in processes] == ["fetched 160"] * 4
    assert len(host.requests(CONTENT)) == 1
    assert host.sent(CONTENT) == SIZE
    check_zoo(data_home / CARD)


def test_two_processes_that_want_other_epochs(host: Loopback, data_home: Path) -> None:
    """Both parts end up in one zoo, and the notes that they share come once."""
    serve_tree(host, zoo_files.experiment(n_models=3))
    processes = [start(host, epochs=epochs) for epochs in ([0, 1], [1, 10])]
    assert [outcome(process) for process in processes] == ["fetched 6", "fetched 6"]
    before = len(host.log)
    assert sorted(set(fetch(epochs=[0, 1, 10]).properties["epoch"])) == [0, 1, 10]
    assert len(host.log) == before
    assert sum(seen.path.endswith(".json") for seen in host.log) == 6
    assert sum(seen.path.endswith("_000001/checkpoints") for seen in host.log) == 3


def test_killed_during_the_download_of_a_file(
    host: Loopback, data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call asks for the rest alone, and the zoo is byte for byte what it would have been."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(CONTENT, Fault(hold_after=3_000_000))

    def is_there() -> bool:
        return sum(path.stat().st_size for path in data_home.rglob("*.part")) > 2_500_000

    kill(start(host), is_there)
    assert not (data_home / CARD).exists()
    arrived = sum(path.stat().st_size for path in data_home.rglob("*.part"))
    host.log.clear()
    fetch()
    assert [seen.headers["Range"] for seen in host.requests(CONTENT)] == [f"bytes={arrived}-"]
    assert host.sent(CONTENT) == SIZE - arrived
    assert files_of(data_home / CARD) == a_clean_one(tmp_path, monkeypatch)
    assert not (data_home / ".raw" / CARD).exists()


def test_killed_during_the_download_of_single_files(
    host: Loopback, data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many files those that have arrived are not asked for again."""
    serve_tree(host, zoo_files.experiment(n_models=12))
    last = max(path for path in host.files if path.endswith("_000005/checkpoints"))
    host.fail(last, Fault(hold_after=10))

    def is_there() -> bool:
        return len(list(data_home.rglob("checkpoints"))) >= 11

    kill(start(host, epochs=5), is_there)
    arrived = {path.relative_to(data_home).parts[-3] for path in data_home.rglob("checkpoints")}
    assert len(arrived) == 11
    host.log.clear()
    fetch(epochs=5)
    asked = {seen.path.split("/")[-3] for seen in host.log if seen.path.endswith("checkpoints")}
    assert asked == {last.split("/")[-3]}
    assert files_of(data_home / CARD) == a_clean_one(tmp_path, monkeypatch, epochs=5)


def test_killed_during_the_download_of_parts(host: Loopback, data_home: Path) -> None:
    """Of the members of a remote archive, those that have arrived are not asked for again, nor is its directory."""
    serve_zip(host, zoo_files.SEED_ZIP)
    fetch(epochs=1)  # with the directory and the notes

    def is_there() -> bool:
        return len(list(data_home.rglob("checkpoint_000010/checkpoints"))) >= 20

    slowly = "from zoobench import origins\nimport time\nwhole = origins.write_whole\n"
    slowly += "def write(path, content):\n    whole(path, content)\n    time.sleep(0.05)\norigins.write_whole = write"
    kill(start(host, before=slowly, epochs=[1, 10]), is_there)
    arrived = len(list(data_home.rglob("checkpoint_000010/checkpoints")))
    assert arrived < 40
    host.log.clear()
    assert_same_states(fetch(epochs=[1, 10]), load_zoo(zoo_files.SEED_ZIP, epochs=[1, 10]))
    assert host.sent(CONTENT) <= (40 - arrived) * 10_600 + 65_536


#: What a conversion does: reserve room for the weights, write the table, give files their names.
STEPS = ["os.posix_fallocate", "pyarrow.parquet.write_table", "os.replace", "os.fsync"]

PAUSED = """
import os, time
import pyarrow.parquet
from zoobench import acquire
convert = acquire.convert
def pause(*arguments, **options):
    open(os.environ["ZOOBENCH_DATA"] + "/.paused", "w").close()
    time.sleep(100)
def converting(*arguments, **options):
    {what} = pause
    return convert(*arguments, **options)
acquire.convert = converting
"""


@pytest.mark.parametrize("what", STEPS)
def test_killed_during_conversion(
    host: Loopback, data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Wherever it is killed, the next call transfers nothing and finishes; the zoo is byte for byte what it would have
    been, and nothing is left beside it.
    """
    serve_zip(host, zoo_files.SEED_ZIP)
    kill(start(host, before=PAUSED.format(what=what)), (data_home / ".paused").exists)
    (data_home / ".paused").unlink()
    assert not (data_home / CARD / "zoo.json").exists()
    assert len(fetch().data) == 160
    assert host.sent(CONTENT) == SIZE
    found = files_of(data_home / CARD)
    assert sorted(name.partition("-")[0] for name in found) == ["properties", "weights", "zoo.json"]
    assert found == a_clean_one(tmp_path, monkeypatch)
    assert not (data_home / ".raw" / CARD).exists()
    check_zoo(data_home / CARD)


@pytest.mark.parametrize("what", STEPS[::2])
def test_killed_while_epochs_are_added(
    host: Loopback, data_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The zoo is as it was until the new one is whole; then it has both, as if nobody had been killed."""
    serve_tree(host, zoo_files.experiment(n_models=3))
    fetch(epochs=1)
    was = files_of(data_home / CARD)
    kill(start(host, before=PAUSED.format(what=what), epochs=[1, 5]), (data_home / ".paused").exists)
    assert was.items() <= files_of(data_home / CARD).items()
    before = len(host.log)
    assert len(fetch(epochs=1).data) == 3
    assert len(host.log) == before
    fetch(epochs=[1, 5])
    assert not any(seen.path.endswith("checkpoints") for seen in host.log[before:])
    expected = a_clean_one(tmp_path, monkeypatch, epochs=[1, 5])
    found = files_of(data_home / CARD)
    assert {name: content for name, content in found.items() if name != "zoo.json"} == {
        name: content for name, content in expected.items() if name != "zoo.json"
    }
    check_zoo(data_home / CARD)


def test_interrupted_by_ctrl_c(host: Loopback, data_home: Path) -> None:
    """Ctrl-C in the middle of a file keeps what has arrived."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(CONTENT, Fault(hold_after=3_000_000))
    process = start(host)
    while sum(path.stat().st_size for path in data_home.rglob("*.part")) <= 2_500_000:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    process.communicate()
    host.log.clear()
    assert len(fetch().data) == 160
    assert host.sent(CONTENT) < SIZE - 2_500_000
