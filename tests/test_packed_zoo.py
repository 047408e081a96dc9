"""A folder in the zoo format, packed for publication: it loads, converts and is fetched like the folder itself."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import zoo_files
from loopback import Loopback
from published import CARD, served
from zoo_samples import sample_contents
from zoobench import UnsafeFileError, Zoo, ZooFormatError, load_zoo
from zoobench.cli import main
from zoobench.datasets_registry import find_card
from zoobench.datasets_registry.sources import UrlSource
from zoobench.download.remote import DownloadError
from zoobench.fetch import fetch_zoo
from zoobench.readers import detect
from zoobench.store import check_zoo, read_zoo, write_zoo

ADDRESS = "zoos.example/files/mnist.zip"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with a published split, which the zoo format keeps beside the split by name."""
    contents = sample_contents(n_models=12, epochs=(0, 5))
    contents.properties["split_published"] = pd.Categorical(["train", "test"] * 12)
    return write_zoo(tmp_path_factory.mktemp("made") / "my_zoo", contents)


@pytest.fixture(scope="module")
def files(folder: Path) -> zoo_files.Members:
    return {name.name: name.read_bytes() for name in sorted(folder.iterdir()) if name.name != ".lock"}


def packed(path: Path, files: zoo_files.Members, top: str = "") -> Path:
    """The files in an archive whose kind is that of the path's name, below a folder or not."""
    members = {f"{top}{name}": content for name, content in files.items()}
    if path.suffix == ".zip":
        return zoo_files.write_zip(path, members)
    return zoo_files.write_tar(path, members, mode="w:gz" if path.suffix == ".gz" else "w")


def assert_same(found: Zoo, expected: Zoo) -> None:
    assert np.array_equal(found.data, expected.data)
    assert np.array_equal(found.split, expected.split)
    pd.testing.assert_frame_equal(
        found.properties.astype({"model": str}), expected.properties.astype({"model": str}), check_categorical=False
    )
    assert found.layout == expected.layout


@pytest.mark.parametrize("top", ["", "my_zoo/"])
@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_an_archive_is_the_folder(folder: Path, files: zoo_files.Members, tmp_path: Path, form: str, top: str) -> None:
    """Whatever is selected, packed with or without its folder and beside other files; nothing is left on disk."""
    path = packed(tmp_path / f"a.{form}", {"README.md": b"about"} | files, top)
    assert detect(path) == "zoo"
    for selection in ({}, {"subset": "train", "epochs": "last"}, {"epochs": [5], "properties": "ggap"}):
        assert_same(load_zoo(path, **selection), load_zoo(folder, **selection))
    zoo = load_zoo(path, subset="test")
    assert_same(pickle.loads(pickle.dumps(zoo)), zoo)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_commands_take_an_archive(folder: Path, files: zoo_files.Members, tmp_path: Path) -> None:
    """`zoobench convert` writes the zoo that was packed; `zoobench info` shows it."""
    path = packed(tmp_path / "a.zip", files, "my_zoo/")
    assert main(["info", str(path)]) == 0
    assert main(["convert", str(path), str(tmp_path / "out")]) == 0
    check_zoo(tmp_path / "out")
    found, expected = read_zoo(tmp_path / "out"), read_zoo(folder)
    assert np.array_equal(found.weights, expected.weights)
    pd.testing.assert_frame_equal(found.properties, expected.properties)
    assert (found.name, found.provenance["source"]) == ("sample", "a test")


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_damage_is_named(files: zoo_files.Members, tmp_path: Path, form: str) -> None:
    """Every byte is compared with its checksum, and the message names archive and file, not where it was unpacked."""
    weights = next(name for name in files if name.startswith("weights"))
    changed = bytearray(files[weights])
    changed[-1] ^= 1
    cases: dict[str, tuple[zoo_files.Members, str]] = {
        "changed": ({weights: bytes(changed)}, weights),
        "shorter": ({weights: bytes(changed[:-4])}, f"{len(changed) - 4} bytes, but {len(changed)} were written"),
        "edited": ({"zoo.json": files["zoo.json"].replace(b'"a test"', b'"a tess"')}, "zoo.json has been changed"),
    }
    for name, (change, said) in cases.items():
        path = packed(tmp_path / f"{name}.{form}", files | change)
        with pytest.raises(ZooFormatError, match=f"{name}.{form}: .*{said}") as caught:
            load_zoo(path)
        assert ".unpacking" not in str(caught.value)
    for lacking in ("zoo.json", weights):
        path = packed(tmp_path / f"lacking.{form}", {name: files[name] for name in files if name != lacking})
        with pytest.raises(ZooFormatError, match=f"lacking.{form}: .*{lacking}"):
            load_zoo(path)
    two = packed(tmp_path / f"two.{form}", {f"{top}/{name}": files[name] for top in "ab" for name in files})
    with pytest.raises(ZooFormatError, match="holds several zoos, in 'a' and 'b'; unpack it"):
        load_zoo(two)
    assert not [file for file in tmp_path.iterdir() if file.is_dir()]


def test_nothing_is_written_outside(files: zoo_files.Members, tmp_path: Path) -> None:
    """Members that climb out, links, and bombs are refused; so is what the disk has no room for."""
    inside = tmp_path / "inside"
    inside.mkdir()
    weights = next(name for name in files if name.startswith("weights"))
    for name, top in (("climbs.zip", "../"), ("climbs.tar", "../"), ("rooted.zip", "/")):
        with pytest.raises(UnsafeFileError, match=name):
            load_zoo(packed(inside / name, files, top))
    with tarfile.open(inside / "link.tar", "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            if name == weights:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(UnsafeFileError, match="link"):
        load_zoo(inside / "link.tar")
    with zipfile.ZipFile(inside / "link.zip", "w") as link:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if name == weights else 0o100644) << 16
            link.writestr(info, content)
    with pytest.raises(UnsafeFileError, match="link"):
        load_zoo(inside / "link.zip")
    bomb = packed(inside / "bomb.zip", {"zoo.json": b" " * (8 << 20)})
    with pytest.raises(UnsafeFileError, match="bomb"):
        load_zoo(bomb)
    assert os.listdir(tmp_path) == ["inside"]


def test_an_archive_larger_than_the_disk(
    files: zoo_files.Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That there is no room is said before anything is written, with what to do."""
    path = packed(tmp_path / "a.zip", files)
    usage = type("usage", (), {"free": 100})
    monkeypatch.setattr("zoobench.readers.packed_zoo.shutil.disk_usage", lambda place: usage)
    with pytest.raises(OSError, match="100 free; make room, or unpack the archive on another disk"):
        load_zoo(path)
    assert main(["info", str(path)]) == 1
    assert "100 free; make room" in capsys.readouterr().err


# -- by a card ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        yield server


@pytest.fixture
def publish(host: Loopback, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Serves an archive, and lets the zoo's card name it as one in the zoo format."""
    source = UrlSource(format="zoo", url=f"https://{ADDRESS}")
    card = replace(find_card(CARD), sources=(source,), n_models=None, epochs=None)
    monkeypatch.setattr("zoobench.fetch.find_card", lambda name, variant=None: card)
    return lambda content: host.add(f"plain/{ADDRESS}", content) and None


def test_a_card_of_that_format_is_fetched(
    publish: Callable[[bytes], None], folder: Path, files: zoo_files.Members, tmp_path: Path, data_home: Path
) -> None:
    """The archive comes once, and gives the zoo under the card's name; a part of it comes with all of it."""
    publish(packed(tmp_path / "a.zip", files, "my_zoo/").read_bytes())
    found = fetch_zoo(CARD, epochs=[5], delay=0)
    assert_same(found, load_zoo(folder, epochs=[5]))
    assert found.card["name"] == read_zoo(data_home / CARD).name == CARD
    check_zoo(data_home / CARD)
    assert_same(fetch_zoo(CARD, download_if_missing=False), load_zoo(folder))
    assert not (data_home / ".raw" / CARD).exists()


def test_a_damaged_archive_is_not_taken(
    publish: Callable[[bytes], None], files: zoo_files.Members, tmp_path: Path, data_home: Path
) -> None:
    """What does not match its checksums never becomes the zoo."""
    weights = next(name for name in files if name.startswith("weights"))
    wrong = files[weights][:-1] + b"\0"
    publish(packed(tmp_path / "a.zip", files | {weights: wrong}).read_bytes())
    with pytest.raises(DownloadError, match=f"could not be fetched .*{weights}"):
        fetch_zoo(CARD, delay=0, n_retries=0)
    assert not (data_home / CARD).exists()
