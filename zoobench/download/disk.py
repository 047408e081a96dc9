"""Files written whole or not at all, by one process at a time, where there is room for them."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from zoobench.download.gate import say
from zoobench.download.remote import DownloadError, NoSpaceError
from zoobench.errors import DISK_FULL


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file so that a reader sees the old content or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that other processes wait for.

    Parameters
    ----------
    path : Path
        The lock file; its folder exists.
    what : str
        What is being done, for whoever has to wait.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1.0)
    except Timeout:
        say(f"waiting for another process that is {what}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def require_space(folder: Path, n_bytes: int, name: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    NoSpaceError
        With the bytes that are needed and those that are free.
    """
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise NoSpaceError(
            f"cannot fetch {name}: {human(n_bytes)} are still to come, but the disk of {folder} has {human(free)} "
            "free; make room, or name a folder on another disk in ZOOBENCH_DATA"
        )


def disk_error(name: str, folder: Path, error: OSError) -> DownloadError:
    """The error for what the file system refused while something was fetched or converted."""
    kind: type[DownloadError] = DownloadError
    if error.errno in DISK_FULL:
        kind = NoSpaceError
        reason = f"the disk of {folder} is full ({error.strerror})"
        remedy = "make room and try again, what has arrived is kept; or name a folder on another disk in ZOOBENCH_DATA"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        reason = f"{folder} may not be written to ({error})"
        remedy = "change its permissions, or name another folder in ZOOBENCH_DATA"
    else:
        reason = f"{folder} cannot be written to ({error})"
        remedy = "mend that, or name another folder in ZOOBENCH_DATA"
    return kind(f"cannot fetch {name}: {reason}; {remedy}")


def human(n_bytes: int) -> str:
    """A number of bytes for people.

    Examples
    --------
    >>> from zoobench.download.disk import human
    >>> human(1823561025)
    '1.82 GB'
    """
    text = str(tqdm.format_sizeof(n_bytes))
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{n_bytes} bytes"
