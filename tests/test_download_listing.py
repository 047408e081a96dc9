"""Directories that a host lists as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Fault, Loopback
from zoobench.download.client import Client
from zoobench.download.listing import Entry, address, find_directory, list_directories, list_directory
from zoobench.download.remote import DownloadError

TRIAL = "NN_tune_trainable_a1b2c_00001_1_model::dropout=0.5,seed=1_2021-10-29_16-54-16"


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        server.add("zoos/cnn-small_fmnist/tune_zoo_f_mnist_uniform/config.json", b"{}")
        server.add(f"zoos/cnn-small_fmnist/tune_zoo_f_mnist_uniform/{TRIAL}/params.json", b"{ }")
        yield server


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_retries=1, delay=0.01) as quick:
        yield quick


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_directory_has_files_and_directories(host: Loopback, client: Client, slash: str) -> None:
    """With sizes where the host gives them, whether or not the address ends in a slash."""
    url = host.url("zoos/cnn-small_fmnist/tune_zoo_f_mnist_uniform") + slash
    assert list_directory(url, client=client) == [Entry("config.json", False, 2), Entry(TRIAL, True)]
    assert list_directory(address(url, TRIAL), client=client) == [Entry("params.json", False, 3)]


def test_a_folder_on_this_machine_is_listed_alike(host: Loopback, client: Client, tmp_path: Path) -> None:
    """A mirror that is a folder answers as the host does."""
    (tmp_path / TRIAL).mkdir()
    (tmp_path / TRIAL / "params.json").write_text("{ }")
    (tmp_path / "config.json").write_text("{}")
    here = list_directory(tmp_path.as_uri(), client=client)
    there = list_directory(host.url("zoos/cnn-small_fmnist/tune_zoo_f_mnist_uniform"), client=client)
    assert sorted(here, key=lambda entry: entry.name) == sorted(there, key=lambda entry: entry.name)
    assert list_directory(address(tmp_path.as_uri(), TRIAL), client=client) == [Entry("params.json", False, 3)]
    with pytest.raises(DownloadError, match="404"):
        list_directory(address(tmp_path.as_uri(), "other"), client=client)


def test_many_directories_are_listed_in_parallel(host: Loopback, client: Client) -> None:
    """In the order that they were asked for, over kept connections."""
    for i in range(40):
        host.add(f"zoo/{i}/{'x' * i}", b"")
    found = list_directories([host.url(f"zoo/{i}") for i in range(1, 40)], client=client)
    assert found == [[Entry("x" * i, False, 0)] for i in range(1, 40)]
    assert len({request.connection for request in host.requests()}) <= client.n_connections


def test_a_directory_is_found_by_any_of_its_spellings(host: Loopback, client: Client) -> None:
    """The address is that of the name which is there."""
    spellings = ["tune_zoo_fmnist_uniform", "tune_zoo_f_mnist_uniform"]
    url = find_directory(host.url("zoos/cnn-small_fmnist"), spellings, client=client)
    assert url == host.url("zoos/cnn-small_fmnist/tune_zoo_f_mnist_uniform/")
    assert len(list_directory(url, client=client)) == 2


def test_a_missing_directory_is_said_with_what_there_is(host: Loopback, client: Client) -> None:
    """The error names what was looked for, where, and what is there; a file of that name is no directory."""
    host.add("zoos/cnn-small_fmnist/tune_zoo_fmnist_uniform", b"a file")
    with pytest.raises(DownloadError) as error:
        find_directory(host.url("zoos/cnn-small_fmnist"), ["tune_zoo_fmnist_uniform", "fmnist"], client=client)
    for part in ("tune_zoo_fmnist_uniform or fmnist", host.url("zoos/cnn-small_fmnist"), "tune_zoo_f_mnist_uniform"):
        assert part in str(error.value)
    for i in range(30):
        host.add(f"many/{i:02d}/a", b"")
    with pytest.raises(DownloadError, match="there is 00, 01, .*, 11 and 18 more"):
        find_directory(host.url("many"), ["a"], client=client)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>Index of /</html>",
        b'{"name": "a"}',
        b'["a"]',
        b'[{"name": "a"}]',
        b'[{"name": 5, "type": "file"}]',
        b'[{"name": "../a", "type": "file"}]',
        b'[{"name": "a/b", "type": "file"}]',
        b'[{"name": "", "type": "directory"}]',
        b'[{"name": "..", "type": "directory"}]',
    ],
)
def test_other_answers_are_errors(host: Loopback, client: Client, answer: bytes) -> None:
    """What is no listing, or has names that lead out of the directory, is refused."""
    host.fail("zoos/", Fault(status=200, body=answer))
    with pytest.raises(DownloadError, match="JSON was expected|a directory listing was expected"):
        list_directory(host.url("zoos"), client=client)


def test_what_is_neither_file_nor_directory_is_left_out(host: Loopback, client: Client) -> None:
    """Links and the like are nothing to fetch; sizes that make no sense are unknown."""
    answer = [
        {"name": "a", "type": "other"},
        {"name": "b/", "type": "directory"},
        {"name": "c", "type": "file", "size": -1},
    ]
    host.fail("zoos/", Fault(status=200, body=json.dumps(answer).encode()))
    assert list_directory(host.url("zoos"), client=client) == [Entry("b", True), Entry("c", False)]
