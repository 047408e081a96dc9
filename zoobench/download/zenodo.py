"""Records of Zenodo: which files they have, and what the files' sizes and checksums are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from zoobench.download.client import Client
from zoobench.download.remote import RemoteFile, failed

API = "https://zenodo.org/api"

_NUMBER = re.compile(
    r"(?:(?:doi:|https?://(?:dx\.)?doi\.org/)?10\.5281/zenodo\.|https?://(?:www\.)?zenodo\.org/records?/)?(\d+)"
)


def record_files(record: int | str, *, client: Client, api: str = API) -> list[RemoteFile]:
    """The files of a record.

    Parameters
    ----------
    record : int or str
        Number or DOI of a version, or of all versions: then the newest is taken.
    client : Client
        Sends the request, and keeps to the limits that Zenodo sets to guests.
    api : str, optional
        Base address of the interface.

    Returns
    -------
    list of RemoteFile
        With sizes and checksums.

    Raises
    ------
    ValueError
        If ``record`` is neither a number nor a DOI of Zenodo.
    DownloadError
        If there is no such record, or it has no files for everybody.

    Examples
    --------
    >>> from zoobench.download.zenodo import record_number
    >>> record_number("10.5281/zenodo.6632086")
    6632086
    """
    number = record_number(record)
    url = f"{api.rstrip('/')}/records/{number}"
    name = f"the file list of record {number}"
    content = client.read_json(url, name=name)
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, list) or not files:
        reason = "the answer describes no record with files" if not files else "the answer is something else"
        remedy = "open the record in a browser: it may be closed to the public, or the address be wrong"
        raise failed(name, url, reason, remedy)
    try:
        return [_remote_file(entry, content, api) for entry in files]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"the answer describes its files in a way that is not understood ({error!r})"
        raise failed(name, url, reason, "tell the developers of zoobench") from None


def record_number(record: int | str) -> int:
    """Number of a record, from its number, its DOI or its address.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    found = _NUMBER.fullmatch(str(record).strip().rstrip("/"))
    if not found:
        raise ValueError(f"{record!r} is no record of Zenodo; a number or 10.5281/zenodo.<number> was expected")
    return int(found[1])


def _remote_file(entry: Mapping[str, Any], record: Mapping[str, Any], api: str) -> RemoteFile:
    name, size, links = entry["key"], entry["size"], entry.get("links") or {}
    url = links.get("content") or links.get("self")
    if url is None:
        # The record that answers, not the one that was asked for: that may stand for all versions.
        url = f"{api.rstrip('/').removesuffix('/api')}/records/{record['id']}/files/{quote(name, safe='')}"
    if not isinstance(size, int) or not url.startswith(("https://", "http://")):
        raise ValueError(f"size {size!r}, address {url!r}")
    return RemoteFile(url, name, size, entry.get("checksum"))
