"""The members of a tar file in one pass, whether it is compressed or not.

Python's tarfile takes 60 us a member, as long as reading a checkpoint, and holds extended headers of any size in
memory. Zoos need little of it: plain files, folders and long names.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.readers.naming import shortened

BLOCK = 512

Opener = type[gzip.GzipFile] | type[lzma.LZMAFile] | type[bz2.BZ2File]

#: First bytes of a compressed file -> what reads it.
_DECOMPRESSORS: dict[bytes, Opener] = {b"\x1f\x8b": gzip.GzipFile, b"\xfd7zXZ\x00": lzma.LZMAFile, b"BZh": bz2.BZ2File}
_FILE_TYPES = (b"0", b"\0", b"7")
_FOLDER_TYPE = b"5"
_LONG_NAME, _PAX_NAME = b"L", b"x"
_IGNORED_HEADERS = (b"K", b"g")
_REFUSED_TYPES = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
_LONGEST_EXTENDED_HEADER = 1 << 16
_LONGEST_PADDING = 1 << 24
_CHUNK = 1 << 20

#: A compressed tar that inflates beyond both is a decompression bomb; weights shrink by a tenth only.
_UNSUSPICIOUS_BYTES = 1 << 28
_MAX_RATIO = 100


def decompressor_of(head: bytes) -> Opener | None:
    """What opens a file that begins so: None if it is not compressed."""
    return next((opener for magic, opener in _DECOMPRESSORS.items() if head.startswith(magic)), None)


def is_tar_header(block: bytes) -> bool:
    """Whether the block is a tar header, by its checksum."""
    if len(block) < BLOCK or not any(block):
        return False
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    except ZooFormatError:
        return False


class TarStream:
    """A tar file from its beginning to its end.

    Parameters
    ----------
    path : Path
        The file.
    opener : class or None
        What decompresses it; None for a plain tar, whose unread members are jumped over.
    """

    def __init__(self, path: Path, opener: Opener | None) -> None:
        self._file = opener(path) if opener else path.open("rb")
        self._plain = opener is None
        self._length = path.stat().st_size
        self._mapped: memoryview | None = None
        self._position = 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def members(self) -> Iterator[tuple[str, int, int]]:
        """Name, position and size of each file.

        Raises
        ------
        ZooFormatError
            If the file is truncated or damaged.
        UnsafeFileError
            If it has links, devices or pipes, or is a decompression bomb.
        """
        long_name: str | None = None
        while any(header := self._read(BLOCK)):
            if not is_tar_header(header):
                raise ZooFormatError("is a damaged tar: a member's header fails its checksum")
            size, kind = _number(header[124:136]), header[156:157]
            if kind in (_LONG_NAME, _PAX_NAME, *_IGNORED_HEADERS):
                content = self._extended_header(size)
                if kind == _LONG_NAME:
                    long_name = _text(content)
                elif kind == _PAX_NAME:
                    long_name = _pax_path(content) or long_name
                continue
            name, long_name = long_name or _short_name(header), None
            if kind in _REFUSED_TYPES:
                raise UnsafeFileError(f"member {shortened(name)!r} is {_REFUSED_TYPES[kind]}, which no zoo needs")
            if kind not in (_FOLDER_TYPE, *_FILE_TYPES):
                raise ZooFormatError(f"member {shortened(name)!r} is of type {kind!r}, but only files can be read")
            start = self._position
            if kind == _FOLDER_TYPE:
                size = 0
            elif not name.endswith("/"):
                yield name, start, size
            self._skip_to(start + size + -size % BLOCK)
        self._finish()

    def read_at(self, start: int, size: int) -> bytes | memoryview:
        """Contents of a member: of a compressed tar, only of the one that :meth:`members` gave last."""
        if self._plain and size and start + size <= self._length:
            if self._mapped is None:
                self._mapped = memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))
            return self._mapped[start : start + size]
        return b"".join(self.pieces_at(start, size))

    def pieces_at(self, start: int, size: int) -> Iterator[bytes]:
        """The same piece by piece, so that a bomb is seen before it fills the memory."""
        if self._plain:
            self._file.seek(start)
            self._position = start
        elif start != self._position:
            raise RuntimeError("a compressed tar is read in one pass, and this member has passed")
        for done in range(0, size, _CHUNK):
            yield self._read(min(_CHUNK, size - done))

    def _read(self, size: int) -> bytes:
        with _damage_named():
            content = self._file.read(size)
        self._position += len(content)
        if len(content) < size:
            raise ZooFormatError("is a truncated tar: it ends before its end marker; fetch it again")
        if not self._plain and self._position > max(_UNSUSPICIOUS_BYTES, _MAX_RATIO * self._length):
            raise UnsafeFileError(f"is a decompression bomb: {self._length} bytes that inflate without end")
        return content

    def _skip_to(self, position: int) -> None:
        if not self._plain:
            while self._position < position:
                self._read(min(position - self._position, _CHUNK))
            return
        if position > self._length:
            raise ZooFormatError("is a truncated tar: it ends inside a member; fetch it again")
        self._file.seek(position)
        self._position = position

    def _extended_header(self, size: int) -> bytes:
        if size > _LONGEST_EXTENDED_HEADER:
            raise ZooFormatError(f"has a name of {size} bytes; the longest that makes sense has 64 kB")
        return self._read(size + -size % BLOCK)[:size]

    def _finish(self) -> None:
        # The checksum of a compressed stream comes at its very end, behind the tar's padding.
        if self._plain:
            return
        for _ in range(0, _LONGEST_PADDING, _CHUNK):
            with _damage_named():
                content = self._file.read(_CHUNK)
            if not content:
                return
        raise ZooFormatError("is a damaged tar: megabytes follow its end")


@contextmanager
def _damage_named() -> Iterator[None]:
    """Turn all that decompressors raise into one error; failures of the disk stay what they are."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = str(error).rstrip(".") or type(error).__name__
        raise ZooFormatError(f"is truncated or damaged: {text}; fetch it again") from None


def _number(field: bytes) -> int:
    """A number in a header: octal, or in base 256 where that is too short."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    if digits.strip(b"01234567"):
        raise ZooFormatError("is a damaged tar: a header has a number that is none")
    return int(digits or b"0", 8)


def _text(raw: bytes) -> str:
    try:
        return raw.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError:
        raise ZooFormatError("has a name that is not UTF-8") from None


def _short_name(header: bytes) -> str:
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and header[345]:
        return f"{_text(header[345:500])}/{name}"
    return name


def _pax_path(content: bytes) -> str | None:
    """The path in a pax header, whose records are ``<length> <key>=<value>`` lines."""
    path, position = None, 0
    while position < len(content):
        digits, space, _ = content[position : position + 8].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        key, equals, value = content[position + len(digits) + 1 : position + length].partition(b"=")
        if not equals:
            raise ZooFormatError("is a damaged tar: an extended header cannot be read")
        if key == b"size" or key.startswith(b"GNU.sparse"):
            raise ZooFormatError("has sparse members or members above 8 GB, which no zoo needs")
        if key == b"path":
            path = _text(value.removesuffix(b"\n"))
        position += length
    return path
