"""fetch_zoo of published zoos, from each kind of source, on real hosts that serve real files."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loopback import Loopback
from zoo_files import small_experiment, write_zip
from zoobench import acquire, fetch_zoo, list_zoos, load_zoo
from zoobench.cli import main
from zoobench.origins import Hosts
from zoobench.store import check_zoo, read_index

CARD = "mnist_cnn_s_seed"
TREE = "core-modelzoo/cnn-small_mnist/tune_zoo_mnist_uniform"
ARCHIVE = "tune_zoo_digits_uniform.zip"


@pytest.fixture(scope="module")
def raw(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real experiment as a tree of files, without what no reader needs."""
    out = tmp_path_factory.mktemp("raw")
    with zipfile.ZipFile(data_dir / ARCHIVE) as archive:
        names = [n for n in archive.namelist() if n.endswith(("/checkpoints", "params.json", "result.json"))]
        archive.extractall(out, names)
    return out / ARCHIVE.removesuffix(".zip")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as server:
        monkeypatch.setattr(acquire, "HOSTS", Hosts(server.url("tree") + "/", server.url("api")))
        yield server


def serve_tree(host: Loopback, raw: Path, *, name: str = TREE) -> None:
    for path in raw.rglob("*"):
        if path.is_file():
            host.add(f"tree/{name}/{path.relative_to(raw).as_posix()}", path)


def serve_zip(host: Loopback, data_dir: Path) -> None:
    host.add_record(6632087, {"mnist_seed.zip": data_dir / ARCHIVE}, concept=6632086)


def assert_same_states(zoo, expected) -> None:
    assert np.array_equal(zoo.data, expected.data)
    assert np.array_equal(zoo.target, expected.target)
    assert list(zoo.properties["model"].astype(str)) == list(expected.properties["model"].astype(str))


def fetch(**arguments):
    return fetch_zoo(CARD, n_retries=2, delay=0.01, **arguments)


def test_whole_zoo_from_a_record(host: Loopback, data_dir: Path, data_home: Path) -> None:
    """The zip of a Zenodo record is fetched once, converted, and gone: what stays is the zoo."""
    serve_zip(host, data_dir)
    assert_same_states(fetch(), load_zoo(data_dir / ARCHIVE))
    assert host.sent() >= (data_dir / ARCHIVE).stat().st_size
    assert check_zoo(data_home / CARD)["card"]["name"] == CARD
    assert not list((data_home / ".raw" / CARD).glob("*"))
    before = len(host.log)
    assert_same_states(fetch(epochs=5), load_zoo(data_dir / ARCHIVE, epochs=5))
    assert len(host.log) == before
    assert CARD in set(list_zoos(dataset="mnist", cached=True)["name"])


def test_some_epochs_from_a_record_and_more_later(host: Loopback, data_dir: Path, data_home: Path) -> None:
    """An epoch of a remote zip transfers its members alone; another later adds itself; again transfers nothing."""
    serve_zip(host, data_dir)
    with zipfile.ZipFile(data_dir / ARCHIVE) as archive:
        infos = [i for i in archive.infolist() if i.filename.endswith(("_000005/checkpoints", "s.json", "t.json"))]
        directory = (data_dir / ARCHIVE).stat().st_size - archive.start_dir
    wanted = sum(info.compress_size for info in infos)
    assert_same_states(fetch(epochs=5), load_zoo(data_dir / ARCHIVE, epochs=5))
    assert host.sent("api/records/6632087/files/mnist_seed.zip/content") <= wanted * 1.1 + directory + 65536
    assert read_index(data_home / CARD)["provenance"]["epochs"] == [5]
    assert_same_states(fetch(epochs=[5, 10]), load_zoo(data_dir / ARCHIVE, epochs=[5, 10]))
    content = "api/records/6632087/files/mnist_seed.zip/content"
    assert host.sent(content) < (data_dir / ARCHIVE).stat().st_size / 2
    before = len(host.log)
    assert_same_states(fetch(epochs=[10]), load_zoo(data_dir / ARCHIVE, epochs=10))
    assert len(host.log) == before


def test_some_epochs_from_a_tree_of_files(host: Loopback, raw: Path, data_home: Path) -> None:
    """The per-file host is asked first for some epochs, and only for their files."""
    serve_tree(host, raw)
    assert_same_states(fetch(epochs=[1]), load_zoo(raw, epochs=1))
    asked = [seen.path for seen in host.requests()]
    assert not any("checkpoint_000005" in path for path in asked)
    fetch(epochs=[1, 5])
    assert_same_states(fetch(epochs=[1, 5]), load_zoo(raw, epochs=[1, 5]))
    for name in ("checkpoint_000001/checkpoints", "checkpoint_000005/checkpoints", "result.json", "params.json"):
        assert sum(seen.path.endswith(name) for seen in host.requests()) == 40, name


def test_a_file_that_comes_whole_is_kept_whole(host: Loopback, data_dir: Path) -> None:
    """Where a host serves no parts of a file, the other epochs of it need no second transfer."""
    serve_zip(host, data_dir)
    host.ranges = False
    assert_same_states(fetch(epochs=5), load_zoo(data_dir / ARCHIVE, epochs=5))
    before = len(host.log)
    assert_same_states(fetch(epochs=[1, 10]), load_zoo(data_dir / ARCHIVE, epochs=[1, 10]))
    assert_same_states(fetch(), load_zoo(data_dir / ARCHIVE))
    assert len(host.log) == before


def test_a_renamed_folder_is_found_by_its_pattern(host: Loopback, raw: Path) -> None:
    """The host's names are not uniform."""
    serve_tree(host, raw, name=TREE.replace("tune_zoo_mnist_uniform", "tune_zoo_m_nist_uniform"))
    assert len(fetch(epochs=[1]).data) == 40


def test_mirror_comes_first(host: Loopback, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ZOOBENCH_MIRROR, a local folder or an address, the published hosts are not asked."""
    shutil.copytree(raw, tmp_path / "mirror" / TREE)
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror"))
    assert_same_states(fetch(epochs=[1]), load_zoo(raw, epochs=1))
    assert host.log == []


def test_next_source_is_asked_when_one_fails(host: Loopback, raw: Path) -> None:
    """The record is gone, the tree is there: the whole zoo comes from the tree."""
    serve_tree(host, raw)
    assert_same_states(fetch(), load_zoo(raw))


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


def test_more_than_max_bytes_is_refused(host: Loopback, data_dir: Path) -> None:
    """Before the first byte of a file, with the size and what to do."""
    serve_zip(host, data_dir)
    with pytest.raises(ValueError, match=r"would transfer 4\.66 MB, more than max_bytes allows \(1\.00 MB\); ask for"):
        fetch(max_bytes="1 MB")
    assert host.sent("api/records/6632087/files/mnist_seed.zip/content") == 0
    with pytest.raises(ValueError, match="max_bytes must be"):
        fetch(max_bytes="much")


def test_a_wrong_checksum_is_refused(host: Loopback, data_dir: Path, data_home: Path) -> None:
    """What does not have the record's md5 is not used, and nothing of it stays."""
    serve_zip(host, data_dir)
    damaged = bytearray((data_dir / ARCHIVE).read_bytes())
    damaged[1_000_000] ^= 1
    path = next(path for path in host.files if path.endswith("mnist_seed.zip/content"))
    host.files[path] = bytes(damaged)
    with pytest.raises(OSError, match="md5|checksum"):
        fetch()
    assert not (data_home / CARD).exists()


def test_zoo_of_other_networks_is_refused(host: Loopback, data_home: Path, tmp_path: Path) -> None:
    """A file whose networks are not those of the card is not taken for the zoo."""
    host.add_record(6632087, {"mnist_seed.zip": write_zip(tmp_path / "a.zip", small_experiment())}, concept=6632086)
    with pytest.raises(OSError, match=r"has networks of \d+ weights, but those of mnist_cnn_s_seed have 2464"):
        fetch()
    assert not (data_home / CARD).exists()


def test_offline_with_everything_cached(host: Loopback, data_dir: Path) -> None:
    """A zoo that is here needs no connection."""
    serve_zip(host, data_dir)
    fetch()
    host.log.clear()
    host.files.clear()
    assert len(fetch().data) == 160
    assert host.log == []


def test_dry_run_tells_files_and_bytes(host: Loopback, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`zoobench fetch --dry-run` says what would be transferred, and transfers no checkpoint."""
    serve_zip(host, data_dir)
    assert main(["fetch", CARD, "--epochs", "5,10", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 40 * 4 + 1
    assert lines[-1].startswith("160 files, ")
    assert "zenodo.org/records/6632087" in lines[-1]
    assert main(["fetch", CARD, "--epochs", "5"]) == 0
    assert "40 states of 40 models" in capsys.readouterr().out
    assert main(["fetch", CARD, "--epochs", "5", "--dry-run"]) == 0
    assert "nothing to transfer" in capsys.readouterr().out


def test_offline_names_folder_addresses_and_command(monkeypatch: pytest.MonkeyPatch, data_home: Path) -> None:
    """Without a connection the error says what is missing, where it belongs, and how to go on."""
    nobody = "http://127.0.0.1:9"
    monkeypatch.setattr(acquire, "HOSTS", Hosts(f"{nobody}/tree/", f"{nobody}/api"))
    with pytest.raises(OSError, match="no connection could be made") as caught:
        fetch_zoo(CARD, n_retries=0)
    for text in (CARD, str(data_home / CARD), "zenodo.org", "ai.unisg.ch", "503 MB", f"`zoobench fetch {CARD}`"):
        assert text in str(caught.value)
