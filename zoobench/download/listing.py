"""Directories of a host that lists them as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from zoobench.download.client import Client
from zoobench.download.parallel import in_parallel
from zoobench.download.remote import DownloadError, failed, is_safe_path

#: Names that an error shows of a directory.
_SHOWN = 12


@dataclass(frozen=True)
class Entry:
    """A file or directory in a directory.

    Attributes
    ----------
    name : str
        Its name.
    is_directory : bool
        Which of the two it is.
    size : int or None
        Bytes of a file, where the host says it.
    """

    name: str
    is_directory: bool
    size: int | None = None


def list_directory(url: str, *, client: Client) -> list[Entry]:
    """What is in a directory.

    Parameters
    ----------
    url : str
        The directory, whose answer is a JSON array of objects with ``name``, ``type`` (``"directory"`` or ``"file"``)
        and possibly ``size``. A folder on this machine answers so too.
    client : Client
        Sends the request.

    Returns
    -------
    list of Entry
        In the host's order; what is neither file nor directory is left out.

    Raises
    ------
    DownloadError
        If the host refuses, or answers with anything else.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zoobench.download.client import Client
    >>> from zoobench.download.listing import list_directory
    >>> with tempfile.TemporaryDirectory() as folder, Client() as client:
    ...     _ = Path(folder, "config.json").write_text("{}")
    ...     list_directory(Path(folder).as_uri(), client=client)
    [Entry(name='config.json', is_directory=False, size=2)]
    """
    url = url.rstrip("/") + "/"
    content = client.read_json(url, name="the directory")
    try:
        if not isinstance(content, list):
            raise ValueError(f"it is of type {type(content).__name__}")
        return [_entry(item) for item in content if item["type"] in ("directory", "file")]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"a directory listing was expected, but the answer is something else ({error})"
        raise failed("the directory", url, reason, "check the address") from None


def list_directories(urls: Sequence[str], *, client: Client) -> list[list[Entry]]:
    """What is in each of many directories, asked for in parallel; see :func:`list_directory`."""
    return list(
        in_parallel(client, lambda url: list_directory(url, client=client), urls, ahead=8 * client.n_connections)
    )


def find_directory(url: str, spellings: Iterable[str], *, client: Client) -> str:
    """Address of a directory whose name has several spellings.

    Parameters
    ----------
    url : str
        The directory that it is in.
    spellings : iterable of str
        The names that it may have, likeliest first.
    client : Client
        Sends the request.

    Returns
    -------
    str
        With a slash at its end.

    Raises
    ------
    DownloadError
        If none of them is there: what is there, is named.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zoobench.download.client import Client
    >>> from zoobench.download.listing import find_directory
    >>> with tempfile.TemporaryDirectory() as folder, Client() as client:
    ...     Path(folder, "f_mnist").mkdir()
    ...     find_directory(Path(folder).as_uri(), ["fmnist", "f_mnist"], client=client)
    'file:///.../f_mnist/'
    """
    wanted = list(spellings)
    there = [entry.name for entry in list_directory(url, client=client) if entry.is_directory]
    for name in wanted:
        if name in there:
            return address(url, name) + "/"
    shown = ", ".join(sorted(there)[:_SHOWN]) + (f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else "")
    raise DownloadError(
        f"there is no directory {' or '.join(wanted)} in {url}; there is {shown or 'none at all'}; the host may have "
        "renamed it: tell the developers of zoobench"
    )


def address(url: str, *names: str) -> str:
    """Address of something in a directory; names may hold any characters.

    Parameters
    ----------
    url : str
        The directory.
    *names : str
        The way down from there.

    Examples
    --------
    >>> from zoobench.download.listing import address
    >>> address("https://example.org/zoo/", "model::dropout=0.5,seed=1", "params.json")
    'https://example.org/zoo/model%3A%3Adropout%3D0.5%2Cseed%3D1/params.json'
    """
    return "/".join([url.rstrip("/"), *(quote(name, safe="") for name in names)])


def _entry(item: Mapping[str, Any]) -> Entry:
    name, size = item["name"], item.get("size")
    if not isinstance(name, str) or not is_safe_path(name.rstrip("/")) or "/" in name.rstrip("/"):
        raise ValueError(f"{name!r} is no name in a directory")
    return Entry(name.rstrip("/"), item["type"] == "directory", size if isinstance(size, int) and size >= 0 else None)
