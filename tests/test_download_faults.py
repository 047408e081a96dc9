"""Hosts, networks and disks that fail: what passes is repeated, what does not is said in one sentence."""

from __future__ import annotations

import email.utils
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from loopback import Fault, Loopback
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.many import fetch_many
from zoobench.download.remote import DownloadError, NoSpaceError, OfflineError, RemoteFile

Fetch = Callable[..., Path]

CONTENT = bytes(range(256)) * 4000
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


@pytest.fixture(params=["one", "many"])
def fetch(request: pytest.FixtureRequest, host: Loopback, client: Client, tmp_path: Path) -> Fetch:
    """Fetches the file alone, or as one of many: faults are met in the same way."""

    def run(**known: Any) -> Path:
        file = RemoteFile(host.url("zoo.zip"), "zoo.zip", **known)
        if request.param == "one":
            return fetch_file(file, tmp_path, client=client, progress=False)
        return fetch_many([file], tmp_path, client=client, progress=False)[0]

    return run


def left(folder: Path) -> list[str]:
    """Files with content that are left in a folder."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.stat().st_size and p.suffix != ".json")


def test_hosts_that_refuse_python_are_satisfied(host: Loopback, fetch: Fetch) -> None:
    """Requests name this project and its version: some hosts answer 403 to those of nobody in particular."""
    assert requests.get(host.url("zoo.zip"), timeout=10).status_code == 403
    host.log.clear()
    assert fetch().read_bytes() == CONTENT
    assert {request.headers["User-Agent"].split("/")[0] for request in host.requests()} == {"zoobench"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_waited_out(host: Loopback, fetch: Fetch, status: int) -> None:
    """A status that may pass is asked again, without a word."""
    host.fail("zoo.zip", Fault(status=status), Fault(status=status))
    assert fetch(size=len(CONTENT), checksum=MD5).read_bytes() == CONTENT
    assert len(host.requests()) == 3


def test_trouble_that_stays_is_an_error(host: Loopback, fetch: Fetch, tmp_path: Path) -> None:
    """After the last attempt the error says who answered what."""
    host.fail("zoo.zip", Fault(status=500, times=9))
    with pytest.raises(DownloadError, match=r"cannot fetch zoo\.zip from http.*500 Internal.*try again later") as error:
        fetch()
    assert error.value.status == 500
    assert len(host.requests()) == 3
    assert left(tmp_path) == []


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured(host: Loopback, fetch: Fetch, as_date: bool) -> None:
    """The next request comes no sooner than the host asked for, be it in seconds or by date."""
    until = int(time.time()) + 2
    value = email.utils.formatdate(until, usegmt=True) if as_date else "1"
    host.fail("zoo.zip", Fault(status=429, headers={"Retry-After": value}))
    assert fetch().read_bytes() == CONTENT
    first, second = host.requests()
    if as_date:
        assert second.time + (time.time() - time.monotonic()) >= until - 0.01
    else:
        assert second.time - first.time >= 0.99


def test_a_host_that_asks_to_wait_for_hours_is_not_waited_for(host: Loopback, fetch: Fetch) -> None:
    """Nobody wants a program that sleeps for a day: the error says how long."""
    host.fail("zoo.zip", Fault(status=503, headers={"Retry-After": "86400"}))
    with pytest.raises(DownloadError, match=r"asks to wait 24\.0 hours"):
        fetch()
    assert len(host.requests()) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_what_will_not_pass_is_not_asked_again(host: Loopback, fetch: Fetch, tmp_path: Path, status: int) -> None:
    """The error names file, address, status and remedy, at the first answer."""
    host.fail("zoo.zip", Fault(status=status))
    with pytest.raises(DownloadError) as error:
        fetch()
    for part in ("zoo.zip", host.url("zoo.zip"), str(status), ";", str(tmp_path / "zoo.zip")):
        assert part in str(error.value)
    assert len(host.requests()) == 1
    assert left(tmp_path) == []


def test_wrong_checksum_is_refused(host: Loopback, fetch: Fetch, tmp_path: Path) -> None:
    """A file that is not the published one is not cached, not even in part."""
    with pytest.raises(DownloadError, match=f"expected.*{'0' * 32}|{'0' * 32}.*expected"):
        fetch(checksum="md5:" + "0" * 32)
    assert left(tmp_path) == []


@pytest.mark.parametrize("known", [{"size": len(CONTENT)}, {"checksum": MD5}])
def test_a_file_that_lost_its_end_is_refused(
    host: Loopback, fetch: Fetch, tmp_path: Path, known: dict[str, object]
) -> None:
    """A shorter file than the published one is not taken, be it known by its size or by its checksum."""
    host.add("zoo.zip", CONTENT[:-1000])
    with pytest.raises(DownloadError, match="were expected, but the host has|expected"):
        fetch(**known)
    assert left(tmp_path) == []


def test_a_body_shorter_than_announced_is_noticed(host: Loopback, fetch: Fetch) -> None:
    """What the host announced and did not send is asked for again."""
    host.fail("zoo.zip", Fault(drop_after=len(CONTENT) - 5))
    assert fetch().read_bytes() == CONTENT
    assert len(host.requests()) == 2


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("text/html; charset=utf-8", b"busy"),
        ("application/octet-stream", b"\n<!DOCTYPE HTML><title>Sign in</title>"),
        ("text/plain", b"<html></html>"),
    ],
)
def test_a_web_page_is_no_file(host: Loopback, fetch: Fetch, tmp_path: Path, kind: str, page: bytes) -> None:
    """A page with status 200, of a login or of a host that hides its errors, is refused by its type or its looks."""
    host.fail("zoo.zip", Fault(status=200, headers={"Content-Type": kind}, body=page, times=9))
    with pytest.raises(DownloadError, match="a web page instead of the file"):
        fetch()
    assert left(tmp_path) == []


def test_redirects_are_followed(host: Loopback, fetch: Fetch) -> None:
    """Also over several hops, and for the rest of a file that broke off."""
    host.add("store/final", CONTENT)
    host.redirects |= {"zoo.zip": "/hop", "hop": host.url("store/final")}
    host.fail("store/final", Fault(drop_after=500_000))
    assert fetch(checksum=MD5).read_bytes() == CONTENT
    assert host.requests("store/final")[1].status == 206


@pytest.mark.parametrize("target", ["/zoo.zip", "file:///etc/passwd", "ftp://127.0.0.1/zoo.zip"])
def test_redirects_that_lead_astray_are_refused(host: Loopback, fetch: Fetch, tmp_path: Path, target: str) -> None:
    """A circle is an error, and no host can make us read a file of this machine."""
    host.redirects["zoo.zip"] = target
    with pytest.raises(DownloadError, match=r"cannot fetch zoo\.zip"):
        fetch()
    assert left(tmp_path) == []


def test_offline_is_told_apart(client: Client, tmp_path: Path) -> None:
    """Where no connection comes about the error is an OSError of its own kind, and says where to put the file."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and never listens
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/zoo.zip"
        with pytest.raises(OfflineError, match=r"no connection to 127\.0\.0\.1:\d+ .*check the network") as error:
            fetch_file(RemoteFile(url, "zoo.zip"), tmp_path, client=client, progress=False)
    assert isinstance(error.value, OSError)
    assert str(tmp_path / "zoo.zip") in str(error.value)


def test_an_unknown_host_is_offline_too(client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that no one can resolve means no connection, and there is no empty progress bar."""
    with pytest.raises(OfflineError, match=r"no connection to zoos\.invalid \(Failed to resolve 'zoos\.invalid'"):
        fetch_file(RemoteFile("http://zoos.invalid/a", "a"), tmp_path, client=client)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("url", ["zoo.zip", "ftp://127.0.0.1/zoo.zip", "http://"])
def test_addresses_that_cannot_be_asked(client: Client, tmp_path: Path, url: str) -> None:
    """An address of another kind is one sentence, too."""
    with pytest.raises(DownloadError, match="check the address"):
        fetch_file(RemoteFile(url, "zoo.zip"), tmp_path, client=client, progress=False)


# -- disks -------------------------------------------------------------------------------------------------------------


def test_too_little_space_is_said_before_the_first_byte(host: Loopback, fetch: Fetch, tmp_path: Path) -> None:
    """Nothing is written when the whole will not fit, and no other source is tried."""
    host.fail("zoo.zip", Fault(announce=10**18))
    with pytest.raises(NoSpaceError, match=r"1\.00 EB are still to come, but the disk of .* has .*B free"):
        fetch()
    assert left(tmp_path) == []
    assert len(host.requests()) == 1


def test_a_file_in_place_of_the_folder(host: Loopback, client: Client, tmp_path: Path) -> None:
    """It is named."""
    (tmp_path / "folder").write_text("not one")
    file = RemoteFile(host.url("zoo.zip"), "zoo.zip")
    with pytest.raises(DownloadError, match=f"{tmp_path}/folder.*cannot be written to.*ZOOBENCH_DATA"):
        fetch_file(file, tmp_path / "folder", client=client, progress=False)
    with pytest.raises(DownloadError, match=f"{tmp_path}/folder.*cannot be written to.*ZOOBENCH_DATA"):
        fetch_many([file], tmp_path / "folder", client=client, progress=False)


CHILD = """
import os, resource, sys
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.many import fetch_many
from zoobench.download.remote import DownloadError, RemoteFile
url, open_folder, folder, what = sys.argv[1:]
with Client(n_retries=0) as client:
    # What loads late has to do so before the rights are gone.
    fetch_file(RemoteFile(url, "zoo.zip"), open_folder, client=client, progress=False)
    if what == "read-only":
        if os.geteuid() == 0:
            os.seteuid(65534)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    for fetch in (lambda f: fetch_file(f, folder, client=client, progress=False),
                  lambda f: fetch_many([f], folder, client=client, progress=False)):
        try:
            fetch(RemoteFile(url, "zoo.zip"))
            print("fetched")
        except DownloadError as error:
            print(type(error).__name__, error)
"""


def run_child(host: Loopback, folder: Path, what: str) -> list[str]:
    with tempfile.TemporaryDirectory() as warm:
        command = [sys.executable, "-c", CHILD, host.url("zoo.zip"), warm, str(folder), what]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_folder_that_may_not_be_written_to(host: Loopback) -> None:
    """One sentence says which folder, and what to do; nothing is left in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chmod(folder, 0o555)
        for line in run_child(host, folder, "read-only"):
            assert line.startswith("DownloadError cannot fetch ")
            assert f"{folder} may not be written to" in line
            assert "name another folder in ZOOBENCH_DATA" in line
        assert list(folder.iterdir()) == []


def test_a_cached_file_in_a_folder_that_may_not_be_written_to(host: Loopback, client: Client) -> None:
    """Files that an administrator fetched for everybody are used without writing anything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = RemoteFile(host.url("zoo.zip"), "zoo.zip")
        fetch_file(file, folder, client=client, progress=False)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555)
        assert run_child(host, folder, "read-only") == ["fetched", "fetched"]
        folder.chmod(0o755)


def test_a_full_disk(host: Loopback, client: Client, tmp_path: Path) -> None:
    """No half file has the name; when there is room again, only the rest is transferred."""
    lines = run_child(host, tmp_path, "full")
    assert [line.split()[0] for line in lines] == ["NoSpaceError", "NoSpaceError"]
    assert all(f"the disk of {tmp_path} is full" in line for line in lines)
    assert not (tmp_path / "zoo.zip").exists()
    before = host.sent()
    path = fetch_file(RemoteFile(host.url("zoo.zip"), "zoo.zip"), tmp_path, client=client, progress=False)
    assert path.read_bytes() == CONTENT
    assert host.sent() - before == len(CONTENT) - 300_000
