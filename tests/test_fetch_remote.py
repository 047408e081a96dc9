"""fetch_zoo of a published zoo: what is transferred, what is refused before, what is said offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback import Loopback
from published import CARD, CONCEPT, CONTENT, RECORD, TREE, assert_same_states, fetch, serve_tree, serve_zip, served
from zoo_files import SEED_ZIP, experiment, small_experiment, write_zip
from zoobench import acquire, fetch_zoo, list_zoos, load_zoo
from zoobench.cli import main
from zoobench.download.client import LIMITS
from zoobench.origins import Hosts


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server


def test_some_epochs_from_a_tree_of_files(host: Loopback) -> None:
    """The per-file host is asked first for some epochs, and only for their files."""
    serve_tree(host, experiment(n_models=40))
    assert_same_states(fetch(epochs=[1]), load_zoo(SEED_ZIP, epochs=1))
    asked = [seen.path for seen in host.requests()]
    assert not any("checkpoint_000005" in path for path in asked)
    fetch(epochs=[1, 5])
    assert_same_states(fetch(epochs=[1, 5]), load_zoo(SEED_ZIP, epochs=[1, 5]))
    for name in ("checkpoint_000001/checkpoints", "checkpoint_000005/checkpoints", "result.json", "params.json"):
        assert sum(seen.path.endswith(name) for seen in host.requests()) == 40, name


def test_a_file_that_comes_whole_is_kept_whole(host: Loopback) -> None:
    """Where a host serves no parts of a file, the other epochs of it need no second transfer."""
    serve_zip(host, SEED_ZIP)
    host.ranges = False
    assert_same_states(fetch(epochs=5), load_zoo(SEED_ZIP, epochs=5))
    before = len(host.log)
    assert_same_states(fetch(epochs=[1, 10]), load_zoo(SEED_ZIP, epochs=[1, 10]))
    assert_same_states(fetch(), load_zoo(SEED_ZIP))
    assert len(host.log) == before


def test_a_renamed_folder_is_found_by_its_pattern(host: Loopback) -> None:
    """The host's names are not uniform."""
    serve_tree(host, experiment(), name=TREE.replace("tune_zoo_mnist_uniform", "tune_zoo_m_nist_uniform"))
    assert len(fetch(epochs=[1]).data) == 3


def test_next_source_is_asked_when_one_fails(host: Loopback) -> None:
    """The record is gone, the tree is there: the whole zoo comes from the tree."""
    serve_tree(host, experiment())
    zoo = fetch()
    assert len(zoo.data) == 12
    assert zoo.card["name"] == CARD
    assert CARD in set(list_zoos(dataset="mnist", cached=True)["name"])


def test_all_sources_fail(host: Loopback, data_home: Path) -> None:
    """Each source's reason is told, with the folder and the remedy; nothing is left that looks like a zoo."""
    with pytest.raises(OSError, match=r"could not be fetched.*mnist_cnn_s_seed.*zoobench fetch mnist_cnn_s_seed"):
        fetch()
    assert not (data_home / CARD).exists()


def test_download_may_be_forbidden(host: Loopback) -> None:
    """download_if_missing=False never opens a connection; the error names folder, addresses and command."""
    with pytest.raises(
        OSError, match=r"is not in .*`zoobench fetch mnist_cnn_s_seed` downloads it from https://zenodo"
    ):
        fetch(download_if_missing=False)
    assert host.log == []


def test_more_than_max_bytes_is_refused(host: Loopback) -> None:
    """Before the first byte of a file, with the size and what to do."""
    serve_zip(host, SEED_ZIP)
    with pytest.raises(ValueError, match=r"would transfer 4\.66 MB, more than max_bytes allows \(1\.00 MB\); ask for"):
        fetch(max_bytes="1 MB")
    assert host.sent(CONTENT) == 0
    with pytest.raises(ValueError, match="max_bytes must be"):
        fetch(max_bytes="much")


def test_zoo_of_other_networks_is_refused(host: Loopback, data_home: Path, tmp_path: Path) -> None:
    """A file whose networks are not those of the card is not taken for the zoo."""
    host.add_record(RECORD, {"mnist_seed.zip": write_zip(tmp_path / "a.zip", small_experiment())}, concept=CONCEPT)
    with pytest.raises(OSError, match=r"has networks of \d+ weights, but those of mnist_cnn_s_seed have 2464"):
        fetch()
    assert not (data_home / CARD).exists()


def test_offline_with_everything_cached(host: Loopback) -> None:
    """A zoo that is here needs no connection."""
    serve_zip(host, SEED_ZIP)
    fetch()
    host.log.clear()
    host.files.clear()
    assert len(fetch().data) == 160
    assert host.log == []


def test_dry_run_tells_files_and_bytes(host: Loopback, capsys: pytest.CaptureFixture[str]) -> None:
    """`zoobench fetch --dry-run` says what would be transferred, and transfers no checkpoint."""
    serve_zip(host, SEED_ZIP)
    assert main(["fetch", CARD, "--epochs", "5,10", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40 * 4 + 1
    assert lines[-1].startswith("160 files, ")
    assert "zenodo.org/records/6632087" in lines[-1]
    assert main(["fetch", CARD, "--epochs", "5"]) == 0
    assert "40 states of 40 models" in capsys.readouterr().out
    assert main(["fetch", CARD, "--epochs", "5", "--dry-run"]) == 0
    assert "nothing to transfer" in capsys.readouterr().out


def test_the_time_that_a_host_imposes_is_told(
    host: Loopback, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that answer so many requests a minute: before the first part of a file it is said how long they take."""
    serve_zip(host, SEED_ZIP)
    assert main(["fetch", CARD, "--epochs", "5", "--dry-run"]) == 0
    n_requests = int(capsys.readouterr().out.splitlines()[-1].partition(" requests, from")[0].split()[-1])
    monkeypatch.setitem(LIMITS, host.address, ((n_requests // 3, 60.0), (10_000, 3600.0)))
    assert main(["fetch", CARD, "--epochs", "5", "--dry-run"]) == 0
    assert f"{n_requests} requests, in 3 minutes at least, from" in capsys.readouterr().out


def test_offline_names_folder_addresses_and_command(monkeypatch: pytest.MonkeyPatch, data_home: Path) -> None:
    """Without a connection the error says what is missing, where it belongs, and how to go on."""
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(acquire, "HOSTS", Hosts(f"{nobody}/tree/", f"{nobody}/api"))
    with pytest.raises(OSError, match="no connection could be made") as caught:
        fetch_zoo(CARD, n_retries=0)
    for text in (CARD, str(data_home / CARD), "zenodo.org", "ai.unisg.ch", "503 MB", f"`zoobench fetch {CARD}`"):
        assert text in str(caught.value)
