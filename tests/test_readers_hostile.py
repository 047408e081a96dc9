"""Files that ask for more than data: nothing of them runs, nothing is written, and no memory is filled."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import pickle
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo_files
from zoo_files import Members
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.readers import detect, read_foreign
from zoobench.readers.checkpoint import CheckpointReader
from zoobench.readers.unpickle import load_pickle

ROOT = zoo_files.HYPER_ZIP.stem


@pytest.fixture
def members() -> Members:
    return zoo_files.small_experiment()


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A file that every payload tries to make; and nothing else may appear beside it either."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


class Payload:
    """Something whose pickle runs a command."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def payloads(marker: Path) -> dict[str, bytes]:
    """Pickles that run a command, each in its own way."""
    command = f"touch {marker}".encode()
    length = struct.pack("<I", len(command))
    return {
        "reduce": pickle.dumps(Payload(marker), 2),
        "reduce, protocol 4": pickle.dumps(Payload(marker), 4),
        "in a state_dict": pickle.dumps({"weight": Payload(marker)}, 2),
        "inst": b"\x80\x02(X" + length + command + b"iposix\nsystem\n.",
        "obj": b"\x80\x02(cposix\nsystem\nX" + length + command + b"o.",
        "after a state_dict": b"\x80\x02}(cposix\nsystem\nX" + length + command + b"\x85Ru.",
        "builtins": b"\x80\x02cbuiltins\neval\nX" + length + command + b"\x85R.",
        "nearly ours": b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n)R.",
        "extension": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("way", payloads(Path("x")))
@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_a_checkpoint_that_runs_code(tmp_path: Path, members: Members, marker: Path, form: str, way: str) -> None:
    """One checkpoint whose pickle calls code stops the reading: it is no damage to be left out."""
    name = sorted(name for name in members if name.endswith("/checkpoints"))[-1]
    members[name] = zoo_files.repacked(members[name], {"data.pkl": payloads(marker)[way]})
    path = WRITERS[form](tmp_path / "zoo", members)
    with pytest.raises(UnsafeFileError) as caught:
        read_foreign(path)
    assert name.split("/")[1] in str(caught.value)


@pytest.mark.parametrize("way", payloads(Path("x")))
def test_a_preprocessed_file_that_runs_code(tmp_path: Path, marker: Path, way: str) -> None:
    """The pickle of a .pt that calls code is refused."""
    path = tmp_path / "zoo.pt"
    path.write_bytes(zoo_files.repacked(zoo_files.SEED_PT.read_bytes(), {"data.pkl": payloads(marker)[way]}))
    with pytest.raises(UnsafeFileError, match=r"zoo\.pt"):
        read_foreign(path)


def test_a_payload_hidden_behind_recognised_states(tmp_path: Path, marker: Path) -> None:
    """A state_dict that looks like those before, but for a payload in its attributes, is not skipped over."""
    parts = zoo_files.small_parts(4)
    parts["testset"]["data_in"][2]._metadata["x"] = Payload(marker)
    path = zoo_files.write_preprocessed(tmp_path / "zoo.pt", parts)
    with pytest.raises(UnsafeFileError):
        read_foreign(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["as the file", "as a checkpoint"])
def test_bare_pickles(tmp_path: Path, members: Members, marker: Path, protocol: int, place: str) -> None:
    """A bare pickle is never loaded, neither as a zoo nor as a checkpoint."""
    content = pickle.dumps(Payload(marker), protocol)
    path = tmp_path / "zoo.pt"
    if place == "as the file":
        path.write_bytes(content)
    else:
        for name in members:
            if name.endswith("/checkpoints"):
                members[name] = content
        zoo_files.write_zip(path, members)
    with pytest.raises(UnsafeFileError if protocol >= 2 else ZooFormatError):
        read_foreign(path)


def test_legacy_torch_files(tmp_path: Path, members: Members) -> None:
    """torch's format of before 2020 is a row of bare pickles: refused, and said so."""
    path = tmp_path / "zoo.pt"
    torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeFileError, match="legacy torch format"):
        read_foreign(path)
    with pytest.raises(UnsafeFileError, match="legacy torch format"):
        detect(path)


# -- pickles that are bombs ----------------------------------------------------------------------------------------

BOMBS = {
    "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "memo again": b"\x80\x02]" + b"".join(b"r" + struct.pack("<I", 1 << shift) for shift in range(32)) + b".",
    "string": b"\x80\x02X\xff\xff\xff\xff.",
    "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "negative long": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "long with its digits": b"\x80\x02\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + b".",
    "text number": b"\x80\x02I" + b"9" * 100_000 + b"\n.",
    "frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "byte array": b"\x80\x05\x96" + b"\xff\xff\xff\xff\x00\x00\x00\x00" + b".",
    "deep tuple": b"\x80\x02)" + b"\x85" * 50_000 + b".",
    "deep tuple as a key": b"\x80\x02})" + b"\x85" * 50_000 + b"Ns.",
    "deep list": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "doubling tuple as a key": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",
    "marks": b"\x80\x02" + b"(" * 50_000 + b".",
    "storage": b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu\x8a\x08"
    + b"\xff" * 7
    + b"\x7ftQ.",
}


#: Bombs for other readers that are plain data for ours.
INERT = ("memo", "memo again", "frame", "deep tuple", "deep list")


@pytest.mark.parametrize("bomb", BOMBS)
def test_pickle_bombs(tmp_path: Path, members: Members, bomb: str) -> None:
    """A small pickle that asks for gigabytes, or for nesting that overflows the stack, costs little and is refused."""
    content = memoryview(BOMBS[bomb])
    tracemalloc.start()
    with contextlib.nullcontext() if bomb in INERT else pytest.raises(ZooFormatError):
        load_pickle(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * len(content) + 100_000
    name = next(name for name in members if name.endswith("/checkpoints"))
    members[name] = zoo_files.repacked(members[name], {"data.pkl": BOMBS[bomb]})
    assert sum(read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", members)).left_out.values()) == 1
    path = tmp_path / "zoo.pt"
    path.write_bytes(zoo_files.repacked(zoo_files.SEED_PT.read_bytes(), {"data.pkl": BOMBS[bomb]}))
    with pytest.raises(ZooFormatError):
        read_foreign(path)


@pytest.mark.parametrize("shape", ["expanded", "repeated"])
def test_tensors_larger_than_their_file(tmp_path: Path, members: Members, shape: str) -> None:
    """Strides of zero, or one storage used a thousand times, do not make a small file a huge network."""
    tensor = torch.zeros(1).expand(1 << 40) if shape == "expanded" else torch.zeros(1000)
    content = zoo_files.torch_bytes({str(i): tensor for i in range(1 if shape == "expanded" else 10_000)})
    name = next(name for name in members if name.endswith("/checkpoints"))
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", members | {name: content}))
    assert sum(contents.left_out.values()) == 1


@pytest.mark.parametrize("change", ["shape", "offset", "length"])
def test_tensors_that_reach_beyond_their_storage(tmp_path: Path, members: Members, change: str) -> None:
    """A tensor never shows memory that is not its own."""
    content = zoo_files.torch_bytes({"weight": torch.zeros(4, 5)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        real = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    old, new = {
        "shape": (b"K\x04K\x05\x86", b"K\x04K\x06\x86"),
        "offset": (b"QK\x00", b"QK\x01"),
        "length": (b"K\x14tq", b"K\x15tq"),
    }[change]
    assert real.count(old) == 1
    broken = zoo_files.repacked(content, {"data.pkl": real.replace(old, new)})
    with pytest.raises(ZooFormatError):
        CheckpointReader().read(broken)


@pytest.mark.parametrize("record", ["0", "7"])
def test_two_records_for_one_storage(tmp_path: Path, record: str) -> None:
    """Storages of one number twice are refused: which of them counts depends on who reads."""
    path = tmp_path / "zoo.pt"
    path.write_bytes(zoo_files.SEED_PT.read_bytes())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"dataset_digits_seed/data/{record}", bytes(32))
    with pytest.raises(ZooFormatError, match="two records for one storage"):
        read_foreign(path)


# -- archives that reach out ---------------------------------------------------------------------------------------


def write_zip(path: Path, members: Members) -> Path:
    return zoo_files.write_zip(path, members)


WRITERS: dict[str, Callable[[Path, Members], Path]] = {
    "zip": zoo_files.write_zip,
    "tar": zoo_files.write_tar,
    "tar.gz": lambda path, members: zoo_files.write_tar(path, members, "w:gz"),
    "folder": zoo_files.write_folder,
}


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    ["../evil", "a/../../evil", "/etc/evil", "a/..", "..\\evil", "C:\\evil", "C:/evil", "\\\\host\\evil", "a\\..\\b"],
)
def test_members_outside_their_folder(tmp_path: Path, members: Members, form: str, name: str) -> None:
    """A member that would lie outside the archive's folder is refused, wherever it stands; nothing is written."""
    inside = tmp_path / "inside"
    inside.mkdir()
    path = WRITERS[form](inside / "zoo", {name: b"x", **members})
    with pytest.raises(UnsafeFileError, match="outside"):
        read_foreign(path)
    WRITERS[form](inside / "zoo", {**members, name: b"x"})
    with pytest.raises(UnsafeFileError, match="outside"):
        read_foreign(path)
    assert list(tmp_path.rglob("*")) == [inside, path]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_zips(tmp_path: Path, members: Members, kind: int) -> None:
    """A zip member whose attributes make it a link or a device is refused."""
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    link = zipfile.ZipInfo(f"{ROOT}/link")
    link.create_system = 3
    link.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeFileError, match="link or a device"):
        read_foreign(path)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_tars(tmp_path: Path, members: Members, mode: str, kind: bytes) -> None:
    """A tar member that is a link, a device or a pipe is refused."""
    path = tmp_path / "zoo.tar"
    zoo_files.write_tar(path, members, mode)
    with tarfile.open(path, mode) as archive:
        link = tarfile.TarInfo(f"{ROOT}/link")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    with pytest.raises(UnsafeFileError, match="which no zoo needs"):
        read_foreign(path)


@pytest.mark.parametrize("place", ["a file", "a trial", "a checkpoint folder", "checkpoints"])
def test_links_that_leave_a_folder(tmp_path: Path, members: Members, place: str) -> None:
    """A link out of the folder is refused, wherever it stands and whatever it leads to."""
    outside = zoo_files.write_folder(tmp_path / "outside", members) / ROOT
    inside = zoo_files.write_folder(tmp_path / "inside", members) / ROOT
    trial = zoo_files.trial_names(members)[0]
    if place == "a file":
        (inside / "link").symlink_to(outside / trial / "result.json")
    elif place == "a trial":
        (inside / "NN_tune_trainable_link").symlink_to(outside / trial)
    elif place == "a checkpoint folder":
        (inside / trial / "checkpoint_000007").symlink_to(outside / trial / "checkpoint_000010")
    else:
        (inside / trial / "checkpoint_000007").mkdir()
        (inside / trial / "checkpoint_000007/checkpoints").symlink_to(outside / trial / "checkpoint_000010/checkpoints")
    with pytest.raises(UnsafeFileError, match="leaves the folder"):
        read_foreign(inside)


def test_links_within_a_folder(tmp_path: Path, members: Members) -> None:
    """A link that stays within the folder adds no states and does no harm; nor does one that leads to nothing."""
    root = zoo_files.write_folder(tmp_path, members) / ROOT
    trial = zoo_files.trial_names(members)[0]
    (root / "latest").symlink_to(root / trial)
    (root / "loop").symlink_to(root)
    (root / "nowhere").symlink_to(root / "nothing")
    zoo_files.assert_weights(read_foreign(root), zoo_files.expected_vectors(members))


def test_pipes(tmp_path: Path, members: Members) -> None:
    """Nobody waits for a pipe to be written to."""
    os.mkfifo(tmp_path / "zoo.zip")
    with pytest.raises(ZooFormatError, match="no regular file"):
        read_foreign(tmp_path / "zoo.zip")
    root = zoo_files.write_folder(tmp_path / "folder", members) / ROOT
    checkpoint = next(root.glob("*/*/checkpoints"))
    checkpoint.unlink()
    os.mkfifo(checkpoint)
    assert sum(read_foreign(root).left_out.values()) == 1


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_twins(tmp_path: Path, members: Members, form: str) -> None:
    """Two members of one name are refused: which of them counts depends on who reads."""
    name = next(name for name in members if name.endswith("/checkpoints"))
    path = WRITERS[form](tmp_path / "zoo", {**members, f"./{name}": members[name]})
    with pytest.raises(ZooFormatError, match="two members"):
        read_foreign(path)


def test_encrypted_zips(tmp_path: Path, members: Members) -> None:
    """An encrypted member is refused."""
    content = bytearray(zoo_files.write_zip(tmp_path / "zoo.zip", members).read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "zoo.zip").write_bytes(bytes(content))
    with pytest.raises(ZooFormatError, match="encrypted"):
        read_foreign(tmp_path / "zoo.zip")


@pytest.mark.parametrize("name", ["checkpoints", "params.json", "result.json"])
def test_a_wrong_letter_in_a_name(tmp_path: Path, members: Members, name: str) -> None:
    """No checksum covers the names in a zip's directory: what is no known file there is compared with its header."""
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    content = bytearray(path.read_bytes())
    content[content.rindex(f"/{name}".encode()) + 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ZooFormatError, match="its name in the zip's directory differs"):
        read_foreign(path)
    zoo_files.write_tar(path, members)
    content = bytearray(path.read_bytes())
    content[content.rindex(ROOT.encode()) + 3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ZooFormatError, match="header fails its checksum"):
        read_foreign(path)


# -- archives that are bombs ---------------------------------------------------------------------------------------


def peak_of(path: Path) -> int:
    """Most memory that reading a refused file took."""
    tracemalloc.start()
    try:
        with pytest.raises(ZooFormatError):
            read_foreign(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["checkpoints", "params.json", "result.json"])
def test_decompression_bombs_in_zips(tmp_path: Path, members: Members, name: str) -> None:
    """A member that inflates to hundreds of megabytes is refused before it does."""
    victim = next(member for member in members if member.endswith(f"/{name}"))
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members | {victim: bytes(100 << 20)})
    assert peak_of(path) < 5 << 20


def test_members_that_inflate_beyond_what_the_zip_says(tmp_path: Path, members: Members) -> None:
    """The zip's own figure is the limit: what goes on beyond it is damage, not data."""
    victim = next(member for member in members if member.endswith("/checkpoints"))
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members | {victim: bytes(100 << 20)})
    content = bytearray(path.read_bytes())
    place = content.index(victim.encode(), content.index(b"PK\x01\x02")) - 46
    content[place + 24 : place + 28] = struct.pack("<I", 5000)
    path.write_bytes(bytes(content))
    tracemalloc.start()
    assert sum(read_foreign(path).left_out.values()) == 1
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_members_that_overlap(tmp_path: Path, members: Members) -> None:
    """Members that share their bytes, by which a small zip claims a huge population, are refused."""
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    content = bytearray(path.read_bytes())
    names = [name for name in members if name.endswith("/checkpoints")]
    places = [content.index(name.encode(), content.index(b"PK\x01\x02")) - 46 for name in names]
    content[places[1] + 42 : places[1] + 46] = content[places[0] + 42 : places[0] + 46]
    path.write_bytes(bytes(content))
    with pytest.raises(ZooFormatError, match="overlap"):
        read_foreign(path)


@pytest.mark.parametrize("kind", [b"0", b"L", b"x", b"g", b"K"])
@pytest.mark.parametrize("compressed", [False, True])
def test_tar_headers_that_promise_too_much(tmp_path: Path, members: Members, kind: bytes, compressed: bool) -> None:
    """A header that gives a checkpoint or a long name of terabytes takes no memory."""
    name = next(name for name in members if name.endswith("/checkpoints"))
    content = zoo_files.tar_header(name[-90:], 1 << 42, kind) + bytes(4 << 20)
    path = tmp_path / "zoo.tar"
    path.write_bytes(gzip.compress(content, 1) if compressed else content)
    assert peak_of(path) < 20 << 20


def test_a_tar_that_inflates_without_end(tmp_path: Path, members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed tar of zeros is given up once it is far larger than any zoo of its size could be."""
    monkeypatch.setattr("zoobench.readers.tarstream._UNSUSPICIOUS_BYTES", 1 << 20)
    name = next(name for name in members if name.endswith("/checkpoints"))
    path = tmp_path / "zoo.tar.gz"
    path.write_bytes(gzip.compress(zoo_files.tar_header(name[-90:], 64 << 20) + bytes(64 << 20)))
    with pytest.raises(UnsafeFileError, match="bomb"):
        read_foreign(path)


def test_sparse_tars(tmp_path: Path, members: Members) -> None:
    """Sparse members, which claim bytes that are not there, are refused."""
    path = tmp_path / "zoo.tar"
    for kind in (b"S", b"V", b"M", b"\xff"):
        path.write_bytes(zoo_files.tar_header("x", 0, kind) + bytes(1024))
        with pytest.raises(ZooFormatError, match="of type"):
            read_foreign(path)
    entry = tarfile.TarInfo("x")
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    path.write_bytes(entry.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    with pytest.raises(ZooFormatError, match="sparse"):
        read_foreign(path)


# -- no archives at all --------------------------------------------------------------------------------------------


OTHER_FILES = {
    "empty": (b"", "is empty"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "web page after space": (b"\n  <html>", "web page"),
    "empty zip": (b"PK\x05\x06" + bytes(18), "nothing in it"),
    "two letters of a zip": (b"PK", "truncated"),
    "zip without directory": (b"PK\x03\x04" + bytes(100), "truncated"),
    "text": (b"hello world" * 100, "neither a raw experiment"),
    "zeros": (bytes(1024), "neither a raw experiment"),
    "noise": (np.random.default_rng(0).bytes(5000), "neither a raw experiment"),
    "broken gzip": (b"\x1f\x8b garbage", "truncated or damaged"),
    "gzip of nothing": (gzip.compress(b"", mtime=0), "truncated"),
    "gzip of text": (gzip.compress(b"hello" * 1000, mtime=0), "header fails its checksum"),
    "broken bzip2": (b"BZh91AY&SY garbage", "truncated or damaged"),
    "broken xz": (b"\xfd7zXZ\x00 garbage", "truncated or damaged"),
}


@pytest.mark.parametrize(("content", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    """Whatever else a download may leave is one clear sentence that names the file."""
    path = tmp_path / "cifar.pt"
    path.write_bytes(content)
    with pytest.raises(ZooFormatError, match=message) as caught:
        read_foreign(path)
    assert "cifar.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    """A path that leads nowhere is an OSError; an empty folder is no zoo."""
    with pytest.raises(FileNotFoundError):
        read_foreign(tmp_path / "nothing")
    with pytest.raises(ZooFormatError, match="holds no checkpoints"):
        read_foreign(tmp_path)


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_truncated_downloads(tmp_path: Path, members: Members, form: str, share: float) -> None:
    """Half a file is an error that says so."""
    path = WRITERS[form](tmp_path / "zoo", members)
    content = path.read_bytes()
    end = len(content) if form != "tar" else len(content.rstrip(b"\0"))
    path.write_bytes(content[: int(end * share)])
    with pytest.raises(ZooFormatError, match="truncated"):
        read_foreign(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_truncated_preprocessed_files(tmp_path: Path, share: float) -> None:
    """Half a .pt is an error that says so."""
    content = zoo_files.SEED_PT.read_bytes()
    path = tmp_path / "zoo.pt"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ZooFormatError, match="truncated"):
        read_foreign(path)


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a":' * 50_000, b'{"seed": ' + b"9" * 5000 + b"}", b"\xff\xfe{}"]
)
def test_notes_that_are_no_json(tmp_path: Path, members: Members, content: bytes) -> None:
    """Deeply nested or otherwise impossible notes are garbage lines, not crashes."""
    changed = {name: content if name.endswith(".json") else old for name, old in members.items()}
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", changed))
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    assert contents.provenance["garbled_result_lines"] == 2
