"""One file's bytes into a partial file, going on where an earlier attempt stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import requests

from zoobench.download.client import BROKEN, Attempts, Client
from zoobench.download.disk import require_space, write_whole
from zoobench.download.remote import RemoteFile, failed

#: Bytes read at a time: what a connection that breaks can lose.
CHUNK = 1 << 18

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)

#: Told how many bytes there are by now, and of how many.
Report = Callable[[int, int | None], None]


@dataclass(frozen=True)
class _Content:
    """What a host says about the content it serves, so that two answers can be told to be of the same."""

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, file: RemoteFile, response: requests.Response) -> _Content:
        size = response.headers.get("Content-Length") if response.status_code == 200 else None
        if found := _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "")):
            size = found[2]
        return cls(
            file.url,
            int(size) if size and size.isdecimal() else None,
            response.headers.get("ETag"),
            response.headers.get("Last-Modified"),
        )

    @property
    def is_recognisable(self) -> bool:
        return any(value is not None for value in (self.size, self.etag, self.modified))

    def agrees_with(self, other: _Content) -> bool:
        pairs = ((self.size, other.size), (self.etag, other.etag), (self.modified, other.modified))
        return all(mine == its for mine, its in pairs if mine is not None and its is not None)

    def range_from(self, offset: int) -> dict[str, str]:
        """Headers that ask for the rest, or for everything if it has changed."""
        # A weak ETag does not promise equal bytes, and may not stand in If-Range.
        strong = self.etag if self.etag and not self.etag.startswith("W/") else None
        unchanged = strong or self.modified
        return {"Range": f"bytes={offset}-"} | ({"If-Range": unchanged} if unchanged else {})


def part_path(folder: Path, file: RemoteFile) -> Path:
    """Where a file's partial content lies in a folder.

    Each address has its own, since contents are not mixed, and so has each name: two files may come from one address
    at the same time.
    """
    both = "\n".join((file.url, file.name))  # no name holds a line break
    return folder / f"{blake2b(both.encode(), digest_size=8).hexdigest()}.part"


def drop_part(part: Path) -> None:
    """Forget partial content."""
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)


def transfer(file: RemoteFile, part: Path, client: Client, report: Report = lambda done, total: None) -> None:
    """Bring a file's bytes to a partial file.

    What an earlier call left there is continued if the host still serves the same content, as far as its ETag, its
    date and its size tell; otherwise it is fetched from the start.

    Parameters
    ----------
    file : RemoteFile
        What to fetch.
    part : Path
        The partial file. Whole when this returns; its checksum has not been looked at.
    client : Client
        Sends the requests.
    report : callable, optional
        Called with the bytes so far and their total, where that is known.

    Raises
    ------
    DownloadError
        If the host refuses, sends something else, or the connection kept breaking; if the disk has no room for it.
    OSError
        If the partial file cannot be written.
    """
    attempts = Attempts(client, file.name, file.url)
    reached = 0
    while True:
        try:
            if _attempt(file, part, client, attempts, report):
                return
        except BROKEN as error:
            # Only what goes beyond earlier attempts counts: a host without ranges begins anew each time.
            if (arrived := _size(part)) > reached:
                reached = arrived
                attempts.reset()
            attempts.fail(error)


def _attempt(file: RemoteFile, part: Path, client: Client, attempts: Attempts, report: Report) -> bool:
    """Whether everything is here; False if the partial content was of no use and is gone."""
    known = _read_state(part, file)
    offset = _size(part) if known else 0
    if known and known.size == offset:
        report(offset, offset)
        return True
    headers = known.range_from(offset) if known and offset else {}
    accept = {416} if offset else set()
    with client.open(file.url, name=file.name, headers=headers, attempts=attempts, accept=accept) as response:
        content = _Content.of(file, response)
        if response.status_code == 200:
            offset = 0
        elif not offset:
            raise failed(file.name, file.url, f"the host answers {response.status_code}", "check the address")
        elif not (known and _starts_at(response) == offset and known.agrees_with(content)):
            drop_part(part)
            return False
        total = _check_answer(file, content, response)
        require_space(part.parent, (total or 0) - offset, file.name)
        if not offset:
            # In this order, so that new headers never stand beside old bytes.
            drop_part(part)
            if total is None or total > CHUNK:  # less than that is not worth continuing
                write_whole(_state_path(part), json.dumps(asdict(content)).encode())
        with part.open("ab") as out:
            report(offset, total)
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                if not offset and _PAGE.match(chunk):
                    raise _is_a_page(file)
                out.write(chunk)
                offset += len(chunk)
                report(offset, total)
                if offset != total and client.stop.is_set():
                    raise failed(file.name, file.url, "everything was stopped", "start it again")
    if total is not None and offset != total:
        raise ConnectionError(f"{offset} of {total} bytes arrived")
    return True


def _check_answer(file: RemoteFile, content: _Content, response: requests.Response) -> int | None:
    """How many bytes there will be."""
    if response.headers.get("Content-Type", "").lower().startswith("text/html") and not _may_be_a_page(file):
        raise _is_a_page(file)
    if file.size is not None and content.size is not None and file.size != content.size:
        reason = f"{file.size} bytes were expected, but the host has {content.size}"
        raise failed(file.name, file.url, reason, "it is not the file that is meant: look for it at the publisher")
    return file.size if content.size is None else content.size


def _is_a_page(file: RemoteFile) -> Exception:
    remedy = "open the address in a browser: the network may want a login, or the file has moved"
    return failed(file.name, file.url, "the host answers with a web page instead of the file", remedy)


def _may_be_a_page(file: RemoteFile) -> bool:
    return file.name.lower().endswith((".html", ".htm"))


def _starts_at(response: requests.Response) -> int | None:
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _state_path(part: Path) -> Path:
    return part.with_suffix(".json")


def _read_state(part: Path, file: RemoteFile) -> _Content | None:
    """What the partial content is the beginning of; None if that cannot be told."""
    if not part.is_file():
        return None
    try:
        content = _Content(**json.loads(_state_path(part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return content if content.url == file.url and content.is_recognisable else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
