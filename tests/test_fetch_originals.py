"""Downloaded files that are kept beside the zoo, originals that are dropped, and the clearing of the data folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zoo_files
from loopback import Fault, Loopback
from published import (
    CARD,
    CONTENT,
    RECORD,
    assert_same_states,
    fetch,
    files_of,
    serve_tree,
    serve_zip,
    served,
    start,
)
from zoobench import acquire, clear_data_home, fetch_zoo, load_zoo, save_zoo
from zoobench.cli import main
from zoobench.origins import Hosts
from zoobench.store import check_zoo, read_index


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def members() -> zoo_files.Members:
    return zoo_files.experiment(n_models=3)


@pytest.fixture(scope="module")
def archive(members: zoo_files.Members, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_files.write_zip(tmp_path_factory.mktemp("published") / "mnist_seed.zip", members)


# -- kept --------------------------------------------------------------------------------------------------------------


def test_a_kept_file_serves_epochs_that_are_asked_for_later(host: Loopback, data_home: Path, archive: Path) -> None:
    """A file that came whole is kept, bit for bit; of it come other epochs and the whole zoo, without one request."""
    serve_zip(host, archive)
    host.ranges = False
    assert_same_states(fetch(epochs=5, keep_original=True), load_zoo(archive, epochs=5))
    kept = data_home / ".raw" / CARD / archive.name
    assert kept.read_bytes() == archive.read_bytes()
    assert read_index(data_home / CARD)["provenance"]["epochs"] == [5]
    host.log.clear()
    for epochs in ([5, 10], [1], None):
        assert_same_states(fetch(epochs=epochs), load_zoo(archive, epochs=epochs))
    shutil.rmtree(data_home / CARD)
    assert_same_states(fetch(), load_zoo(archive))
    assert host.log == []
    assert kept.exists()


def test_a_kept_preprocessed_file_is_converted_whole(host: Loopback, data_home: Path) -> None:
    """Its models have an order of their own, which joined parts would not have; the file serves again nevertheless."""
    host.add_record(RECORD, {"dataset_mnist_seed.pt": zoo_files.SEED_PT})
    assert_same_states(fetch(epochs=5, keep_original=True), load_zoo(zoo_files.SEED_PT, epochs=5))
    host.log.clear()
    for epochs in ([5, 10], None):
        assert_same_states(fetch(epochs=epochs), load_zoo(zoo_files.SEED_PT, epochs=epochs))
    shutil.rmtree(data_home / CARD)
    assert_same_states(fetch(epochs=1), load_zoo(zoo_files.SEED_PT, epochs=1))
    assert host.log == []


def test_kept_parts_serve_what_they_hold(host: Loopback, data_home: Path, archive: Path) -> None:
    """Of an archive of which some epochs came, these are kept: the zoo is made again of them, others are fetched."""
    serve_zip(host, archive)
    fetch(epochs=[1, 5], keep_original=True)
    shutil.rmtree(data_home / CARD)
    host.log.clear()
    assert_same_states(fetch(epochs=5), load_zoo(archive, epochs=5))
    assert host.log == []
    fetch(epochs=[5, 10])
    assert_same_states(fetch(epochs=[5, 10]), load_zoo(archive, epochs=[5, 10]))
    assert not any(seen.path == CONTENT and seen.status != 206 for seen in host.log)
    host.log.clear()
    shutil.rmtree(data_home / CARD)
    assert_same_states(fetch(epochs=[1, 5, 10]), load_zoo(archive, epochs=[1, 5, 10]))
    assert host.log == []


def test_kept_single_files_serve_when_offline(
    host: Loopback, data_home: Path, members: zoo_files.Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole tree of single files is kept, and needs no network."""
    serve_tree(host, members)
    expected = fetch(keep_original=True)
    shutil.rmtree(data_home / CARD)
    monkeypatch.setattr(acquire, "HOSTS", Hosts("http://127.0.0.1:9/", "http://127.0.0.1:9/api"))
    assert_same_states(fetch(epochs=10), load_zoo(zoo_files.write_folder(data_home / "t", members), epochs=10))
    assert_same_states(fetch(), expected)


def test_nothing_is_kept_unasked(host: Loopback, data_home: Path, archive: Path) -> None:
    """Without keep_original the original is gone when the zoo is there; so are files that are not the kept ones."""
    serve_zip(host, archive)
    fetch(epochs=5, keep_original=True)
    fetch()
    raw = data_home / ".raw" / CARD
    assert not (raw / "mnist_seed.zip").exists()
    assert len(list((raw / "members").rglob("checkpoints"))) == 3
    clear_data_home()
    fetch()
    assert not raw.exists()


def test_a_damaged_original_is_fetched_anew(host: Loopback, data_home: Path, archive: Path) -> None:
    """A kept file that has been cut is not the end: it is compared with its source and fetched again."""
    serve_zip(host, archive)
    host.ranges = False
    fetch(epochs=5, keep_original=True)
    kept = data_home / ".raw" / CARD / archive.name
    kept.write_bytes(kept.read_bytes()[:-1000])
    assert_same_states(fetch(), load_zoo(archive))
    assert len(host.requests(CONTENT)) == 3  # the first, for parts, was refused


def test_keep_original_of_the_command(
    host: Loopback, data_home: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`zoobench fetch --keep-original` keeps it, and `--dry-run` says that more epochs take no transfer."""
    serve_zip(host, archive)
    host.ranges = False
    assert main(["fetch", CARD, "--epochs", "5", "--keep-original"]) == 0
    assert (data_home / ".raw" / CARD / "mnist_seed.zip").read_bytes() == archive.read_bytes()
    capsys.readouterr()
    assert main(["fetch", CARD, "--epochs", "10", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("0 files, 0 bytes, in 0 requests, from ")


# -- dropped -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "folder", "link"])
def test_drop_original_of_the_command(
    members: zoo_files.Members, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """`zoobench convert --drop-original` deletes file, folder or link when the zoo is written and checked."""
    source = tmp_path / "source"
    if form == "folder":
        zoo_files.write_folder(source, members)
    elif form == "zip":
        shutil.copy(archive, source)
    else:
        source.symlink_to(archive)
    assert main(["convert", str(source), str(tmp_path / "zoo"), "--drop-original"]) == 0
    assert "is deleted" in capsys.readouterr().out
    assert not source.exists()
    assert archive.exists()
    check_zoo(tmp_path / "zoo")
    assert_same_states(load_zoo(tmp_path / "zoo"), load_zoo(archive))


def test_what_overlaps_is_not_dropped(
    members: zoo_files.Members, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zoo inside its original, or the other way round, would be deleted with it: refused before anything happens."""
    source = zoo_files.write_folder(tmp_path / "a" / "b", members)
    (tmp_path / "link").symlink_to(source)
    for out in (source, source / "zoo", tmp_path / "a", tmp_path / "link" / "zoo"):
        before = files_of(tmp_path)
        assert main(["convert", str(source), str(out), "--drop-original"]) == 2
        assert "overlap" in capsys.readouterr().err
        assert files_of(tmp_path) == before


def test_what_is_not_taken_over_whole_is_not_dropped(
    members: zoo_files.Members, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither with `--epochs`, nor when a checkpoint cannot be read, nor when there is no zoo in the end."""
    damaged = dict(members)
    name = next(name for name in members if name.endswith("_000005/checkpoints"))
    damaged[name] = members[name][:-500]
    source = zoo_files.write_zip(tmp_path / "a.zip", damaged)
    assert main(["convert", str(source), str(tmp_path / "zoo"), "--epochs", "1", "--drop-original"]) == 2
    assert "would lose the epochs" in capsys.readouterr().err
    main(["convert", str(source), str(tmp_path / "zoo"), "--drop-original"])
    assert source.exists()
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04 and nothing else")
    assert main(["convert", str(tmp_path / "b.zip"), str(tmp_path / "zoo 2"), "--drop-original"]) == 1
    assert (tmp_path / "b.zip").exists()


# -- cleared -----------------------------------------------------------------------------------------------------------

HELD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_clearing_removes_everything_that_was_fetched(host: Loopback, data_home: Path, archive: Path) -> None:
    """Zoos, kept originals, checksums and locks: an empty folder is gone as well, a user's file stays."""
    serve_zip(host, archive)
    fetch(epochs=5, keep_original=True)
    clear_data_home()
    assert not data_home.exists()
    fetch()
    (data_home / "notes.txt").write_text("mine")
    clear_data_home()
    assert [path.name for path in data_home.iterdir()] == ["notes.txt"]
    assert len(fetch(epochs=5).data) == 3


def test_clearing_while_another_process_fetches(host: Loopback, data_home: Path, archive: Path) -> None:
    """The zoo that is being fetched stays, and the other process finishes; the rest is deleted; the error says so."""
    serve_zip(host, archive)
    host.fail(CONTENT, Fault(hold_after=1000))
    other = data_home / "usps_cnn_s_seed"
    save_zoo(fetch_zoo("digits_cnn_s", epochs="last"), other)
    process = start(host)
    while not host.requests(CONTENT):
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(OSError, match=f"another process is fetching {CARD} into {data_home}, so that stays"):
        clear_data_home()
    assert not other.exists()
    host.release.set()
    assert process.communicate(timeout=300)[0] == "fetched 12\n"
    check_zoo(data_home / CARD)
    clear_data_home()
    assert not data_home.exists()
