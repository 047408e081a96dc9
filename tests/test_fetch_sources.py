"""fetch_zoo from every kind of source, whole, in part and by and by; which source is asked, and for how many bytes."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import zoo_files
from loopback import Fault, Loopback
from published import (
    API,
    CARD,
    CONTENT,
    CONTENT_PT,
    RECORD,
    TREE,
    assert_same_states,
    eleven_epochs,
    fetch,
    files_of,
    serve_tree,
    serve_zip,
    served,
)
from zoobench import acquire, load_zoo
from zoobench.datasets_registry import Card, find_card
from zoobench.datasets_registry.sources import Source, UrlSource, ZenodoSource
from zoobench.download.remote import DownloadError
from zoobench.fetch import stored_at
from zoobench.origins import Hosts
from zoobench.store import check_zoo

NOWHERE = Hosts("http://127.0.0.1:9/", "http://127.0.0.1:9/api", "http://127.0.0.1:9/")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def members() -> zoo_files.Members:
    return zoo_files.experiment(n_models=4)


@pytest.fixture(scope="module")
def archive(members: zoo_files.Members, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zoo_files.write_zip(tmp_path_factory.mktemp("published") / "mnist_seed.zip", members)


@pytest.fixture
def comes_from(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Card]:
    """Lets the zoo's card name other sources."""

    def change(*sources: Source) -> Card:
        card = replace(find_card(CARD), sources=sources)
        monkeypatch.setattr("zoobench.fetch.find_card", lambda name, variant=None: card)
        return card

    return change


@pytest.fixture(
    params=[
        "record, zip",
        "record, pt",
        "single files",
        "plain address, tar",
        "plain address, zip",
        "mirror with a record's file",
        "mirror with single files",
        "folder with a record's file",
        "folder with single files",
    ]
)
def original(
    request: pytest.FixtureRequest,
    host: Loopback,
    members: zoo_files.Members,
    archive: Path,
    comes_from: Callable[..., Card],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Puts the zoo where one kind of source has it, and nowhere else; the file that it is made of."""
    kind, _, what = request.param.partition(" with ")
    if what:
        monkeypatch.setattr(acquire, "HOSTS", NOWHERE)
        tree = {f"{TREE}/{name.partition('/')[2]}": content for name, content in members.items()}
        copies = tree if what == "single files" else {f"{CARD}/{archive.name}": archive.read_bytes()}
        if kind == "folder":
            zoo_files.write_folder(tmp_path / "copies", copies)
            monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "copies"))
        else:
            for name, content in copies.items():
                host.add(f"copies/{name}", content)
            monkeypatch.setenv("ZOOBENCH_MIRROR", host.url("copies"))
    elif kind == "record, zip":
        serve_zip(host, archive)
    elif kind == "record, pt":
        host.add_record(RECORD, {"dataset_mnist_seed.pt": zoo_files.SEED_PT})
        return zoo_files.SEED_PT
    elif kind == "single files":
        serve_tree(host, members)
    elif kind == "plain address, tar":
        comes_from(UrlSource(format="experiment", url="https://zoos.example/files/mnist.tar"))
        host.add("plain/zoos.example/files/mnist.tar", zoo_files.write_tar(tmp_path / "mnist.tar", members))
    else:
        comes_from(UrlSource(format="experiment", url="https://zoos.example/files/mnist.zip"))
        host.add("plain/zoos.example/files/mnist.zip", archive)
    return archive


def test_whole_from_each_kind_of_source(original: Path, host: Loopback, data_home: Path) -> None:
    """The zoo is what its original holds, nothing of the original stays, and the next call asks nobody."""
    assert_same_states(fetch(), load_zoo(original))
    check_zoo(data_home / CARD)
    assert not list((data_home / ".raw").glob("*/"))
    before = len(host.log)
    assert_same_states(fetch(epochs="last"), load_zoo(original, epochs="last"))
    assert len(host.log) == before


def test_in_part_from_each_kind_of_source(original: Path, host: Loopback, data_home: Path) -> None:
    """An epoch, then more, one of them again, then all: always what the original holds; what is here asks nobody."""
    for epochs in (5, [5, 10], [10, 1], None):
        assert_same_states(fetch(epochs=epochs), load_zoo(original, epochs=epochs))
        before = len(host.log)
        assert_same_states(fetch(epochs=epochs), load_zoo(original, epochs=epochs))
        assert len(host.log) == before
    check_zoo(data_home / CARD)


def test_an_epoch_of_eleven_takes_few_bytes(host: Loopback, tmp_path: Path) -> None:
    """From a remote archive with eleven epochs come its directory, what is wanted, and 64 KB at most; again, none."""
    archive = zoo_files.write_zip(tmp_path / "mnist_seed.zip", eleven_epochs())
    serve_zip(host, archive)
    with zipfile.ZipFile(archive) as content:
        infos, directory = content.infolist(), archive.stat().st_size - content.start_dir
    notes = [info for info in infos if info.filename.endswith(("params.json", "result.json"))]
    for epoch, wanted in ((5, notes), (7, [])):
        of_epoch = [info for info in infos if info.filename.endswith(f"_{epoch:06d}/checkpoints")]
        bytes_wanted = sum(info.compress_size for info in [*of_epoch, *wanted])
        before = host.sent(CONTENT)
        assert len(fetch(epochs=epoch).data) == 8
        assert host.sent(CONTENT) - before <= directory + bytes_wanted + (1 << 16)
        before = host.sent()
        assert len(fetch(epochs=epoch).data) == 8
        assert host.sent() == before
    assert host.sent(CONTENT) < archive.stat().st_size / 2


@pytest.mark.parametrize("kind", ["zip", "tree"])
def test_an_epoch_that_the_source_lacks(
    host: Loopback, data_home: Path, members: zoo_files.Members, archive: Path, kind: str
) -> None:
    """The card lists it, the host has it not: the error says what there is, nothing is transferred for it, and what
    was fetched before stays as it was.
    """
    if kind == "zip":
        serve_zip(host, archive)
    else:
        serve_tree(host, members)
    with pytest.raises(DownloadError, match="has no checkpoint of epoch 7, 50; it has epochs 0, 1, 5, 10"):
        fetch(epochs=[5, 7, 50])
    assert not (data_home / CARD).exists()
    assert not any(seen.path.endswith("checkpoints") for seen in host.log)
    fetch(epochs=5)
    before = files_of(data_home / CARD)
    with pytest.raises(DownloadError, match="has no checkpoint of epoch 50; it has epochs 0, 1, 5, 10"):
        fetch(epochs=[5, 50])
    assert files_of(data_home / CARD) == before
    assert len(fetch(epochs=5).data) == 4


def test_a_source_that_has_the_epoch_is_found(host: Loopback, tmp_path: Path, members: zoo_files.Members) -> None:
    """Single files lack the epoch, the record's archive has it."""
    serve_tree(host, members)
    serve_zip(host, zoo_files.write_zip(tmp_path / "mnist_seed.zip", eleven_epochs(4)))
    assert sorted(set(fetch(epochs=[5, 7]).properties["epoch"])) == [5, 7]


def test_sources_in_their_order(host: Loopback, archive: Path, comes_from: Callable[..., Card]) -> None:
    """The first that works is taken; why others do not is told only if none does."""
    names = [f"https://zoos.example/{name}/mnist.zip" for name in ("first", "second", "third")]
    comes_from(*(UrlSource(format="experiment", url=name) for name in names))
    paths = [f"plain/zoos.example/{name}/mnist.zip" for name in ("first", "second", "third")]
    for path in paths[1:]:
        host.add(path, archive)
    host.fail(paths[1], Fault(status=410))
    assert_same_states(fetch(), load_zoo(archive))
    assert [len(host.requests(path)) for path in paths] == [1, 1, 1]


def test_every_reason_is_told(host: Loopback, archive: Path, comes_from: Callable[..., Card], data_home: Path) -> None:
    """Where no source works the error has the reason of each, the folder and what to do."""
    comes_from(
        UrlSource(format="experiment", url="https://zoos.example/a.zip"),
        ZenodoSource(format="experiment", doi="10.5281/zenodo.6632086", record=RECORD, file="*seed.zip"),
        ZenodoSource(format="experiment", doi="10.5281/zenodo.6632086", record=RECORD, file="*"),
    )
    host.add_record(RECORD, {"one.zip": archive, "two.zip": archive})
    with pytest.raises(DownloadError) as caught:
        fetch()
    for text in (
        "a.zip: the host answers 404 Not Found".replace("a.zip: ", ""),
        f"the record https://zenodo.org/records/{RECORD} has no file that matches '*seed.zip'",
        "has more than one file that matches '*'; its files are: one.zip, two.zip",
        f"zoo '{CARD}' could not be fetched into {data_home / CARD}",
        f"`zoobench fetch {CARD}`",
        "ZOOBENCH_MIRROR",
    ):
        assert text in str(caught.value)


def test_a_mirror_that_lists_nothing(
    host: Loopback, archive: Path, comes_from: Callable[..., Card], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain file server as the mirror, and no connection to the publisher: a file whose name is known comes."""
    monkeypatch.setattr(acquire, "HOSTS", NOWHERE)
    monkeypatch.setenv("ZOOBENCH_MIRROR", host.url("copies"))
    host.add(f"copies/{CARD}/mnist_seed.zip", archive)
    host.fail(f"copies/{CARD}/", Fault(status=403, times=99))
    doi = "10.5281/zenodo.6632086"
    comes_from(ZenodoSource(format="experiment", doi=doi, record=RECORD, file="*.zip"))
    with pytest.raises(DownloadError):
        fetch(n_retries=0)
    comes_from(ZenodoSource(format="experiment", doi=doi, record=RECORD, file="mnist_seed.zip"))
    assert_same_states(fetch(n_retries=0), load_zoo(archive))


def test_a_mirror_that_lacks_a_file(
    host: Loopback, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the mirror does not have comes from the publisher, whole and in part."""
    serve_zip(host, archive)
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path))
    assert_same_states(fetch(epochs=5), load_zoo(archive, epochs=5))
    assert_same_states(fetch(), load_zoo(archive))


def test_a_mirror_with_another_file(
    host: Loopback, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy without the publisher's checksum is not taken: the publisher is asked."""
    serve_zip(host, archive)
    (tmp_path / CARD).mkdir()
    damaged = bytearray(archive.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / CARD / "mnist_seed.zip").write_bytes(damaged)
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path))
    assert_same_states(fetch(), load_zoo(archive))
    assert host.sent(CONTENT) == archive.stat().st_size


def test_a_preprocessed_file_comes_last(host: Loopback, archive: Path) -> None:
    """The raw archive is preferred: the authors' own file has other splits and fewer properties."""
    host.add_record(RECORD, {"dataset_mnist_seed.pt": zoo_files.SEED_PT, "mnist_seed.zip": archive})
    assert_same_states(fetch(), load_zoo(archive))
    assert host.requests(CONTENT_PT) == []
    assert len(host.requests(API)) == 1


def test_what_an_earlier_call_fetched_is_used(host: Loopback, data_home: Path, archive: Path, tmp_path: Path) -> None:
    """A whole archive that lies among the raw files serves also a call for some epochs."""
    serve_zip(host, archive)
    fetch(keep_original=True)
    shutil.rmtree(data_home / CARD)
    (data_home / ".raw" / CARD / "kept.json").unlink()
    before = host.sent(CONTENT)
    assert len(fetch(epochs=5).data) == 4
    assert host.sent(CONTENT) == before


def test_a_source_of_some_epochs_gives_no_whole_zoo(
    host: Loopback, archive: Path, comes_from: Callable[..., Card]
) -> None:
    """What it has is fetched; more of the zoo is then missing, not complete, and is not taken from there."""
    card = comes_from(ZenodoSource(format="experiment", doi=f"10.5281/zenodo.{RECORD}", file="*.zip", epochs=(0, 5)))
    serve_zip(host, archive)
    host.ranges = False
    with pytest.raises(DownloadError, match="has only epochs 0, 5"):
        fetch()
    assert sorted(set(fetch(epochs=[0, 5]).properties["epoch"])) == [0, 5]
    folder = stored_at(card)
    assert acquire.missing_epochs(card, folder, (5, 25)) == (25,)
    assert acquire.missing_epochs(card, folder, None) is None


def test_single_files_of_unknown_size_count_for_their_weights(host: Loopback, members: zoo_files.Members) -> None:
    """Where the host does not tell sizes, a zoo is at least as large as its weights: refused before the first byte."""
    serve_tree(host, members)
    with pytest.raises(ValueError, match=r"would transfer at least .* kB, more than max_bytes allows \(10\.0 kB\)"):
        fetch(epochs=[5], max_bytes="10 kB")
    assert not [request for request in host.requests() if request.path.endswith("/checkpoints")]
