"""Records are resolved as Zenodo answers, and whatever else is answered is an error that says so."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Fault, Loopback
from zoobench.download.client import LIMITS, Client
from zoobench.download.files import fetch_file
from zoobench.download.remote import DownloadError, OfflineError, RemoteFile
from zoobench.download.zenodo import record_files, record_number

FILES: dict[str, bytes | Path] = {"dataset seed.pt": random.Random(1).randbytes(5000), "index_dict.json": b"{}"}


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        server.add_record(6632087, FILES, concept=6632086)
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_retries=2, delay=0.01) as quick:
        yield quick


def expected(host: Loopback) -> list[RemoteFile]:
    return [
        RemoteFile(
            f"{host.url('api/records/6632087/files/')}{name.replace(' ', '%20')}/content",
            name,
            len(content),
            f"md5:{hashlib.md5(content).hexdigest()}",
        )
        for name, content in FILES.items()
    ]


@pytest.mark.parametrize(
    "record",
    [
        6632087,
        "6632087",
        "10.5281/zenodo.6632087",
        "doi:10.5281/zenodo.6632087",
        "https://doi.org/10.5281/zenodo.6632087",
        "https://zenodo.org/records/6632087/",
        6632086,
        "10.5281/zenodo.6632086",
    ],
)
def test_a_record_has_files_with_size_and_checksum(host: Loopback, client: Client, record: int | str) -> None:
    """By number, DOI or address, of a version or of all versions, which means the newest."""
    found = record_files(record, client=client, api=host.url("api"))
    assert [(f.name, f.size, f.checksum) for f in found] == [(f.name, f.size, f.checksum) for f in expected(host)]


def test_files_of_a_record_can_be_fetched(host: Loopback, client: Client, tmp_path: Path) -> None:
    """What a record says of a file is what fetching needs."""
    for file in record_files(6632086, client=client, api=host.url("api")):
        assert fetch_file(file, tmp_path, client=client, progress=False).read_bytes() == FILES[file.name]


def test_a_record_without_links_has_the_usual_addresses(host: Loopback, client: Client) -> None:
    """Where the record gives no address, the one of the version's page is taken, not of the number asked for."""
    record = json.loads(host.read("api/records/6632087"))
    for entry in record["files"]:
        del entry["links"]
    host.add("api/records/6632087", json.dumps(record).encode())
    found = record_files(6632086, client=client, api=host.url("api"))
    assert found[0].url == host.url("records/6632087/files/dataset seed.pt")


def test_a_limit_on_requests_is_waited_out(host: Loopback, client: Client) -> None:
    """The answer that too many asked is JSON as well, without any files: it is asked again."""
    body = b'{"status": 429, "message": "Too many requests"}'
    host.fail("api/records/6632087", Fault(status=429, headers={"Retry-After": "0"}, body=body, times=2))
    assert len(record_files(6632087, client=client, api=host.url("api"))) == 2
    host.fail("api/records/6632087", Fault(status=429, body=body, times=9))
    with pytest.raises(DownloadError, match=r"the file list of record 6632087.*429 Too Many Requests.*try again later"):
        record_files(6632087, client=client, api=host.url("api"))


def test_a_broken_answer_is_asked_again(host: Loopback, client: Client) -> None:
    """A connection that drops in the middle of a record is no wrong record."""
    host.fail("api/records/6632087", Fault(drop_after=20), Fault(drop_after=0))
    assert len(record_files(6632087, client=client, api=host.url("api"))) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>busy</html>", "JSON was expected"),
        (b"[]", "describes no record with files"),
        (b"{}", "describes no record with files"),
        (b'{"id": 1, "files": []}', "describes no record with files"),
        (b'{"id": 1, "files": {"enabled": true}}', "something else"),
        (b'{"id": 1, "files": [1]}', "not understood"),
        (b'{"id": 1, "files": [{"key": "a"}]}', "not understood"),
        (b'{"id": 1, "files": [{"key": "../a", "size": 1, "checksum": null}]}', "not understood"),
        (b'{"id": 1, "files": [{"key": "a", "size": "1", "checksum": null}]}', "not understood"),
        (b'{"id": 1, "files": [{"key": "a", "size": 1, "checksum": "crc:1"}]}', "not understood"),
        (b'{"id": 1, "files": [{"key": "a", "size": 1, "links": {"self": "file:///etc/passwd"}}]}', "not understood"),
    ],
)
def test_other_answers_are_errors(host: Loopback, client: Client, answer: bytes, words: str) -> None:
    """Whatever comes with status 200 and is no list of files is refused in one sentence."""
    host.add("api/records/5", answer)
    with pytest.raises(DownloadError, match=rf"the file list of record 5 from http://.*{words}"):
        record_files(5, client=client, api=host.url("api"))


def test_an_unknown_record_is_said(host: Loopback, client: Client) -> None:
    """With its number and the status."""
    with pytest.raises(DownloadError, match="record 77 .*404"):
        record_files(77, client=client, api=host.url("api"))


@pytest.mark.parametrize("record", ["", "zoo", "10.1234/zenodo.5", "https://example.org/5", "-5", "5.5"])
def test_only_zenodo_numbers_are_taken(record: str) -> None:
    """A DOI of another publisher is not a number of Zenodo's."""
    with pytest.raises(ValueError, match="no record of Zenodo"):
        record_number(record)


def test_offline(client: Client) -> None:
    """Without a network it is OfflineError."""
    with pytest.raises(OfflineError):
        record_files(5, client=client, api="http://zoos.invalid/api")


def test_the_limits_of_guests_are_known() -> None:
    """60 requests a minute and 2000 an hour."""
    assert set(LIMITS["zenodo.org"]) == {(60, 60.0), (2000, 3600.0)}
