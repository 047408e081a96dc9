"""A remote file that is read piece by piece, from its end."""

from __future__ import annotations

import io
import json
import re
import threading
from pathlib import Path

import requests

from zoobench.download.client import BROKEN, Attempts, Client
from zoobench.download.disk import write_whole
from zoobench.download.remote import RangesNotSupportedError, RemoteFile, failed

#: Bytes of the end that the first request asks for. A small zip's directory lies in it whole.
_TAIL = 1 << 14

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class RangeFile(io.RawIOBase):
    """Reads like a file; what has been read, and all that follows it, stays in memory.

    That is how ``zipfile`` reads a directory: the end of the file, then what lies before it.

    Parameters
    ----------
    file : RemoteFile
        The file.
    client : Client
        Sends the requests.
    cache : Path or None
        Where :meth:`keep` puts the end of the file, and where it is looked for first.

    Attributes
    ----------
    transferred : int
        Bytes that the host has sent.
    in_vain : int
        Of them, those before the position given to :meth:`keep`.
    """

    def __init__(self, file: RemoteFile, client: Client, cache: Path | None) -> None:
        super().__init__()
        self._file, self._client, self._cache = file, client, cache
        self._position = 0
        self.transferred = self.in_vain = 0
        self._counting = threading.Lock()
        self._size: int | None = None
        self._etag: str | None = None
        self._end = b""
        if not self._load():
            # Not every host knows what the last so many bytes are; where the size is published, none needs to.
            first = "" if file.size is None else max(0, file.size - _TAIL)
            self._end = self._request(f"bytes={first}-{_TAIL if file.size is None else ''}")

    # -- what zipfile asks for -----------------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        if base + offset < 0:
            raise OSError(f"position {base + offset} lies before the file")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Bytes from here on."""
        start = self._position
        stop = self._length if size is None or size < 0 else min(start + size, self._length)
        if start >= stop:
            return b""
        first = self._length - len(self._end)
        if start < first:
            self._end = self.fetch(start, first) + self._end
            first = start
        self._position = stop
        return self._end[start - first : stop - first]

    # -- the rest ------------------------------------------------------------------------------------------------------

    def fetch(self, start: int, stop: int) -> bytes:
        """Bytes of the file, by a request of their own; threads may ask at the same time.

        Raises
        ------
        DownloadError
            If the file is no longer the one that was opened.
        """
        return self._request(f"bytes={start}-{stop - 1}", (start, stop))

    def keep(self, start: int) -> bytes:
        """What lies from a position to the end, put into the cache and out of this object's memory."""
        kept, self._end = self._end[start - self._length :], b""
        if self.transferred:
            self.in_vain = max(0, self.transferred - len(kept))
            if self._cache is not None:
                head = json.dumps({"url": self._file.url, "size": self._size, "etag": self._etag, "kept": len(kept)})
                write_whole(self._cache, head.encode() + b"\n" + kept)
        return kept

    def forget(self) -> None:
        """Drop what was kept."""
        if self._cache is not None:
            self._cache.unlink(missing_ok=True)

    @property
    def _length(self) -> int:
        assert self._size is not None
        return self._size

    def _load(self) -> bool:
        if self._cache is None or not self._cache.is_file():
            return False
        head, _, end = self._cache.read_bytes().partition(b"\n")
        try:
            known = json.loads(head)
            fits = known["url"] == self._file.url and len(end) == known["kept"]
            self._size, self._etag = known["size"], known["etag"]
        except (ValueError, KeyError, TypeError):
            return False
        self._end = end
        return fits

    def _request(self, wanted: str, span: tuple[int, int] | None = None) -> bytes:
        file = self._file
        attempts = Attempts(self._client, file.name, file.url)
        while True:
            try:
                with self._client.open(
                    file.url, name=file.name, headers={"Range": wanted}, attempts=attempts, accept={416}
                ) as response:
                    self._check(response, span)
                    content = response.raw.read(decode_content=False)
                if span is not None and len(content) != span[1] - span[0]:
                    raise ConnectionError(f"{len(content)} of {span[1] - span[0]} bytes arrived")
                break
            except BROKEN as error:
                attempts.fail(error)
        with self._counting:
            self.transferred += len(content)
        return bytes(content)

    def _check(self, response: requests.Response, span: tuple[int, int] | None) -> None:
        file = self._file
        page = response.headers.get("Content-Type", "").lower().startswith("text/html")
        if page and response.status_code < 400:
            remedy = "open the address in a browser: the network may want a login, or the file has moved"
            raise failed(file.name, file.url, "the host answers with a web page instead of the file", remedy)
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code == 200 or (response.status_code == 206 and not found):
            reason = "the host serves whole files only, not parts of them"
            raise failed(file.name, file.url, reason, "fetch it whole", kind=RangesNotSupportedError)
        start, last, size = map(int, found.groups()) if found else (0, -1, 0)
        etag = response.headers.get("ETag")
        if span is None:
            self._size, self._etag = size, etag
            if file.size not in (None, size):
                reason = f"{file.size} bytes were expected, but the host has {size}"
                raise failed(file.name, file.url, reason, "it is not the file that is meant: ask its publisher")
        elif (start, last + 1, size) != (*span, self._size) or (None not in (etag, self._etag) and etag != self._etag):
            self.forget()
            raise failed(file.name, file.url, "it has changed since its directory was read", "try again")
