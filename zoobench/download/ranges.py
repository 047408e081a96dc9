"""Some members of a zip file on another machine, without the rest of it."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from zoobench.download.client import Client
from zoobench.download.parallel import in_parallel
from zoobench.download.rangefile import RangeFile
from zoobench.download.remote import DownloadError, RemoteFile, failed
from zoobench.errors import UnsafeFileError

#: Bytes that may be transferred in vain, to need fewer requests.
SPARE = 1 << 16

#: The most that one request asks for, unless a single member is larger: as much is held in memory for each connection.
_LONGEST = 1 << 25

#: A member that is larger than this and inflates more than so many times is a decompression bomb, not weights.
_UNSUSPICIOUS, _MAX_RATIO = 1 << 20, 200

_LOCAL = 30  # bytes of a member's local header before its name
_ENCRYPTED = 0x41


@dataclass(frozen=True)
class Extent:
    """Neighbouring bytes of a zip file, asked for at once.

    Attributes
    ----------
    start, stop : int
        Where they lie.
    members : tuple of ZipInfo
        The wanted members among them, in order.
    """

    start: int
    stop: int
    members: tuple[zipfile.ZipInfo, ...]


class RemoteZip:
    """A zip file on another machine, of which only the directory has been read.

    Parameters
    ----------
    file : RemoteFile
        The zip file, on a host that answers range requests.
    client : Client
        Sends the requests.
    cache : path-like, optional
        A file that keeps the zip's directory, so that another call need not transfer it again.

    Attributes
    ----------
    members : dict of str to ZipInfo
        Name -> what the directory says, folders left out.
    directory_sha256 : str
        Digest of the directory, which holds a checksum of every member: it changes when any of them does.

    Raises
    ------
    RangesNotSupportedError
        If the host serves whole files only.
    DownloadError
        If it refuses, or the file is no whole zip.

    Examples
    --------
    >>> import tempfile, zipfile
    >>> from pathlib import Path
    >>> from zoobench.download.client import Client
    >>> from zoobench.download.ranges import RemoteZip
    >>> from zoobench.download.remote import RemoteFile
    >>> with tempfile.TemporaryDirectory() as folder, Client() as client:
    ...     path = Path(folder, "a.zip")
    ...     with zipfile.ZipFile(path, "w") as file:
    ...         file.writestr("one", b"1")
    ...         file.writestr("two", b"22")
    ...     remote = RemoteZip(RemoteFile(path.as_uri(), "a.zip"), client=client)
    ...     dict(remote.read_members(["two"]))
    {'two': b'22'}
    """

    def __init__(self, file: RemoteFile, *, client: Client, cache: str | os.PathLike[str] | None = None) -> None:
        self.file = file
        self._client = client
        self._bytes = RangeFile(file, client, None if cache is None else Path(cache))
        try:
            with zipfile.ZipFile(self._bytes) as directory:
                infos, stop = directory.infolist(), directory.start_dir
        except zipfile.BadZipFile as error:
            self._bytes.forget()
            raise failed(file.name, file.url, f"it is no whole zip file ({error})", "fetch another copy") from None
        if any(info.header_offset >= stop for info in infos):
            self._bytes.forget()
            reason = "it is damaged: its directory gives members that lie outside it"
            raise failed(file.name, file.url, reason, "fetch another copy")
        self.directory_sha256 = hashlib.sha256(self._bytes.keep(stop)).hexdigest()
        self.members = {info.filename: info for info in infos if not info.is_dir()}
        # A member reaches up to the next one: its local header may be longer than its entry in the directory tells.
        self._starts = sorted({info.header_offset for info in infos} | {stop})

    @property
    def bytes_transferred(self) -> int:
        """Bytes that the host has sent so far, the directory's included."""
        return self._bytes.transferred

    def plan(self, names: Iterable[str], *, spare: int = SPARE) -> list[Extent]:
        """The requests that reading some members takes.

        Parameters
        ----------
        names : iterable of str
            The members.
        spare : int, default=65536
            Bytes that may be transferred in vain, in all: the narrowest gaps between members are closed until it is
            used up. What reading the directory brought in vain counts.

        Returns
        -------
        list of Extent
            In the order of the file. Their lengths add up to the bytes that will be transferred.

        Raises
        ------
        KeyError
            If a name is not in the zip.
        """
        infos = sorted((self._info(name) for name in set(names)), key=lambda info: info.header_offset)
        starts = [info.header_offset for info in infos]
        stops = [self._starts[bisect_right(self._starts, start)] for start in starts]
        gaps = [after - stop for stop, after in zip(stops, starts[1:], strict=False)]
        left = spare - max(0, self._bytes.in_vain)
        closed = set()
        for index in sorted(range(len(gaps)), key=lambda i: gaps[i]):
            if gaps[index] > 0 and gaps[index] > left:
                break
            left -= gaps[index]
            closed.add(index)
        extents: list[Extent] = []
        for index, info in enumerate(infos):
            last = extents[-1] if extents else None
            if last and index - 1 in closed and stops[index] - last.start <= _LONGEST:
                extents[-1] = Extent(last.start, stops[index], (*last.members, info))
            else:
                extents.append(Extent(starts[index], stops[index], (info,)))
        return extents

    def read_members(self, names: Iterable[str], *, spare: int = SPARE) -> Iterator[tuple[str, bytes]]:
        """Read members, several requests at a time.

        Parameters
        ----------
        names : iterable of str
            The members.
        spare : int, default=65536
            See :meth:`plan`.

        Yields
        ------
        name : str
        content : bytes
            In the order of the file, each checked against its checksum.

        Raises
        ------
        KeyError
            If a name is not in the zip.
        DownloadError
            If the file has changed since its directory was read, or a member is damaged.
        UnsafeFileError
            If a member is a decompression bomb.
        """
        extents = self.plan(names, spare=spare)

        def read(extent: Extent) -> bytes:
            return self._bytes.fetch(extent.start, extent.stop)

        contents = in_parallel(self._client, read, extents, ahead=self._client.n_connections)
        for extent, content in zip(extents, contents, strict=True):
            for info in extent.members:
                yield info.filename, self._unpack(info, memoryview(content)[info.header_offset - extent.start :])

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self.members:
            raise KeyError(f"{self.file.name} has no member {name!r}")
        return self.members[name]

    def _unpack(self, info: zipfile.ZipInfo, content: memoryview) -> bytes:
        if bytes(content[:4]) != b"PK\x03\x04" or len(content) < _LOCAL:
            raise self._damaged(info, "it has no header where the directory says")
        name_length, extra_length = (int.from_bytes(content[at : at + 2], "little") for at in (26, 28))
        name = bytes(content[_LOCAL : _LOCAL + name_length])
        if name != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
            raise self._damaged(info, "its name in the directory differs from that in its header")
        start = _LOCAL + name_length + extra_length
        packed = content[start : start + info.compress_size]
        if info.flag_bits & _ENCRYPTED:
            raise self._damaged(info, "it is encrypted")
        if info.compress_type == zipfile.ZIP_STORED:
            unpacked = bytes(packed)
        elif info.compress_type == zipfile.ZIP_DEFLATED:
            if info.file_size > max(_UNSUSPICIOUS, _MAX_RATIO * info.compress_size):
                raise UnsafeFileError(
                    f"{info.filename} in {self.file.url} is a decompression bomb: {info.compress_size} bytes that "
                    f"inflate to {info.file_size}"
                )
            try:
                # One byte more than there should be: what inflates to more is not inflated further.
                unpacked = zlib.decompressobj(-15).decompress(packed, info.file_size + 1)
            except zlib.error as error:
                raise self._damaged(info, str(error)) from None
        else:
            raise self._damaged(info, f"it is packed by method {info.compress_type}, not stored or deflated")
        if len(unpacked) != info.file_size or zlib.crc32(unpacked) != info.CRC:
            raise self._damaged(info, "it fails its checksum")
        return unpacked

    def _damaged(self, info: zipfile.ZipInfo, reason: str) -> DownloadError:
        self._bytes.forget()
        name = f"{info.filename} in {self.file.name}"
        return failed(name, self.file.url, reason, "the file is damaged or has changed: try again, or fetch it whole")
