"""Files whose publisher gives no checksum have to stay what they were when they were first fetched."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Loopback
from zoobench.download.checksums import ChecksumLock, FirstSeen
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.mirror import mirrored
from zoobench.download.remote import DownloadError, RemoteFile
from zoobench.errors import ZooFormatError

CONTENT = random.Random(0).randbytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        server.add("zoo.zip", CONTENT)
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_retries=2, delay=0.01) as quick:
        yield quick


def zoo(host: Loopback, checksum: str | None = None) -> RemoteFile:
    return RemoteFile(host.url("zoo.zip"), "zoo.zip", checksum=checksum)


def names_in(folder: Path) -> set[str]:
    """Names of files below a folder, of what is whole or may become it."""
    return {p.name for p in folder.rglob("*") if p.is_file() and p.stat().st_size and p.suffix != ".json"}


def test_the_first_download_fixes_the_checksum(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A later download must be the same; if not, it is refused, and the error says how to accept it."""
    lock = ChecksumLock(tmp_path / "checksums.json")
    fetch_file(zoo(host), tmp_path / "a", lock=lock, client=client, progress=False)
    assert lock.expected(host.url("zoo.zip")) == SHA256
    fetch_file(zoo(host), tmp_path / "b", lock=lock, client=client, progress=False)
    host.add("zoo.zip", CONTENT[::-1])
    with pytest.raises(DownloadError, match="has changed since it was first fetched on 20") as error:
        fetch_file(zoo(host), tmp_path / "c", lock=lock, client=client, progress=False)
    assert names_in(tmp_path / "c") == set()
    command = str(error.value).split("accept it by: ")[1].split("; or get it")[0]
    subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    path = fetch_file(zoo(host), tmp_path / "c", lock=lock, client=client, progress=False)
    assert path.read_bytes() == CONTENT[::-1]


def test_a_mirror_has_to_serve_what_the_publisher_did(
    host: Loopback, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checksum belongs to the file, not to the copy that it came from."""
    lock = ChecksumLock(tmp_path / "checksums.json")
    fetch_file(zoo(host), tmp_path / "a", lock=lock, client=client, progress=False)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "zoo.zip").write_bytes(CONTENT[::-1])
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror"))
    path = fetch_file(mirrored(zoo(host), "zoo.zip"), tmp_path / "b", lock=lock, client=client, progress=False)
    assert path.read_bytes() == CONTENT  # refused from the mirror, taken from the publisher


def test_a_published_checksum_needs_no_entry(host: Loopback, client: Client, tmp_path: Path) -> None:
    """The list is for files that have nothing better."""
    lock = ChecksumLock(tmp_path / "checksums.json")
    fetch_file(zoo(host, checksum=MD5), tmp_path, lock=lock, client=client, progress=False)
    assert lock.read() == {}


def test_the_list_of_checksums_keeps_the_first(tmp_path: Path) -> None:
    """Two processes may find a file new at the same time: the second is compared; everybody may read the list."""
    lock = ChecksumLock(tmp_path / "sub" / "checksums.json")
    lock.add({"a": FirstSeen("0" * 64, 1)})
    lock.add({"a": FirstSeen("0" * 64, 1), "b": FirstSeen("1" * 64, 2)})
    with pytest.raises(DownloadError, match="a has changed"):
        lock.add({"a": FirstSeen("2" * 64, 1), "c": FirstSeen("3" * 64, 3)})
    assert {key: seen.sha256[0] for key, seen in lock.read().items()} == {"a": "0", "b": "1", "c": "3"}
    lock.forget("a")
    assert lock.expected("a") is None
    (tmp_path / "ordinary").touch()
    assert lock.path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 2, "files": {}}', '{"version": 1, "files": {"a": 1}}'])
def test_a_damaged_list_of_checksums_is_said(tmp_path: Path, content: str) -> None:
    """It is never taken for an empty one."""
    (tmp_path / "checksums.json").write_text(content)
    with pytest.raises(ZooFormatError, match=r"checksums\.json is no list of checksums"):
        ChecksumLock(tmp_path / "checksums.json").read()
