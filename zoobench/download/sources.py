"""Several addresses of one file, tried in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from zoobench.download.gate import say
from zoobench.download.remote import DownloadError, NoSpaceError, OfflineError, RemoteFile

R = TypeVar("R")

#: One address of a file, or several that serve the same content, best first.
Sources = RemoteFile | Sequence[RemoteFile]


def as_sources(file: Sources) -> tuple[RemoteFile, ...]:
    """The addresses of one file, each with the size and the checksum that any of them knows.

    Parameters
    ----------
    file : RemoteFile or sequence of RemoteFile
        One file, under one name.

    Raises
    ------
    ValueError
        If there is none, or their names differ.
    """
    files = (file,) if isinstance(file, RemoteFile) else tuple(file)
    if not files:
        raise ValueError("a file needs at least one source")
    if len({source.name for source in files}) > 1:
        names = ", ".join(sorted({source.name for source in files}))
        raise ValueError(f"sources of one file need one name, but these have {names}")
    size = next((source.size for source in files if source.size is not None), None)
    checksum = next((source.checksum for source in files if source.checksum is not None), None)
    return tuple(
        replace(source, size=size if source.size is None else source.size, checksum=source.checksum or checksum)
        for source in files
    )


def first_that_works(sources: Sequence[RemoteFile], fetch: Callable[[RemoteFile], R], target: Path) -> R:
    """Fetch from the first source that can give it.

    Parameters
    ----------
    sources : sequence of RemoteFile
        Where the file is.
    fetch : callable
        Fetches from one of them, or raises DownloadError.
    target : Path
        Where the file belongs, for the message.

    Raises
    ------
    DownloadError
        What was wrong with each, if none works; OfflineError if none could be reached.
    """
    errors = []
    for source in sources:
        try:
            return fetch(source)
        except NoSpaceError:
            raise  # which no other source can help
        except DownloadError as error:
            errors.append(error)
            if error.status != 404 and source is not sources[-1]:
                say(f"{error}. Trying the next source")
    kind = OfflineError if all(isinstance(error, OfflineError) for error in errors) else DownloadError
    combined = kind("; ".join(map(str, errors)) + f"; or get it by other means and save it as {target}")
    combined.status = errors[-1].status
    raise combined from errors[-1]
