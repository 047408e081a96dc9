"""One file comes whole, once and unchanged, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import Fault, Loopback
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.mirror import mirrored
from zoobench.download.remote import DownloadError, RemoteFile
from zoobench.download.transfer import CHUNK

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        server.add("zoo.zip", CONTENT)
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_retries=2, delay=0.01) as quick:
        yield quick


def zoo(host: Loopback, **known: Any) -> RemoteFile:
    return RemoteFile(host.url("zoo.zip"), "zoo.zip", **known)


def visible(folder: Path) -> list[str]:
    """What a user sees in a folder."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def partial(folder: Path) -> list[Path]:
    """Files that hold content which is not whole yet."""
    return [path for path in folder.rglob("*") if path.is_file() and (path.suffix == ".part" or "tmp" in path.name)]


# -- once --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [{}, {"size": len(CONTENT), "checksum": MD5}, {"checksum": SHA256}])
def test_a_file_is_transferred_once(host: Loopback, client: Client, tmp_path: Path, known: dict[str, object]) -> None:
    """The first call brings the file under its name, readable like any other; the second sends no request."""
    path = fetch_file(zoo(host, **known), tmp_path / "new", client=client, progress=False)
    assert path == tmp_path / "new" / "zoo.zip"
    assert path.read_bytes() == CONTENT
    (tmp_path / "ordinary").touch()
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode
    assert fetch_file(zoo(host, **known), tmp_path / "new", client=client, progress=False) == path
    assert len(host.requests()) == 1
    assert visible(tmp_path / "new") == ["zoo.zip"]
    assert partial(tmp_path) == []


def test_a_cached_file_is_hashed_again_only_if_it_changed(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Size and date stand for the checksum: only when they differ is the content looked at, and fetched if wrong."""
    path = fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False)
    before = path.stat()
    path.write_bytes(bytes(len(CONTENT)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False).read_bytes()[:9] == bytes(9)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000_000))
    assert fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False).read_bytes() == CONTENT
    assert len(host.requests()) == 2


def test_another_checksum_in_the_card_means_another_file(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A file that was right is looked at again when its published checksum is another than it was."""
    fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False)
    newer = CONTENT[::-1]
    host.add("zoo.zip", newer)
    file = zoo(host, checksum=f"md5:{hashlib.md5(newer).hexdigest()}")
    assert fetch_file(file, tmp_path, client=client, progress=False).read_bytes() == newer


def test_a_file_that_was_put_there_by_hand_is_taken(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Who got the file by other means saves it under its name: it is checked and used, without a request."""
    (tmp_path / "zoo.zip").write_bytes(CONTENT)
    fetch_file(zoo(host, size=len(CONTENT), checksum=MD5), tmp_path, client=client, progress=False)
    assert host.requests() == []


@pytest.mark.parametrize("wrong", [CONTENT[:1000], bytes(len(CONTENT))])
def test_a_wrong_file_under_the_name_is_replaced(
    host: Loopback, client: Client, tmp_path: Path, wrong: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies there and is not the file is fetched anew, and that is said."""
    (tmp_path / "zoo.zip").write_bytes(wrong)
    path = fetch_file(zoo(host, size=len(CONTENT), checksum=MD5), tmp_path, client=client, progress=False)
    assert path.read_bytes() == CONTENT
    assert "fetching it anew" in capsys.readouterr().err


FOUR = """
import sys
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.many import fetch_many
from zoobench.download.remote import RemoteFile
url, folder = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
path = fetch_file(RemoteFile(url + "zoo.zip", "zoo.zip"), folder, progress=False)
small = fetch_many([RemoteFile(f"{url}{i}", f"small/{i}") for i in range(20)], folder, progress=False)
print(path.stat().st_size, sum(path.stat().st_size for path in small))
"""


def test_four_processes_make_one_transfer(host: Loopback, tmp_path: Path) -> None:
    """Of four processes that ask at the same time one fetches, and all have the files."""
    for i in range(20):
        host.add(str(i), bytes(100 + i))
    host.fail("zoo.zip", Fault(hold_after=1000))
    command = [sys.executable, "-c", FOUR, host.url(""), str(tmp_path)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    wait_until(lambda: bool(host.requests("zoo.zip")))
    time.sleep(0.2)  # the others come as far as they can
    host.release.set()
    for child in children:
        out, err = child.communicate(timeout=60)
        assert out == f"{len(CONTENT)} {20 * 100 + 190}\n", err
    assert len(host.requests("zoo.zip")) == 1
    assert len(host.requests()) == 21
    assert host.sent() == len(CONTENT) + 20 * 100 + 190


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("etags", [True, False])
def test_a_dropped_connection_is_continued(host: Loopback, client: Client, tmp_path: Path, etags: bool) -> None:
    """After each drop the rest is asked for, so that little is transferred twice, however often it happens."""
    host.etags = etags
    host.fail("zoo.zip", *(Fault(drop_after=600_000) for _ in range(4)))
    path = fetch_file(zoo(host, checksum=SHA256), tmp_path, client=client, progress=False)
    assert path.read_bytes() == CONTENT
    first, *others = host.requests()
    assert "Range" not in first.headers
    assert len(others) == 4  # more than n_retries: they count anew when something has arrived
    assert all("Range" in request.headers for request in others)
    assert host.sent() <= len(CONTENT) + 4 * CHUNK


def test_the_next_call_continues_what_broke_off(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A call that gave up leaves no file under the name, and what had arrived is not transferred again."""
    host.fail("zoo.zip", Fault(drop_after=4 * CHUNK), *(Fault(drop_after=0) for _ in range(3)))
    with pytest.raises(DownloadError, match="connection broke.*what has arrived is kept"):
        fetch_file(zoo(host), tmp_path, client=client, progress=False)
    assert visible(tmp_path) == []
    assert fetch_file(zoo(host), tmp_path, client=client, progress=False).read_bytes() == CONTENT
    assert host.sent() <= len(CONTENT) + CHUNK
    assert partial(tmp_path) == []


@pytest.mark.parametrize("etags", [True, False])
def test_a_file_that_changed_meanwhile_is_not_glued_together(
    host: Loopback, client: Client, tmp_path: Path, etags: bool
) -> None:
    """If the host has another content by now, by its ETag or its size, all of that is fetched."""
    host.etags = etags
    host.fail("zoo.zip", Fault(drop_after=1_000_000), *(Fault(drop_after=0) for _ in range(2)))
    with pytest.raises(DownloadError):
        fetch_file(zoo(host), tmp_path, client=client, progress=False)
    newer = CONTENT[::-1] if etags else CONTENT[::-1] + b"longer"
    host.add("zoo.zip", newer)
    host.log.clear()
    assert fetch_file(zoo(host), tmp_path, client=client, progress=False).read_bytes() == newer
    assert host.sent() == len(newer) if etags else host.sent() >= len(newer)


def test_a_host_that_sends_another_part_is_not_believed(host: Loopback, client: Client, tmp_path: Path) -> None:
    """What is continued begins where the last attempt stopped, or it is not continued."""
    whole = Fault(
        status=206, headers={"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}, body=CONTENT, times=1
    )
    host.fail("zoo.zip", Fault(drop_after=1_000_000), whole)
    assert fetch_file(zoo(host), tmp_path, client=client, progress=False).read_bytes() == CONTENT


def test_a_host_without_ranges_starts_again(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Where the rest cannot be asked for, the whole is, and the beginning is not doubled."""
    host.ranges = False
    host.fail("zoo.zip", Fault(drop_after=1_000_000))
    assert fetch_file(zoo(host), tmp_path, client=client, progress=False).read_bytes() == CONTENT
    assert [request.status for request in host.requests()] == [200, 200]


def test_a_host_without_ranges_that_always_drops_is_given_up(host: Loopback, client: Client, tmp_path: Path) -> None:
    """Beginning again and again is no progress: the attempts come to an end."""
    host.ranges = False
    host.fail("zoo.zip", Fault(drop_after=1_000_000, times=100))
    with pytest.raises(DownloadError, match="connection broke"):
        fetch_file(zoo(host), tmp_path, client=client, progress=False)
    assert len(host.requests()) <= 2 * (1 + client.n_retries)


ONE = """
import sys
from zoobench.download.files import fetch_file
from zoobench.download.remote import RemoteFile
fetch_file(RemoteFile(sys.argv[1], "zoo.zip", checksum=sys.argv[3]), sys.argv[2])
"""


def test_a_killed_process_loses_nothing(host: Loopback, client: Client, tmp_path: Path) -> None:
    """After kill -9 in the middle, the next call brings the rest: equal bytes, and each transferred once."""
    host.fail("zoo.zip", Fault(hold_after=4 * CHUNK))
    child = subprocess.Popen(
        [sys.executable, "-c", ONE, host.url("zoo.zip"), str(tmp_path), MD5], stderr=subprocess.DEVNULL
    )
    wait_until(lambda: sum(path.stat().st_size for path in partial(tmp_path)) == 4 * CHUNK)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert visible(tmp_path) == []
    path = fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False)
    assert path.read_bytes() == CONTENT
    assert host.sent() == len(CONTENT)
    assert partial(tmp_path) == []


CHECKING = """
import os, signal, sys
from zoobench.download.files import fetch_file
from zoobench.download.remote import RemoteFile
def at_the_check(event, arguments):
    if event == "open" and "work/tmp" in str(arguments[0]) and arguments[1] in ("r", "rb"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(at_the_check)
fetch_file(RemoteFile(sys.argv[1], "zoo.zip", checksum=sys.argv[3]), sys.argv[2])
"""


def test_a_process_killed_while_it_checks_loses_nothing(host: Loopback, client: Client, tmp_path: Path) -> None:
    """When everything has arrived and only the checksum was left, nothing is transferred again, and nothing is left."""
    command = [sys.executable, "-c", CHECKING, host.url("zoo.zip"), str(tmp_path), MD5]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    assert visible(tmp_path) == []
    path = fetch_file(zoo(host, checksum=MD5), tmp_path, client=client, progress=False)
    assert path.read_bytes() == CONTENT
    assert len(host.requests()) == 1
    assert partial(tmp_path) == []


# -- several sources ---------------------------------------------------------------------------------------------------


def test_sources_are_tried_in_their_order(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A source that fails gives way to the next; what one knows of the file holds for all."""
    gone = RemoteFile(host.url("gone.zip"), "zoo.zip", checksum=MD5)
    assert fetch_file([gone, zoo(host)], tmp_path, client=client, progress=False).read_bytes() == CONTENT
    host.add("zoo.zip", CONTENT[:-1])
    with pytest.raises(DownloadError) as error:
        fetch_file([gone, zoo(host)], tmp_path / "other", client=client, progress=False)
    for part in (gone.url, "404", zoo(host).url, "does not match", str(tmp_path / "other" / "zoo.zip")):
        assert part in str(error.value)


def test_sources_need_one_name(tmp_path: Path) -> None:
    """Sources of different files are not one file."""
    with pytest.raises(ValueError, match=r"need one name, but these have a\.zip, b\.zip"):
        fetch_file([RemoteFile("http://x/a", "a.zip"), RemoteFile("http://x/b", "b.zip")], tmp_path)
    with pytest.raises(ValueError, match="at least one source"):
        fetch_file([], tmp_path)


@pytest.mark.parametrize("as_folder", [True, False])
def test_the_mirror_is_tried_first(
    host: Loopback, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_folder: bool
) -> None:
    """A mirror, be it a folder or an address, is asked first; what it lacks comes from the publisher."""
    (tmp_path / "mirror" / "mnist").mkdir(parents=True)
    (tmp_path / "mirror" / "mnist" / "zoo 1.zip").write_bytes(CONTENT)
    host.add("mirror", tmp_path / "mirror")
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror") if as_folder else host.url("mirror"))
    there = mirrored(zoo(host, checksum=MD5), "mnist/zoo 1.zip")
    missing = mirrored(zoo(host, checksum=MD5), "mnist/other.zip")
    assert fetch_file(there, tmp_path / "a", client=client, progress=False).read_bytes() == CONTENT
    assert host.requests("zoo.zip") == []
    assert fetch_file(missing, tmp_path / "b", client=client, progress=False).read_bytes() == CONTENT
    assert len(host.requests("zoo.zip")) == 1


def test_a_mirror_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that nothing here can ask is an error, not an empty mirror."""
    monkeypatch.setenv("ZOOBENCH_MIRROR", "s3://bucket")
    with pytest.raises(ValueError, match="ZOOBENCH_MIRROR is 's3://bucket'"):
        mirrored(RemoteFile("https://example.org/a", "a"), "a")


# -- what is shown and refused -----------------------------------------------------------------------------------------


def test_progress_has_a_total(
    host: Loopback, client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar names the file and its size, on stderr, and nothing else is printed."""
    fetch_file(zoo(host), tmp_path / "a", client=client)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "zoo.zip" in shown.err
    assert "3.00M/3.00M" in shown.err
    assert "SHA256" not in shown.err
    fetch_file(zoo(host), tmp_path / "b", client=client, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "a\\b", "a\nb", "a\0b"])
def test_names_stay_in_the_folder(name: str) -> None:
    """A name that would leave the folder, or the line it is printed on, is refused."""
    with pytest.raises(ValueError, match="no name for a file"):
        RemoteFile("http://example.org/a", name)


@pytest.mark.parametrize("checksum", ["abc", "sha1:" + "a" * 40, "md5:" + "A" * 32, "sha256:" + "a" * 63])
def test_checksums_are_of_a_known_kind(checksum: str) -> None:
    """A checksum that could not be compared is refused at once."""
    with pytest.raises(ValueError, match="checksum"):
        RemoteFile("http://example.org/a", "a", checksum=checksum)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen within a minute")
