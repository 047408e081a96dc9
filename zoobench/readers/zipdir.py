"""The directory of a zip file, read fast: published files have more than a million members."""

from __future__ import annotations

import mmap
import struct
import zlib
from array import array
from collections.abc import Iterator

import numpy as np

from zoobench.errors import UnsafeFileError, ZooFormatError

#: A file on disk is mapped, a zip inside a zip is bytes: both can be sliced, searched and viewed.
Buffer = bytes | mmap.mmap

#: A member is a decompression bomb if it is larger than this and inflates more than MAX_RATIO times. Weights shrink by
#: a tenth, result files about tenfold, weights with nine tenths pruned away about eightfold.
MAX_RATIO = 200
UNSUSPICIOUS_SIZE = 1 << 20

#: Bytes that are read at once of a member that need not fit into memory.
PIECE = 1 << 20

_RECORD = np.dtype(
    [
        ("signature", "S4"), ("made_by", "<u2"), ("needs", "<u2"), ("flags", "<u2"), ("method", "<u2"),
        ("time", "<u4"), ("crc", "<u4"), ("packed", "<u4"), ("size", "<u4"), ("name_length", "<u2"),
        ("extra_length", "<u2"), ("comment_length", "<u2"), ("disk", "<u2"), ("internal", "<u2"),
        ("attributes", "<u4"), ("offset", "<u4"),
    ]
)  # fmt: skip
_LENGTHS = struct.Struct("<HHH")
_LOCAL_LENGTHS = struct.Struct("<HH")
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_ELSEWHERE = 0xFFFFFFFF  # a zip64 record holds the real number in its extra field
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x41


class ZipDirectory:
    """Where the members of a zip file lie, and their contents on demand.

    Parameters
    ----------
    buffer : bytes or mmap
        The whole zip file.

    Attributes
    ----------
    name_start, offset, packed, size : ndarray of int64
        Per member: position of its name in the buffer, of its header, and its two sizes in bytes.
    name_length, method, flags : ndarray of uint16
    crc, attributes : ndarray of uint32

    Raises
    ------
    ZooFormatError
        If the file is truncated, spans several disks, is encrypted, or its directory contradicts itself.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.bytes = np.frombuffer(buffer, np.uint8)
        self._start, stop, count = find_directory(buffer)
        records, starts = _read_records(self.view, self.bytes, self._start, stop, count)
        self.flags, self.method = records["flags"].copy(), records["method"].copy()
        self.crc, self.attributes = records["crc"].copy(), records["attributes"].copy()
        self.name_length = records["name_length"].copy()
        self.name_start = starts + _RECORD.itemsize
        self.packed, self.size, self.offset = (records[key].astype(np.int64) for key in ("packed", "size", "offset"))
        self._read_zip64(records)
        if np.any(self.flags & _ENCRYPTED):
            raise ZooFormatError("has encrypted members; decrypt it first")
        self._refuse_overlaps()

    def __len__(self) -> int:
        return len(self.size)

    def name(self, index: int) -> str:
        """The member's name, as the zip gives it."""
        try:
            return self.raw_name(index).decode("utf-8" if self.flags[index] & 0x800 else "cp437")
        except UnicodeDecodeError:
            raise ZooFormatError(f"has a zip member, number {index}, whose name is not UTF-8 as it claims") from None

    def raw_name(self, index: int) -> bytes:
        """The bytes of the member's name."""
        start = int(self.name_start[index])
        return self.buffer[start : start + int(self.name_length[index])]

    def find(self, name: bytes, *, tail: bool = False) -> list[int]:
        """Members of that name, or with ``tail`` those whose names end so: without listing them all."""
        found = []
        position = self.buffer.find(name, self._start)
        while position >= 0:
            index = int(np.searchsorted(self.name_start, position, side="right")) - 1
            if index >= 0:
                start, length = int(self.name_start[index]), int(self.name_length[index])
                if position + len(name) == start + length and (tail or position == start):
                    found.append(index)
            position = self.buffer.find(name, position + 1)
        return found

    def read(self, index: int, limit: int) -> memoryview:
        """Contents of a member, its checksum checked; a stored member is not copied.

        Parameters
        ----------
        index : int
            Which member.
        limit : int
            The most bytes that make sense for it.

        Raises
        ------
        ZooFormatError
            If it is larger than that, damaged, or packed by a method other than stored and deflated.
        UnsafeFileError
            If it is a decompression bomb.
        """
        size = int(self.size[index])
        if size > limit:
            raise ZooFormatError(f"is too large: the zip says {size} bytes, and at most {limit} make sense")
        content = self.packed_content(index)
        if self._is_deflated(index):
            content = _inflate(content, size)
        if len(content) != size or zlib.crc32(content) != self.crc[index]:
            raise ZooFormatError("fails its checksum")
        return content

    def pieces(self, index: int) -> Iterator[bytes | memoryview]:
        """Contents of a member of any size, piece by piece; the errors of :meth:`read` come where they are met."""
        content, size, checksum = self.packed_content(index), int(self.size[index]), 0
        parts = _inflated_pieces(content) if self._is_deflated(index) else _pieces(content)
        for piece in parts:
            checksum, size = zlib.crc32(piece, checksum), size - len(piece)
            if size < 0:
                break
            yield piece
        if size or checksum != self.crc[index]:
            raise ZooFormatError("fails its checksum")

    def _is_deflated(self, index: int) -> bool:
        size, packed, method = int(self.size[index]), int(self.packed[index]), int(self.method[index])
        if method not in (_STORED, _DEFLATED):
            raise ZooFormatError(f"uses zip method {method}, but only stored and deflated members can be read")
        if method == _DEFLATED and size > UNSUSPICIOUS_SIZE and size > MAX_RATIO * packed:
            raise UnsafeFileError(f"is a decompression bomb: {packed} bytes that inflate to {size}")
        return method == _DEFLATED

    def packed_content(self, index: int) -> memoryview:
        """The bytes of a member as they lie in the zip, unchecked."""
        start = self._data_start(index)
        return self.view[start : start + int(self.packed[index])]

    def check_name(self, index: int) -> None:
        """Check the member's name against its second copy: no checksum covers a name."""
        self._data_start(index)

    def stored_starts(self, indices: np.ndarray) -> np.ndarray:
        """Where the contents of many stored members begin.

        Raises
        ------
        ZooFormatError
            If one is not stored as it is, or its header is damaged.
        """
        if np.any(self.method[indices] != _STORED) or np.any(self.packed[indices] != self.size[indices]):
            raise ZooFormatError("has packed members where stored ones are expected")
        headers = self.offset[indices]
        if np.any(headers + 30 > self._start):
            raise ZooFormatError("is damaged: a member lies outside the file")
        fixed = np.lib.stride_tricks.sliding_window_view(self.bytes, 30)[headers]
        signatures = fixed[:, :4].tobytes()
        if signatures != b"PK\x03\x04" * len(indices):
            raise ZooFormatError("is damaged: a member has no header where the directory says")
        lengths = np.ascontiguousarray(fixed[:, 26:30]).view("<u2").astype(np.int64)
        starts: np.ndarray = headers + 30 + lengths.sum(axis=1)
        if np.any(starts + self.size[indices] > self._start):
            raise ZooFormatError("is damaged: a member reaches beyond the file")
        return starts

    def _data_start(self, index: int) -> int:
        header = int(self.offset[index])
        if header + 30 > self._start or self.buffer[header : header + 4] != b"PK\x03\x04":
            raise ZooFormatError("is damaged: it has no header where the zip's directory says")
        name_length, extra_length = _LOCAL_LENGTHS.unpack_from(self.view, header + 26)
        if self.buffer[header + 30 : header + 30 + name_length] != self.raw_name(index):
            raise ZooFormatError("is damaged: its name in the zip's directory differs from that in its header")
        start = header + 30 + int(name_length) + int(extra_length)
        if start + int(self.packed[index]) > self._start:
            raise ZooFormatError("is damaged: it reaches beyond the zip's end")
        return start

    def _read_zip64(self, records: np.ndarray) -> None:
        elsewhere = [records[key] == _ELSEWHERE for key in ("size", "packed", "offset")]
        for index in np.flatnonzero(elsewhere[0] | elsewhere[1] | elsewhere[2]).tolist():
            start = int(self.name_start[index]) + int(self.name_length[index])
            extra = bytes(self.view[start : start + int(records["extra_length"][index])])
            wanted = [
                column
                for column, mask in zip((self.size, self.packed, self.offset), elsewhere, strict=True)
                if mask[index]
            ]
            values = _zip64_values(extra)
            if len(values) < len(wanted) or any(value >= 1 << 62 for value in values):
                raise ZooFormatError("is a damaged zip: a zip64 record lacks its sizes")
            for column, value in zip(wanted, values, strict=False):
                column[index] = value

    def _refuse_overlaps(self) -> None:
        # Members that share their bytes are how a small file claims to hold a huge population.
        order = np.argsort(self.offset, kind="stable")
        starts = self.offset[order]
        stops = starts + 30 + self.name_length[order] + self.packed[order]
        if np.any(stops[:-1] > starts[1:]) or (len(stops) and stops[-1] > self._start):
            raise ZooFormatError("is a damaged zip: its directory gives members that overlap")


def find_directory(buffer: Buffer) -> tuple[int, int, int]:
    """Start and stop of the directory in the file, and the number of its records."""
    position = len(buffer)
    while True:
        position = buffer.rfind(b"PK\x05\x06", max(0, len(buffer) - _END.size - 0xFFFF), position + 3)
        if position < 0:
            raise ZooFormatError("is no whole zip file: its end is missing, so it is truncated; fetch it again")
        if position + _END.size <= len(buffer):
            end = _END.unpack_from(buffer, position)
            if position + _END.size + end[7] == len(buffer):
                break
    disks, count, size, start, stop = end[1:3], end[4], end[5], end[6], position
    locator = position - _LOCATOR64.size
    if locator >= 0 and buffer[locator : locator + 4] == b"PK\x06\x07":
        stop = _LOCATOR64.unpack_from(buffer, locator)[2]
        if stop + _END64.size > locator or buffer[stop : stop + 4] != b"PK\x06\x06":
            raise ZooFormatError("is a damaged zip: its zip64 end record is not where it should be")
        end64 = _END64.unpack_from(buffer, stop)
        disks, count, size, start = end64[4:6], end64[7], end64[8], end64[9]
    if any(disks):
        raise ZooFormatError("is one part of a zip split over several files; join them first")
    if start + size != stop:
        raise ZooFormatError("is a damaged zip: its directory does not end where it should")
    return start, stop, count


def _read_records(
    view: memoryview, content: np.ndarray, start: int, stop: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    # Where a record starts depends on the one before: this loop is all that cannot be done for all at once.
    positions = array("q")
    position, size, lengths = start, _RECORD.itemsize, _LENGTHS.unpack_from
    last = stop - size
    while position <= last:
        positions.append(position)
        name_length, extra_length, comment_length = lengths(view, position + 28)
        position += size + name_length + extra_length + comment_length
    starts = np.array(positions, np.int64)
    if position != stop or len(starts) != count:
        raise ZooFormatError(f"is a damaged zip: its directory announces {count} members and has {len(starts)}")
    if not count:
        raise ZooFormatError("is a zip file with nothing in it")
    windows = np.lib.stride_tricks.sliding_window_view(content, size)
    records = windows[starts].view(_RECORD).reshape(-1)
    if np.any(records["signature"] != b"PK\x01\x02"):
        raise ZooFormatError("is a damaged zip: a record of its directory does not begin as it should")
    return records, starts


def _zip64_values(extra: bytes) -> tuple[int, ...]:
    position = 0
    while position + 4 <= len(extra):
        kind, length = _LOCAL_LENGTHS.unpack_from(extra, position)
        if kind == 1:
            content = extra[position + 4 : position + 4 + length]
            return struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8])
        position += 4 + length
    return ()


def _inflate(packed: memoryview, size: int) -> memoryview:
    inflater = zlib.decompressobj(-15)
    try:
        content = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise ZooFormatError(f"is damaged: {error}") from None
    if not inflater.eof or len(content) != size:
        raise ZooFormatError("is damaged: it does not inflate to the size that the zip gives")
    return memoryview(content)


def _pieces(content: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(content), PIECE):
        yield content[start : start + PIECE]


def _inflated_pieces(packed: memoryview) -> Iterator[bytes]:
    inflater, position, left = zlib.decompressobj(-15), 0, b""
    while not inflater.eof:
        given = left or packed[position : position + PIECE]
        if not left:
            position += len(given)
        try:
            content = inflater.decompress(given, PIECE)
        except zlib.error as error:
            raise ZooFormatError(f"is damaged: {error}") from None
        left = inflater.unconsumed_tail
        if content:
            yield content
        elif not left and position >= len(packed) and not inflater.eof:
            raise ZooFormatError("is damaged: it ends before all of it is inflated")
