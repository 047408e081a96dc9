"""fetch_zoo from hosts and onto disks that fail: what passes is repeated, what does not is said in one sentence."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import zoo_files
from loopback import Fault, Loopback
from published import (
    API,
    CARD,
    CONTENT,
    TREE,
    assert_same_states,
    fetch,
    files_of,
    outcome,
    ranges_of,
    serve_tree,
    serve_zip,
    served,
    start,
)
from zoobench import ZooFormatError, load_zoo
from zoobench.cli import main
from zoobench.download.remote import DownloadError, NoSpaceError
from zoobench.store import FORMAT_VERSION, _checksum
from zoobench.zoo import Zoo

SIZE = zoo_files.SEED_ZIP.stat().st_size


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def whole() -> Zoo:
    return load_zoo(zoo_files.SEED_ZIP)


@pytest.fixture(scope="module")
def few() -> zoo_files.Members:
    """Three models with all their epochs."""
    return zoo_files.experiment(n_models=3)


def a_checkpoint(host: Loopback, epoch: int) -> str:
    return next(path for path in sorted(host.files) if path.endswith(f"checkpoint_{epoch:06d}/checkpoints"))


# -- hosts -------------------------------------------------------------------------------------------------------------


def test_hosts_that_refuse_python_are_satisfied(host: Loopback, few: zoo_files.Members) -> None:
    """Zenodo answers 403 to the user agents of Python's libraries: every request names this project instead."""
    serve_zip(host, zoo_files.SEED_ZIP)
    serve_tree(host, few)
    assert requests.get(host.url(API), timeout=10).status_code == 403
    host.log.clear()
    fetch(epochs=1)
    fetch()
    assert len(host.log) > 10
    assert all(seen.headers["User-Agent"].startswith("zoobench/") for seen in host.log)


@pytest.mark.parametrize("path", [API, CONTENT])
def test_retry_after_of_a_record_is_honoured(host: Loopback, whole: Zoo, path: str) -> None:
    """429 with Retry-After, of the interface or of a file: the next request comes no sooner, and then all is well."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(path, Fault(status=429, headers={"Retry-After": "1"}))
    assert_same_states(fetch(), whole)
    first, second = host.requests(path)[:2]
    assert second.time - first.time >= 0.99


def test_retry_after_of_single_files_is_honoured(host: Loopback, few: zoo_files.Members) -> None:
    """429 with Retry-After for one of many parallel requests: it is asked again, no sooner than the host wants."""
    serve_tree(host, few)
    path = a_checkpoint(host, 5)
    host.fail(path, Fault(status=429, headers={"Retry-After": "1"}))
    assert len(fetch(epochs=5).data) == 3
    first, second = host.requests(path)
    assert second.time - first.time >= 0.99


@pytest.mark.parametrize("epochs", [None, 5])
def test_a_host_that_stumbles_is_asked_again(host: Loopback, whole: Zoo, epochs: int | None) -> None:
    """500 and then success, of the record's description and of its file, whole and by range: nobody notices."""
    serve_zip(host, zoo_files.SEED_ZIP)
    for path in (API, CONTENT):
        host.fail(path, Fault(status=500), Fault(status=503))
    expected = whole if epochs is None else load_zoo(zoo_files.SEED_ZIP, epochs=epochs)
    assert_same_states(fetch(epochs=epochs), expected)
    assert [seen.status for seen in host.requests(API)] == [500, 503, 200]


def test_a_tree_that_stumbles_is_asked_again(host: Loopback, few: zoo_files.Members) -> None:
    """500 and then success, of the listing of a folder and of a checkpoint."""
    serve_tree(host, few)
    for path in (f"tree/{TREE}/", a_checkpoint(host, 1)):
        host.fail(path, Fault(status=500))
    assert len(fetch(epochs=1).data) == 3


def test_a_dropped_connection_is_resumed(host: Loopback, whole: Zoo) -> None:
    """Twice the connection breaks in the middle of the file: only what is missing is asked for, by range."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(CONTENT, Fault(drop_after=2_000_000), Fault(drop_after=1_000_000))
    assert_same_states(fetch(), whole)
    assert ranges_of(host, CONTENT) == [None, "bytes=2000000-", "bytes=3000000-"]
    assert host.sent(CONTENT) == SIZE


def test_a_dropped_connection_among_parts_is_repeated(host: Loopback) -> None:
    """The connection breaks in the middle of a range: that range is asked for again, the others are not."""
    serve_zip(host, zoo_files.SEED_ZIP)
    fetch(epochs=1)
    asked = len(host.requests(CONTENT))
    host.log.clear()
    host.fail(CONTENT, Fault(drop_after=3000))
    fetch(epochs=[1, 10])
    assert_same_states(fetch(epochs=[1, 10]), load_zoo(zoo_files.SEED_ZIP, epochs=[1, 10]))
    asked = ranges_of(host, CONTENT)
    assert len(asked) == len(set(asked)) + 1


def test_a_body_that_ends_early_is_noticed(host: Loopback, whole: Zoo) -> None:
    """The last bytes do not come although they were announced: they are asked for."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.fail(CONTENT, Fault(drop_after=SIZE - 5))
    assert_same_states(fetch(), whole)
    assert ranges_of(host, CONTENT)[1] == f"bytes={SIZE - 5}-"


def test_a_file_that_lost_its_end_is_refused(host: Loopback, data_home: Path) -> None:
    """The host has fewer bytes than the record says: refused before they come, nothing is cached."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.files[CONTENT] = zoo_files.SEED_ZIP.read_bytes()[:-1000]
    with pytest.raises(DownloadError, match=f"{SIZE} bytes were expected, but the host has {SIZE - 1000}"):
        fetch()
    assert [name for name in files_of(data_home) if not name.endswith(".json")] == []


def test_a_wrong_checksum_is_refused(host: Loopback, data_home: Path) -> None:
    """A file without the record's md5 is not used, both digests are told, and nothing of it is cached."""
    serve_zip(host, zoo_files.SEED_ZIP)
    damaged = bytearray(host.read(CONTENT))
    damaged[1_000_000] ^= 1
    host.files[CONTENT] = bytes(damaged)
    with pytest.raises(DownloadError, match="it was deleted; try again, and tell the publisher") as caught:
        fetch()
    for content in (damaged, zoo_files.SEED_ZIP.read_bytes()):
        assert hashlib.md5(content).hexdigest() in str(caught.value)
    assert files_of(data_home) == {}


def test_a_damaged_member_is_refused(host: Loopback, data_home: Path, tmp_path: Path, few: zoo_files.Members) -> None:
    """Parts of a file have no published checksum, but the archive has one of each member: it is looked at."""
    name = next(name for name in few if name.endswith("_000005/checkpoints"))
    archive = zoo_files.write_zip(tmp_path / "a.zip", few)
    serve_zip(host, zoo_files.flipped_in_zip(archive.read_bytes(), name))
    with pytest.raises(DownloadError, match=r"checkpoint_000005/checkpoints in mnist_seed\.zip"):
        fetch(epochs=5)
    assert not (data_home / CARD).exists()
    assert not [path for path in files_of(data_home) if path.endswith(name)]


def test_a_single_file_that_has_changed_is_refused(host: Loopback, data_home: Path, few: zoo_files.Members) -> None:
    """No checksum is published: the first download's is kept, another content is refused, and the error says how to
    accept it.
    """
    serve_tree(host, few)
    fetch(epochs=1)
    shutil.rmtree(data_home / CARD)
    path = a_checkpoint(host, 1)
    host.files[path] = host.read(a_checkpoint(host, 5))
    with pytest.raises(DownloadError, match=r"has changed since it was first fetched on .* accept it by: python -c"):
        fetch(epochs=1)
    assert not (data_home / CARD).exists()


@pytest.mark.parametrize("path", [API, CONTENT, f"tree/{TREE}/", "a checkpoint"])
def test_a_web_page_is_no_answer(host: Loopback, data_home: Path, few: zoo_files.Members, path: str) -> None:
    """A page with status 200, of a login or of a host that hides its errors, is refused wherever it comes."""
    if path in (API, CONTENT):
        serve_zip(host, zoo_files.SEED_ZIP)
    else:
        serve_tree(host, few)
        path = a_checkpoint(host, 5) if path == "a checkpoint" else path
    page = Fault(status=200, headers={"Content-Type": "text/html"}, body=b"<!DOCTYPE html>Sign in", times=99)
    host.fail(path, page)
    with pytest.raises(DownloadError, match="web page instead of the file|JSON was expected, but the answer is text"):
        fetch()
    assert not (data_home / CARD).exists()
    assert not any(page.body in content for content in files_of(data_home).values())


def test_redirects_are_followed(host: Loopback, whole: Zoo) -> None:
    """Hosts send one to their stores: whole files, parts of them and listings come from there."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.files["store/one.zip"] = host.files.pop(CONTENT)
    host.redirects |= {CONTENT: "/hop", "hop": host.url("store/one.zip")}
    assert_same_states(fetch(epochs=5), load_zoo(zoo_files.SEED_ZIP, epochs=5))
    assert host.sent("store/one.zip") < SIZE / 2
    assert_same_states(fetch(), whole)


@pytest.mark.parametrize("target", [f"/{CONTENT}", "file:///etc/passwd"])
def test_redirects_that_lead_astray_are_refused(host: Loopback, data_home: Path, target: str) -> None:
    """A circle ends, and no host can make us read a file of this machine."""
    serve_zip(host, zoo_files.SEED_ZIP)
    host.redirects[CONTENT] = target
    with pytest.raises(DownloadError, match=r"cannot fetch mnist_seed\.zip"):
        fetch()
    assert files_of(data_home) == {}


def test_a_listing_without_the_folder_names_what_there_is(host: Loopback, few: zoo_files.Members) -> None:
    """Where the host has no folder of the name or its spellings, the error says what it has."""
    serve_tree(host, few, name=TREE.replace("tune_zoo_mnist_uniform", "somewhere_else"))
    with pytest.raises(DownloadError, match=r"there is no folder 'tune_zoo_mnist_uniform' in .*; there is somewhere_"):
        fetch(epochs=1)


@pytest.mark.parametrize("answer", [b'{"name": "x"}', b'[{"name": "../x", "type": "file"}]', b"[1, 2]"])
def test_a_listing_of_another_kind_is_refused(
    host: Loopback, data_home: Path, few: zoo_files.Members, answer: bytes
) -> None:
    """What does not describe a folder, or names files outside it, is told and not followed."""
    serve_tree(host, few)
    headers = {"Content-Type": "application/json"}
    host.fail(f"tree/{TREE}/", Fault(status=200, headers=headers, body=answer, times=99))
    with pytest.raises(DownloadError, match="a directory listing was expected, but the answer is something else"):
        fetch(epochs=1)
    assert files_of(data_home) == {}


# -- disks -------------------------------------------------------------------------------------------------------------

#: Root may write everywhere. What loads late has to do so before the rights are gone.
AS_NOBODY = """
import os, pooch
fetch_zoo("digits_cnn_s")
if os.geteuid() == 0:
    os.seteuid(65534)
"""


def test_a_data_folder_below_a_file(
    host: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data folder that cannot be made: one sentence names it and the remedy, before any request."""
    serve_zip(host, zoo_files.SEED_ZIP)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ZOOBENCH_DATA", str(tmp_path / "file" / "zoos"))
    with pytest.raises(DownloadError, match=f"{tmp_path}/file/zoos cannot be written to.*ZOOBENCH_DATA"):
        fetch()
    assert main(["fetch", CARD]) == 1
    assert f"{tmp_path}/file/zoos" in capsys.readouterr().err
    assert host.log == []


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder that other users can reach, which those of pytest cannot be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("ZOOBENCH_DATA", name)
        yield Path(name)
        for path in (Path(name), *Path(name).rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


def test_a_read_only_data_folder(host: Loopback, open_folder: Path) -> None:
    """Nothing can be put there: one sentence says so, and what to do, before any request."""
    serve_zip(host, zoo_files.SEED_ZIP)
    open_folder.chmod(0o555)
    line = outcome(start(host, before=AS_NOBODY))
    assert line.startswith(f"DownloadError cannot fetch zoo '{CARD}': {open_folder} may not be written to")
    assert line.endswith("change its permissions, or name another folder in ZOOBENCH_DATA")
    assert host.log == []


@pytest.mark.slow
def test_a_zoo_in_a_read_only_data_folder(host: Loopback, open_folder: Path, few: zoo_files.Members) -> None:
    """Zoos that an administrator fetched for everybody open; more epochs of them cannot be fetched, and it is said."""
    serve_tree(host, few)
    fetch(epochs=1)
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o555)
    assert outcome(start(host, before=AS_NOBODY, epochs=1)) == "fetched 3"
    before = files_of(open_folder)
    assert "may not be written to" in outcome(start(host, before=AS_NOBODY, epochs=[1, 5]))
    assert files_of(open_folder) == before


def test_too_little_space_is_said_before_the_first_byte(
    host: Loopback, few: zoo_files.Members, data_home: Path
) -> None:
    """A record whose file is larger than the disk: the error has both sizes, and no other source is tried."""
    serve_zip(host, zoo_files.SEED_ZIP)
    serve_tree(host, few)
    record = json.loads(host.files[API])
    record["files"][0]["size"] = 10**18
    host.files[API] = json.dumps(record).encode()
    host.fail(CONTENT, Fault(announce=10**18))
    with pytest.raises(NoSpaceError, match=r"1\.00 EB are still to come, but the disk of .* has .*B free; make room"):
        fetch(max_bytes="9999999 TB")
    assert not any(seen.path.startswith("tree") for seen in host.log)
    assert files_of(data_home) == {}


def limited(n_bytes: int) -> str:
    return f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({n_bytes}, resource.RLIM_INFINITY))"


def test_a_disk_that_fills_up_during_the_download(host: Loopback, data_home: Path, whole: Zoo) -> None:
    """One sentence; what has arrived is kept, and with room again only the rest comes."""
    serve_zip(host, zoo_files.SEED_ZIP)
    line = outcome(start(host, before=limited(1_000_000)))
    assert line.startswith("NoSpaceError cannot fetch mnist_seed.zip: the disk of ")
    assert "make room and try again, what has arrived is kept" in line
    assert not (data_home / CARD).exists()
    before = host.sent(CONTENT)
    assert_same_states(fetch(), whole)
    assert host.sent(CONTENT) - before == SIZE - 1_000_000


def test_a_disk_that_fills_up_during_conversion(host: Loopback, data_home: Path, few: zoo_files.Members) -> None:
    """One sentence; no half zoo; with room again it is converted, and no checkpoint is transferred a second time."""
    serve_tree(host, few)
    line = outcome(start(host, before=limited(60_000)))  # the weights of twelve states take twice as much
    assert line.startswith(f"NoSpaceError cannot fetch zoo '{CARD}': the disk of {data_home} is full")
    assert not (data_home / CARD / "zoo.json").exists()
    path = a_checkpoint(host, 5)
    assert len(fetch().data) == 12
    assert len(host.requests(path)) == 1


@pytest.mark.slow
def test_a_disk_that_fills_up_when_epochs_are_added(host: Loopback, data_home: Path, few: zoo_files.Members) -> None:
    """The zoo stays as it was, and can be used."""
    serve_tree(host, few)
    fetch(epochs=1)
    before = files_of(data_home / CARD)
    assert outcome(start(host, before=limited(60_000))).startswith("NoSpaceError")
    assert files_of(data_home / CARD) == before
    assert len(fetch(epochs=1).data) == 3


def test_a_conversion_that_has_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`zoobench convert` onto a full disk, or to where no folder can be: a sentence names both and the remedy."""
    (tmp_path / "file").write_text("not a folder")
    assert main(["convert", str(zoo_files.SEED_ZIP), str(tmp_path / "file" / "zoo")]) == 1
    sentence = (
        rf"zoobench: cannot convert {zoo_files.SEED_ZIP} into {tmp_path}/\S+: .*; make room there, or name a folder"
    )
    assert re.match(sentence, capsys.readouterr().err)
    program = f"{limited(60_000)}\nimport sys\nfrom zoobench.cli import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "convert", str(zoo_files.SEED_ZIP), str(tmp_path / "zoo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(sentence, done.stderr)
    assert "File too large" in done.stderr
    assert not (tmp_path / "zoo" / "zoo.json").exists()


# -- what is in the data folder already --------------------------------------------------------------------------------


def test_a_zoo_of_an_older_format_version(
    host: Loopback, data_home: Path, few: zoo_files.Members, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the folder, both versions and what to do; and doing it helps."""
    serve_tree(host, few)
    fetch()
    folder = data_home / CARD
    index = json.loads((folder / "zoo.json").read_text())
    index["version"] = 0
    index["checksum"] = _checksum(index)
    (folder / "zoo.json").write_text(json.dumps(index))
    for epochs in (None, 1, [1, 5]):
        with pytest.raises(
            ZooFormatError, match=rf"version 0, but this zoobench reads version {FORMAT_VERSION}"
        ) as caught:
            fetch(epochs=epochs)
        assert f"delete the folder {folder}, and `zoobench fetch {CARD}` fetches the zoo again" in str(caught.value)
    assert main(["fetch", CARD, "--dry-run"]) == 1
    assert f"delete the folder {folder}" in capsys.readouterr().err
    shutil.rmtree(folder)
    assert len(fetch().data) == 12


@pytest.mark.parametrize("name", ["zoo.json", "weights", "properties"])
def test_a_damaged_zoo_says_how_to_mend_it(host: Loopback, data_home: Path, few: zoo_files.Members, name: str) -> None:
    """A file of a fetched zoo is cut: the error names it, and how to fetch the zoo again."""
    serve_tree(host, few)
    fetch()
    file = next(path for path in (data_home / CARD).iterdir() if path.name.startswith(name))
    os.truncate(file, file.stat().st_size // 2)
    remedy = f"or delete the folder {data_home / CARD}, and `zoobench fetch {CARD}`"
    with pytest.raises(ZooFormatError, match=f"{file}.*{remedy}"):
        fetch()


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_retries": -1}, "n_retries must be a whole number from 0 on, not -1"),
        ({"n_retries": 1.5}, "n_retries must be a whole number from 0 on, not 1.5"),
        ({"delay": -1}, "delay must be a number of seconds from 0 on, not -1"),
        ({"delay": float("nan")}, "delay must be a number of seconds from 0 on, not nan"),
        ({"delay": "1"}, "delay must be a number of seconds from 0 on, not '1'"),
        ({"epochs": [25, 99]}, "zoo 'mnist_cnn_s_seed' has no epoch 99; it has epochs 0, 1, 2, 3, 4, ..., 48, 49, 50"),
    ],
)
def test_arguments_that_cannot_be_meant(host: Loopback, arguments: dict[str, object], message: str) -> None:
    """They are refused before any request, with the value and what is expected."""
    with pytest.raises(ValueError, match=re.escape(message)):
        fetch(**arguments)
    assert host.log == []
