"""The members of a folder, a zip or a tar, in one form and without unpacking anything."""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.readers.naming import shortened
from zoobench.readers.tarstream import Opener, TarStream
from zoobench.readers.zipdir import PIECE, ZipDirectory

#: How deep below a folder trials are looked for: the experiment may lie a folder or two down.
_MAX_DEPTH = 5

#: Files of this size and more are mapped, not copied: that saves a good part of the time that their pages take.
_LARGE = 1 << 20

_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_CHECKPOINT_FOLDER = re.compile(r"checkpoint_[0-9]+")


class Archive(Protocol):
    """What all forms have in common.

    Attributes
    ----------
    form : str
        What the archive is, for the record.
    streamed : bool
        Whether a member can be read only before the next is asked for.
    """

    form: str
    streamed: bool

    def members(self) -> Iterator[Member]:
        """The files, in the order in which they are stored. UnsafeFileError for any that leaves the archive."""

    def read(self, key: Any, limit: int) -> bytes | memoryview:
        """Contents of the member with that key."""

    def size(self, key: Any) -> int:
        """Bytes of the member with that key."""

    def pieces(self, key: Any) -> Iterator[bytes | memoryview]:
        """Contents of a member of any size, piece by piece; ZooFormatError at the end if its checksum is wrong."""

    def stamp(self, key: Any) -> str:
        """What changes when the member does while the archive seems the same; empty where that cannot be."""

    def check(self, key: Any) -> None:
        """Make sure that the member has the name that it seems to have, where the form allows to."""


class Member(NamedTuple):
    """One file of an archive: its name, with ``/`` between folders, and how to get at it."""

    name: str
    key: Any
    archive: Archive

    def read(self, limit: int) -> bytes | memoryview:
        """Its contents; ZooFormatError if they are damaged or more than ``limit`` bytes."""
        return self.archive.read(self.key, limit)

    def size(self) -> int:
        """How many bytes it has."""
        return self.archive.size(self.key)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Its contents piece by piece, whatever its size."""
        return self.archive.pieces(self.key)

    def stamp(self) -> str:
        """What tells whether it has changed, beside what tells it of the archive."""
        return self.archive.stamp(self.key)

    def check(self) -> None:
        """ZooFormatError if the archive gives it two names."""
        self.archive.check(self.key)


class FolderArchive:
    """A folder. What lies in checkpoint folders is known, so those tens of thousands are not listed."""

    form, streamed = "folder", False

    def __init__(self, path: Path) -> None:
        self._root = path.resolve()

    def members(self) -> Iterator[Member]:
        """The files, and for each checkpoint folder its ``checkpoints``, which may turn out not to exist."""
        return self._walk(self._root, self._root.name, 0)

    def read(self, key: str, limit: int) -> bytes | memoryview:
        """Contents of the file at that path."""
        size = self.size(key)
        if size > limit:
            raise ZooFormatError(f"is too large: {size} bytes, and at most {limit} make sense")
        with open(key, "rb", buffering=0) as file:
            if size < _LARGE:
                return file.read()
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def size(self, key: str) -> int:
        """Bytes of the file at that path, if it is one and lies within the folder."""
        status = os.lstat(key)
        if stat.S_ISLNK(status.st_mode):
            self._refuse_escape(key)
            status = os.stat(key)
        if not stat.S_ISREG(status.st_mode):
            raise ZooFormatError("is no regular file")
        return status.st_size

    def pieces(self, key: str) -> Iterator[bytes]:
        """Contents of the file at that path."""
        self.size(key)
        with open(key, "rb", buffering=0) as file:
            yield from iter(lambda: file.read(PIECE), b"")

    def stamp(self, key: str) -> str:
        """Size and time of the file at that path."""
        try:
            status = os.stat(key)
        except OSError:
            return ""  # as reading it will say
        return f"{status.st_size}@{status.st_mtime_ns}"

    def check(self, key: str) -> None:
        """Nothing to check: a folder has one name for a file."""

    def _walk(self, folder: Path, name: str, depth: int) -> Iterator[Member]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            entry_name = f"{name}/{entry.name}"
            if entry.is_symlink():
                self._refuse_escape(entry.path)
            if entry.is_dir():
                # A link to a folder within would give the same states twice.
                if entry.is_symlink() or depth == _MAX_DEPTH:
                    continue
                if _CHECKPOINT_FOLDER.fullmatch(entry.name):
                    yield Member(safe_name(f"{entry_name}/checkpoints"), f"{entry.path}/checkpoints", self)
                else:
                    yield from self._walk(Path(entry.path), entry_name, depth + 1)
            else:
                yield Member(safe_name(entry_name), entry.path, self)

    def _refuse_escape(self, path: str) -> None:
        if not Path(path).resolve().is_relative_to(self._root):
            raise UnsafeFileError(f"{shortened(path)} is a link that leaves the folder; put a copy in its place")


class ZipArchive:
    """A zip file, read where it lies."""

    form, streamed = "zip", False

    def __init__(self, directory: ZipDirectory) -> None:
        self._directory = directory

    def members(self) -> Iterator[Member]:
        """Every file of the zip, checked as a whole before the first is given."""
        given = [self._directory.name(index) for index in range(len(self._directory))]
        names = [safe_name(name) for name in given]
        kinds = (self._directory.attributes >> 16) & 0o170000
        for name, kind in zip(names, kinds.tolist(), strict=True):
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeFileError(f"member {shortened(name)!r} is a link or a device, which no zoo needs")
        _refuse_twins(names)
        for index, name in enumerate(names):
            if not given[index].endswith(("/", "\\")):
                yield Member(name, index, self)

    def read(self, key: int, limit: int) -> memoryview:
        """Contents of the member with that number, its checksum checked."""
        return self._directory.read(key, limit)

    def size(self, key: int) -> int:
        """Bytes of the member with that number."""
        return int(self._directory.size[key])

    def pieces(self, key: int) -> Iterator[bytes | memoryview]:
        """Contents of the member with that number."""
        return self._directory.pieces(key)

    def stamp(self, key: int) -> str:
        """Nothing: a zip is one file."""
        return ""

    def check(self, key: int) -> None:
        """Compare the two copies of the member's name."""
        self._directory.check_name(key)


class TarArchive:
    """A tar file; a compressed one passes by once, in a plain one any member can be read at any time."""

    def __init__(self, path: Path, opener: Opener | None) -> None:
        self.streamed = opener is not None
        self.form = "compressed tar" if opener else "tar"
        self._stream = TarStream(path, opener)

    def __enter__(self) -> TarArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def members(self) -> Iterator[Member]:
        """Every file of the tar."""
        seen: set[str] = set()
        for given, start, size in self._stream.members():
            name = safe_name(given)
            if name in seen:
                _refuse_twins([name, name])
            seen.add(name)
            yield Member(name, (start, size), self)

    def read(self, key: tuple[int, int], limit: int) -> bytes | memoryview:
        """Contents of the member at that position and of that size."""
        start, size = key
        if size > limit:
            raise ZooFormatError(f"is too large: {size} bytes, and at most {limit} make sense")
        return self._stream.read_at(start, size)

    def size(self, key: tuple[int, int]) -> int:
        """Bytes of the member at that position."""
        return key[1]

    def pieces(self, key: tuple[int, int]) -> Iterator[bytes]:
        """Contents of the member at that position and of that size."""
        return self._stream.pieces_at(*key)

    def stamp(self, key: tuple[int, int]) -> str:
        """Nothing: a tar is one file."""
        return ""

    def check(self, key: tuple[int, int]) -> None:
        """Nothing to check: the checksum of a tar's header covers the name."""


def safe_name(name: str) -> str:
    """A member's name with ``/`` between folders; UnsafeFileError if it leaves the archive's own folder."""
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or _DRIVE.match(name) or "\0" in name:
        raise UnsafeFileError(f"member {shortened(name)!r} would lie outside the archive's folder")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ZooFormatError(f"the name {name!r} is not UTF-8") from None
    return "/".join(part for part in parts if part not in ("", "."))


def _refuse_twins(names: list[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twin = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ZooFormatError(f"two members are called {shortened(twin)!r}, so one of them is not what it seems")
