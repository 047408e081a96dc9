"""Many small files come in parallel, each whole, and those that are here are not asked for."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from loopback import Fault, Loopback
from zoobench.download.checksums import ChecksumLock
from zoobench.download.client import Client
from zoobench.download.many import fetch_many
from zoobench.download.remote import DownloadError, NoSpaceError, RemoteFile

CONTENTS = {f"trial_{i // 3}/checkpoint_{i % 3:06d}": random.Random(i).randbytes(1000 + i) for i in range(60)}


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        for name, content in CONTENTS.items():
            server.add(name, content)
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_retries=2, delay=0.01, n_connections=4) as quick:
        yield quick


def files(host: Loopback, **known: bool) -> list[RemoteFile]:
    return [
        RemoteFile(
            host.url(name),
            name,
            size=len(content) if known.get("size") else None,
            checksum=f"md5:{hashlib.md5(content).hexdigest()}" if known.get("checksum") else None,
        )
        for name, content in CONTENTS.items()
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content, of what a user sees in it."""
    inside = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {k.as_posix(): path.read_bytes() for k, path in inside.items() if not k.parts[0].startswith(".")}


@pytest.mark.parametrize("known", [{}, {"size": True}, {"size": True, "checksum": True}])
def test_all_come_over_few_connections(host: Loopback, client: Client, tmp_path: Path, known: dict[str, bool]) -> None:
    """Every file once, over no more connections than asked for; a second call sends nothing."""
    paths = fetch_many(files(host, **known), tmp_path, client=client, progress=False)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == list(CONTENTS)
    assert contents(tmp_path) == CONTENTS
    assert len(host.requests()) == len(CONTENTS)
    assert 1 < len({request.connection for request in host.requests()}) <= client.n_connections
    assert fetch_many(files(host, **known), tmp_path, client=client, progress=False) == paths
    assert len(host.requests()) == len(CONTENTS)


def test_what_is_here_is_not_transferred_again(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A later call for more brings only what is missing or not whole."""
    fetch_many(files(host)[:50], tmp_path, client=client, progress=False)
    (tmp_path / "trial_0" / "checkpoint_000000").write_bytes(b"half")
    before = len(host.requests())
    fetch_many(files(host, size=True), tmp_path, client=client, progress=False)
    assert contents(tmp_path) == CONTENTS
    asked = {request.path for request in host.requests()[before:]}
    assert asked == {"trial_0/checkpoint_000000", *list(CONTENTS)[50:]}


def test_one_that_fails_leaves_the_others(host: Loopback, client: Client, tmp_path: Path) -> None:
    """The error names it; what had arrived stays, whole, and the next call goes on from there."""
    missing = list(CONTENTS)[30]
    content = host.files.pop(missing)
    with pytest.raises(DownloadError, match=rf"cannot fetch {missing} from .*404"):
        fetch_many(files(host), tmp_path, client=client, progress=False)
    arrived = contents(tmp_path)
    assert 20 < len(arrived) < len(CONTENTS)
    assert arrived.items() <= CONTENTS.items()
    host.add(missing, content)
    before = len(host.requests())
    fetch_many(files(host), tmp_path, client=client, progress=False)
    assert contents(tmp_path) == CONTENTS
    assert len(host.requests()) - before == len(CONTENTS) - len(arrived)


def test_a_pause_that_the_host_asks_for_holds_all_threads(host: Loopback, client: Client, tmp_path: Path) -> None:
    """After a 429 nobody asks until the time has passed, whichever thread was told."""
    slow = list(CONTENTS)[5]
    host.fail(slow, Fault(status=429, headers={"Retry-After": "1"}))
    fetch_many(files(host), tmp_path, client=client, progress=False)
    assert contents(tmp_path) == CONTENTS
    times = sorted(request.time for request in host.requests())
    # What was on its way when the host said so arrives first; then comes silence, and after it all the others.
    pauses = [after - before for before, after in pairwise(times)]
    longest = max(range(len(pauses)), key=pauses.__getitem__)
    assert pauses[longest] > 0.5
    assert len(times) - longest > 20


def test_known_limits_are_kept(host: Loopback, tmp_path: Path) -> None:
    """Where a host answers only so many requests in a time, no more are sent."""
    with Client(n_connections=4, limits={host.address: ((20, 0.4),)}) as client:
        fetch_many(files(host), tmp_path, client=client, progress=False)
    times = sorted(request.time for request in host.requests())
    assert len(times) == 60
    assert times[-1] - times[0] >= 0.75  # 60 requests, 20 in .4 s: two full waits


def test_a_wrong_checksum_is_refused(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A file that is not the published one gets no name, and nothing of it stays."""
    wrong = next(iter(CONTENTS))
    host.add(wrong, bytes(1000))
    with pytest.raises(DownloadError, match=rf"{wrong}.*its md5 is .* was expected"):
        fetch_many(files(host, checksum=True), tmp_path, client=client, progress=False)
    assert wrong not in contents(tmp_path)
    assert list(tmp_path.rglob("*.part")) == []


def test_the_first_download_fixes_the_checksums(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Files without published checksums have to stay what they were, also when they were deleted here."""
    lock = ChecksumLock(tmp_path / "checksums.json")
    fetch_many(files(host), tmp_path / "a", lock=lock, client=client, progress=False)
    noted = {key: seen.sha256 for key, seen in lock.read().items()}
    assert noted == {host.url(name): hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    fetch_many(files(host), tmp_path / "b", lock=lock, client=client, progress=False)
    changed = list(CONTENTS)[7]
    host.add(changed, CONTENTS[changed][::-1])
    with pytest.raises(DownloadError, match=f"{changed} has changed since it was first fetched"):
        fetch_many(files(host), tmp_path / "c", lock=lock, client=client, progress=False)
    assert changed not in contents(tmp_path / "c")


def test_files_of_a_killed_process_get_their_checksum_noted(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A process that was killed had no time to note what it fetched: the next call does, without a request."""
    lock = ChecksumLock(tmp_path / "checksums.json")
    fetch_many(files(host), tmp_path / "a", client=client, progress=False)
    before = len(host.requests())
    fetch_many(files(host), tmp_path / "a", lock=lock, client=client, progress=False)
    assert len(lock.read()) == len(CONTENTS)
    assert len(host.requests()) == before


def test_sources_are_tried_in_their_order(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A file may have several addresses, as a file on a mirror has."""
    both = [[RemoteFile(host.url(f"mirror/{file.name}"), file.name), file] for file in files(host)]
    host.add(f"mirror/{both[3][0].name}", CONTENTS[both[3][0].name])
    fetch_many(both, tmp_path, client=client, progress=False)
    assert contents(tmp_path) == CONTENTS
    assert host.requests(both[3][1].name) == []


def test_files_of_one_address_are_fetched_side_by_side(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Several names of one address come whole, also at the same time, each with a partial file of its own."""
    content = random.Random(0).randbytes(3_000_000)
    host.add("one", content)
    host.fail("one", Fault(hold_after=1_000_000))
    names = [f"copy_{i}/weights" for i in range(4)]
    same = [RemoteFile(host.url("one"), name, size=len(content)) for name in names]
    thread = threading.Timer(0.3, host.release.set)  # others finish while one is held in its midst
    thread.start()
    fetch_many(same, tmp_path, client=client, progress=False)
    thread.join()
    assert contents(tmp_path) == dict.fromkeys(names, content)


def test_what_was_interrupted_is_continued_under_each_name(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Two files of one address, each broken off in its midst: the next call asks for the rest of each."""
    content = random.Random(1).randbytes(3_000_000)
    host.add("one", content)
    same = [RemoteFile(host.url("one"), name, size=len(content)) for name in ("a", "b")]
    for file in same:
        host.fail("one", Fault(drop_after=1_000_000), Fault(status=404))
        with pytest.raises(DownloadError, match=f"cannot fetch {file.name}"):
            fetch_many([file], tmp_path, client=client, progress=False)
    kept = [path.stat().st_size for path in tmp_path.rglob("*.part")]
    assert len(kept) == 2 and min(kept) > 0
    before = len(host.requests())
    fetch_many(same, tmp_path, client=client, progress=False)
    assert contents(tmp_path) == dict.fromkeys(("a", "b"), content)
    rests = host.requests()[before:]
    assert sorted(int(seen.headers["Range"].removeprefix("bytes=").removesuffix("-")) for seen in rests) == sorted(kept)


def test_no_space_is_said_before_the_first_byte(host: Loopback, client: Client, tmp_path: Path) -> None:
    """The sizes together are compared with what the disk has."""
    huge = [RemoteFile(host.url("a"), "a", size=10**18), RemoteFile(host.url("b"), "b", size=10**18)]
    with pytest.raises(NoSpaceError, match=r"cannot fetch 2 files: 2\.00 EB are still to come"):
        fetch_many(huge, tmp_path, client=client, progress=False)
    assert host.requests() == []


def test_progress_has_a_total(
    host: Loopback, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes where all sizes are known, files where not."""
    fetch_many(files(host, size=True), tmp_path / "a", client=client)
    assert "61.8k/61.8k" in capsys.readouterr().err
    fetch_many(files(host), tmp_path / "b", client=client)
    assert "60/60" in capsys.readouterr().err


@pytest.mark.parametrize(("waiting", "lost"), [(0, 1), (1, 0)])
def test_an_error_ends_the_waits_of_other_threads(
    host: Loopback, tmp_path: Path, waiting: int, lost: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """When one file is lost, nobody sits out the pause that another one was told to make; a long one is announced."""
    wanted = files(host, checksum=True)[:4]
    # Only when both have been asked for: the pause holds back every request that has not been sent.
    host.fail(wanted[waiting].name, Fault(status=503, headers={"Retry-After": "3000"}, behind=wanted[lost].name))
    host.add(wanted[lost].name, b"another content")
    host.fail(wanted[lost].name, Fault(hold_after=10))
    errors: list[BaseException] = []

    def run() -> None:
        with Client(n_connections=2) as client:
            try:
                fetch_many(wanted, tmp_path, client=client, progress=False)
            except DownloadError as error:
                errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not (host.requests(wanted[waiting].name) and host.requests(wanted[lost].name)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # it has been told to wait, and does
    host.release.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert "was expected" in str(errors[0])
    assert capsys.readouterr().err.count("zoobench: waiting 3000 s: 127.0.0.1") == 1
