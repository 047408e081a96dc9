"""`zoobench check --sources`: whether what the cards say of the published files holds, in a plain report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo_files
from loopback import Fault, Loopback
from published import API, CARD, CONTENT, CONTENT_PT, RECORD, TREE, hosts_of, serve_tree, served
from zoobench import acquire
from zoobench.check_sources import check_sources
from zoobench.cli import main
from zoobench.datasets_registry import read_cards
from zoobench.origins import Hosts

#: A zoo whose second source is a plain address, which has no reader yet or cannot be read in part.
SIZE = zoo_files.SEED_ZIP.stat().st_size


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server that has every source of the zoo."""
    with served(monkeypatch) as server:
        server.add_record(RECORD, {"mnist_seed.zip": zoo_files.SEED_ZIP, "dataset_mnist_seed.pt": zoo_files.SEED_PT})
        serve_tree(server, zoo_files.experiment(n_models=3))
        yield server


def report(capsys: pytest.CaptureFixture[str], *names: str) -> tuple[int, list[str], str]:
    code = main(["check", "--sources", *names])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_all_is_well(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each source with what was found, a count at the end, exit code 0; few bytes are transferred."""
    code, lines, err = report(capsys, CARD)
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in lines[:-1]] == [["ok", CARD]] * 3
    archive, tree, preprocessed = lines[:-1]
    assert "zenodo.org/records/6632087  mnist_seed.zip, 4.66 MB; 40 of 1000 models, 4 of 51 epochs; read NN_" in archive
    assert archive.endswith("2464 weights, as the card says")
    assert "3 of 1000 models, 4 of 51 epochs; read NN_" in tree
    assert preprocessed.endswith("dataset_mnist_seed.pt, 3.25 MB; not read: it would have to be transferred whole")
    assert lines[-1] == "3 sources of 1 zoos: 3 ok, 0 wrong"
    assert host.sent(CONTENT) < SIZE / 20
    assert host.sent(CONTENT_PT) == 0
    assert sum(seen.path.endswith("/checkpoints") for seen in host.log) == 1


def test_a_mirror_is_not_what_is_checked(
    host: Loopback, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published hosts are asked, whatever ZOOBENCH_MIRROR says."""
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path))
    assert report(capsys, CARD)[0] == 0
    assert host.requests(CONTENT)


def test_a_renamed_file(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """The record has no file of the card's pattern: the line names what it has, the other sources are looked at."""
    record = json.loads(host.files[API])
    record["files"][0]["key"] = "mnist_seed_v2.zip"
    host.files[API] = json.dumps(record).encode()
    code, lines, err = report(capsys, CARD)
    assert code == 1
    assert [line.split()[0] for line in lines[:-1]] == ["WRONG", "ok", "ok"]
    assert "no file that matches '*_seed.zip'; its files are: mnist_seed_v2.zip, dataset_mnist_seed.pt" in lines[0]
    assert lines[-1] == "3 sources of 1 zoos: 2 ok, 1 wrong"
    assert "1 of 3 sources are wrong" in err


def test_a_renamed_folder(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """The host of single files has no such folder: the line names what it has."""
    for path in [path for path in host.files if path.startswith("tree/")]:
        host.files[path.replace("tune_zoo_mnist_uniform", "something_else")] = host.files.pop(path)
    code, lines, _ = report(capsys, CARD)
    assert (code, lines[1].split()[0]) == (1, "WRONG")
    assert "there is no folder 'tune_zoo_mnist_uniform'" in lines[1]
    assert "there is something_else" in lines[1]


def test_an_unreachable_host(host: Loopback) -> None:
    """A host that nobody answers for is wrong, one line a source, and the others are looked at."""
    hosts = hosts_of(host)
    findings = list(check_sources([CARD], hosts=Hosts("http://127.0.0.1:9/", hosts.zenodo), n_retries=0))
    assert [finding.wrong for finding in findings] == [False, True, False]
    assert "no connection to 127.0.0.1:9" in findings[1].text
    assert "\n" not in str(findings[1])


@pytest.mark.parametrize("path", [API, f"tree/{TREE}/"])
def test_a_host_that_fails(host: Loopback, capsys: pytest.CaptureFixture[str], path: str) -> None:
    """Its answer is in the line."""
    host.fail(path, Fault(status=404, times=99))
    code, lines, _ = report(capsys, CARD)
    assert code == 1
    assert "the host answers 404 Not Found" in "".join(line for line in lines if line.startswith("WRONG"))


def test_other_networks_than_the_card_says(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """The one model that is read has another number of weights: both numbers are told."""
    for path in [path for path in host.files if path.startswith("tree/")]:
        del host.files[path]
    serve_tree(host, zoo_files.small_experiment())
    code, lines, _ = report(capsys, CARD)
    assert (code, lines[1].split()[0]) == (1, "WRONG")
    assert "its networks have 84 weights, but the card says 2464" in lines[1]


def test_what_cannot_be_had_in_part(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that serves no parts, a tar and a format without a reader are resolved, and it is said that no more is."""
    host.ranges = False
    code, lines, _ = report(capsys, CARD)
    assert code == 0
    assert lines[0].endswith("not read: its host serves no parts of it")
    assert host.sent(CONTENT) < SIZE
    cards = read_cards()
    for name in ("cifar10_resnet18", "cnn_wild_park"):
        for source in cards[name].sources:
            if source.kind == "url":
                host.add("plain/" + source.address.removeprefix("https://"), bytes(5000))
    host.add_record(12797219, {"a.zip": b"1", "b.zip": b"2"})
    _, lines, _ = report(capsys, "cifar10_resnet18", "cnn_wild_park")
    assert lines[1].startswith("ok")
    assert lines[1].endswith(".tar, 5.00 kB; not read: it would have to be transferred whole")
    assert "2 files: a.zip, b.zip; not read" in lines[3]


def test_a_web_page_at_a_plain_address(host: Loopback) -> None:
    """A page with status 200 is no file."""
    address = "ai.unisg.ch/files/tar_files/tune_zoo_cifar10_resnet18_kaiming_uniform.tar"
    host.add(f"plain/{address}", b"<html>moved")
    host.fail(f"plain/{address}", Fault(headers={"Content-Type": "text/html"}, times=99))
    findings = list(check_sources(["cifar10_resnet18"], hosts=hosts_of(host), n_retries=0))
    assert findings[1].wrong
    assert "a web page instead of the file" in findings[1].text


def test_every_source_of_the_registry_is_looked_at(host: Loopback) -> None:
    """One line for each, in the registry's order, whatever its kind; what comes with the package is well."""
    findings = list(check_sources(hosts=hosts_of(host), n_retries=0))
    assert [(found.card, found.address) for found in findings] == [
        (card.name, source.address) for card in read_cards().values() for source in card.sources
    ]
    assert all(not found.wrong for found in findings if found.card.startswith("digits"))
    assert all(found.wrong for found in findings if found.card.startswith("svhn"))


def test_unknown_names(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """They are usage errors, before any request."""
    code, _, err = report(capsys, "mnist_cnn_m")
    assert code == 2
    assert "unknown zoo 'mnist_cnn_m'; did you mean" in err
    assert host.log == []


@pytest.mark.network
def test_real_hosts() -> None:
    """What the registry says of every published file holds today."""
    findings = [str(finding) for finding in check_sources(hosts=acquire.HOSTS) if finding.wrong]
    assert not findings, "\n".join(findings)
