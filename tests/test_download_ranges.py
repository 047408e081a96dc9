"""Members of a remote zip come alone, checked, and for few bytes."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopback import Fault, Loopback
from zoobench.download.client import Client
from zoobench.download.ranges import SPARE, RemoteZip
from zoobench.download.remote import DownloadError, RangesNotSupportedError, RemoteFile
from zoobench.errors import UnsafeFileError

REAL = Path(__file__).parent / "data" / "tune_zoo_digits_uniform.zip"


@pytest.fixture(scope="module")
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(host: Loopback) -> None:
    host.files.clear()
    host.log.clear()
    host.ranges = host.etags = True


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_retries=2, delay=0.01, n_connections=4) as quick:
        yield quick


@cache
def eleven_epochs() -> bytes:
    """A seed zoo of 40 models and eleven epochs from real checkpoints, in the order in which a disk may list them."""
    with zipfile.ZipFile(REAL) as real:
        checkpoints = [real.read(name) for name in real.namelist() if name.endswith("/checkpoints")]
    names = [f"zoo/trial_{m:05d}/checkpoint_{e:06d}/checkpoints" for m in range(40) for e in range(11)]
    random.Random(0).shuffle(names)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for i, name in enumerate(names):
            file.writestr(name, checkpoints[i % len(checkpoints)])
    return buffer.getvalue()


def remote(
    host: Loopback, client: Client, content: bytes | Path, size: int | None = None, cache: Path | None = None
) -> RemoteZip:
    host.add("zoo.zip", content)
    return RemoteZip(RemoteFile(host.url("zoo.zip"), "zoo.zip", size=size), client=client, cache=cache)


def size_of_directory(content: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return len(content) - file.start_dir


def of_epoch(members: list[str], epoch: int) -> list[str]:
    return [name for name in members if f"/checkpoint_{epoch:06d}/" in name]


@pytest.mark.parametrize("size_known", [True, False])
def test_one_epoch_of_eleven_takes_little_more_than_its_bytes(host: Loopback, client: Client, size_known: bool) -> None:
    """At most the directory, the wanted members and 64 KB are transferred, and the count of them is right."""
    content = eleven_epochs()
    found = remote(host, client, content, size=len(content) if size_known else None)
    names = of_epoch(list(found.members), 7)
    plan = found.plan(names)
    before = found.bytes_transferred
    read = dict(found.read_members(names))
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        assert len(names) == 40
        assert read == {name: whole.read(name) for name in names}
        wanted = sum(30 + len(name) + whole.getinfo(name).compress_size for name in names)
    assert host.sent() == found.bytes_transferred
    assert host.sent() <= size_of_directory(content) + wanted + (64 << 10)
    assert host.sent() < len(content) / 5
    assert sum(extent.stop - extent.start for extent in plan) == found.bytes_transferred - before
    assert len(host.requests()) == len(plan) + 2


def test_more_spare_bytes_mean_fewer_requests(host: Loopback, client: Client) -> None:
    """The narrowest gaps are closed first; with none to spare only neighbours are read together."""
    found = remote(host, client, eleven_epochs())
    names = of_epoch(list(found.members), 3)
    wanted = sum(extent.stop - extent.start for extent in found.plan(names, spare=0))
    requests = []
    for spare in (0, SPARE, 20 * SPARE, 1 << 30):
        plan = found.plan(names, spare=spare)
        assert sum(extent.stop - extent.start for extent in plan) <= wanted + spare
        assert {info.filename for extent in plan for info in extent.members} == set(names)
        assert dict(found.read_members(names, spare=spare)).keys() == set(names)
        requests.append(len(plan))
    assert requests == sorted(requests, reverse=True)
    assert requests[0] > requests[-1] == 1
    everything = found.plan(found.members, spare=0)
    assert len(everything) == 1


def test_the_real_zoo_reads_alike(host: Loopback, client: Client) -> None:
    """Every member of the published form, deflated, has the content that a local reader gives."""
    found = remote(host, client, REAL)
    with zipfile.ZipFile(REAL) as whole:
        expected = {info.filename: whole.read(info) for info in whole.infolist() if not info.is_dir()}
    assert found.members.keys() == expected.keys()
    assert dict(found.read_members(expected)) == expected


def test_a_zip_on_a_local_mirror_reads_alike(client: Client) -> None:
    """A folder of this machine answers for ranges as a host does."""
    found = RemoteZip(RemoteFile(REAL.absolute().as_uri(), "zoo.zip"), client=client)
    name = next(iter(found.members))
    with zipfile.ZipFile(REAL) as whole:
        assert dict(found.read_members([name])) == {name: whole.read(name)}
    assert found.bytes_transferred < REAL.stat().st_size / 10


def test_the_directory_is_kept(host: Loopback, client: Client, tmp_path: Path) -> None:
    """With a cache, opening the zip again takes no request, and reading another epoch only its members."""
    content = eleven_epochs()
    cache = tmp_path / "zoo.directory"
    first = remote(host, client, content, cache=cache)
    host.log.clear()
    again = remote(host, client, content, cache=cache)
    assert host.requests() == []
    assert again.members.keys() == first.members.keys()
    assert again.directory_sha256 == first.directory_sha256
    assert cache.stat().st_size < size_of_directory(content) + 1000
    names = of_epoch(list(again.members), 0)
    plan = again.plan(names, spare=0)
    assert dict(again.read_members(names, spare=0)).keys() == set(names)
    assert host.sent() == sum(extent.stop - extent.start for extent in plan)


@pytest.mark.parametrize("damage", [b"", b"no directory", b'{"url": 1}\nabc', b'{"url": "u", "size": "x"}\n'])
def test_a_damaged_cache_is_read_anew(host: Loopback, client: Client, tmp_path: Path, damage: bytes) -> None:
    """What is kept is a convenience: if it is no good, the host is asked."""
    cache = tmp_path / "zoo.directory"
    cache.write_bytes(damage)
    assert len(remote(host, client, eleven_epochs(), cache=cache).members) == 440
    host.log.clear()
    assert len(remote(host, client, eleven_epochs(), cache=cache).members) == 440
    assert host.requests() == []


def test_a_kept_directory_of_the_wrong_length_is_mended(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A cache that lost bytes of the directory, or has too many, is no reason to believe that members are missing."""
    cache = tmp_path / "zoo.directory"
    remote(host, client, eleven_epochs(), cache=cache)
    head, end = cache.read_bytes().split(b"\n", 1)
    for other in (end[1000:], end + b"\0", b""):
        cache.write_bytes(head + b"\n" + other)
        assert len(remote(host, client, eleven_epochs(), cache=cache).members) == 440


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("cached", [True, False])
def test_a_zip_that_changed_meanwhile_is_refused(
    host: Loopback, client: Client, tmp_path: Path, etags: bool, cached: bool
) -> None:
    """Members are not read by the directory of another version; after the error the directory is read anew."""
    host.etags = etags
    cache = tmp_path / "zoo.directory" if cached else None
    found = remote(host, client, eleven_epochs(), cache=cache)
    newer = eleven_epochs() + b"\0" if not etags else b"\0" * len(eleven_epochs())
    host.add("zoo.zip", newer)
    with pytest.raises(DownloadError, match="has changed since its directory was read"):
        list(found.read_members(of_epoch(list(found.members), 2)))
    assert cache is None or not cache.exists()


def test_the_digest_of_the_directory_stands_for_all_members(host: Loopback, client: Client) -> None:
    """Another byte in any member gives another digest."""
    digests = set()
    for last in (b"a", b"b"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr(zipfile.ZipInfo("one"), b"1")
            file.writestr(zipfile.ZipInfo("two"), last)
        digests.add(remote(host, client, buffer.getvalue()).directory_sha256)
    assert len(digests) == 2


# -- kinds of zip files ------------------------------------------------------------------------------------------------


def as_zip64(content: bytes) -> bytes:
    """The same zip with the records at its end that a zip of more than 65,535 members or 4 GB has."""
    end = struct.unpack("<4sHHHHIIH", content[-22:])
    count, size, start = end[4], end[5], end[6]
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + size, 1)
    last = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:-22] + end64 + locator + last


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_kind_of_zip_reads_as_zipfile_reads_it(host: Loopback, client: Client, data: st.DataObject) -> None:
    """Stored and deflated, streamed (sizes after the data), with long local headers, zip64, comments, in any order."""
    n = data.draw(st.integers(1, 12))
    contents = {
        f"{i}/ä{i}": random.Random(i).randbytes(data.draw(st.sampled_from([0, 1, 500, 30_000]))) for i in range(n)
    }
    buffer = io.BytesIO()
    if data.draw(st.booleans(), label="streamed"):
        buffer.seekable = lambda: False  # type: ignore[method-assign]
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
            with file.open(info, "w", force_zip64=data.draw(st.booleans())) as member:
                member.write(content)
        file.comment = data.draw(st.sampled_from([b"", b"a comment", b"c" * 40_000]))
        commented = bool(file.comment)
    content = buffer.getvalue()
    if not commented and data.draw(st.booleans(), label="zip64"):
        content = as_zip64(content)
    found = remote(host, client, content)
    wanted = data.draw(st.lists(st.sampled_from(sorted(contents)), unique=True))
    assert dict(found.read_members(wanted)) == {name: contents[name] for name in wanted}


def test_a_large_member_is_a_request_of_its_own(host: Loopback, client: Client) -> None:
    """Neighbours are read together up to a bound on memory; what is larger than that still comes whole."""
    large = random.Random(0).randbytes(1 << 20) * 34
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (("a", b"1"), ("b", large), ("c", b"2"), ("d", b"3")):
            file.writestr(name, content)
    found = remote(host, client, buffer.getvalue())
    plan = found.plan(found.members)
    assert [[info.filename for info in extent.members] for extent in plan] == [["a"], ["b"], ["c", "d"]]
    assert dict(found.read_members(found.members)) == {"a": b"1", "b": large, "c": b"2", "d": b"3"}


def test_an_unknown_member_is_said(host: Loopback, client: Client) -> None:
    """Before anything is transferred."""
    found = remote(host, client, eleven_epochs())
    host.log.clear()
    with pytest.raises(KeyError, match=r"zoo\.zip has no member 'other'"):
        list(found.read_members(["other"]))
    assert host.requests() == []


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_host_without_ranges_is_an_error_of_its_own(host: Loopback, client: Client) -> None:
    """The caller can tell it from others, and fetch the whole file; hardly anything of it was read."""
    host.ranges = False
    with pytest.raises(RangesNotSupportedError, match="whole files only.*fetch it whole"):
        remote(host, client, random.Random(0).randbytes(1 << 20) * 40)
    assert host.sent() < 20 << 20


def test_dropped_connections_and_passing_trouble(host: Loopback, client: Client) -> None:
    """A request that broke off is sent again."""
    faults = (Fault(drop_after=100), Fault(status=500), Fault(drop_after=0))
    host.fail("zoo.zip", *faults[:2])
    found = remote(host, client, eleven_epochs())
    host.fail("zoo.zip", *faults)
    names = of_epoch(list(found.members), 5)
    assert dict(found.read_members(names)).keys() == set(names)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no whole zip file"), (b"not a zip at all" * 100, "no whole zip file"), (None, "no whole zip file")],
)
def test_what_is_no_zip_is_refused(host: Loopback, client: Client, content: bytes | None, words: str) -> None:
    """An empty file, another file, or a zip that lost its end."""
    with pytest.raises(DownloadError, match=words):
        remote(host, client, eleven_epochs()[:-5000] if content is None else content)


def test_a_web_page_is_no_zip(host: Loopback, client: Client) -> None:
    """A page with status 200 is not taken for a host without ranges."""
    host.fail("zoo.zip", Fault(status=200, headers={"Content-Type": "text/html"}, body=b"<html>"))
    with pytest.raises(DownloadError, match="web page") as error:
        remote(host, client, eleven_epochs())
    assert not isinstance(error.value, RangesNotSupportedError)


def test_another_size_than_published_is_refused(host: Loopback, client: Client) -> None:
    """The file is not the one that its publisher means."""
    with pytest.raises(DownloadError, match="100000 bytes were expected"):
        remote(host, client, eleven_epochs(), size=100_000)


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize("where", ["signature", "name", "data"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_refused(host: Loopback, client: Client, where: str, method: int) -> None:
    """Every content is checked, by its checksum and by its header; the error names the member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("good", b"1" * 100)
        file.writestr("bad", b"2" * 100)
        offset = file.getinfo("bad").header_offset
    position = offset + {"signature": 0, "name": 30, "data": 34}[where]
    found = remote(host, client, flipped(buffer.getvalue(), position))
    assert dict(found.read_members(["good"])) == {"good": b"1" * 100}
    with pytest.raises(DownloadError, match=r"cannot fetch bad in zoo\.zip from http"):
        list(found.read_members(["bad"]))


def test_a_decompression_bomb_is_refused(host: Loopback, client: Client) -> None:
    """A member that inflates a thousandfold is not weights, and is not inflated."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", bytes(10_000_000))
    with pytest.raises(UnsafeFileError, match="decompression bomb"):
        list(remote(host, client, buffer.getvalue()).read_members(["bomb"]))
