"""A file on another machine, and the errors that say why it could not be fetched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath

_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")

_REMEDIES = {
    401: "the host wants a login: fetch it with a browser and name its folder in ZOOBENCH_MIRROR",
    403: "the host refuses: try again later, or fetch it with a browser and name its folder in ZOOBENCH_MIRROR",
    404: "it was moved or deleted: look for it at the publisher, or name a copy in ZOOBENCH_MIRROR",
    410: "it was withdrawn: name a copy in ZOOBENCH_MIRROR if you have one",
    429: "the host's limit on requests is reached: try again later, what has arrived is kept",
}


class DownloadError(OSError):
    """Something could not be fetched. The message names it, its address and the remedy.

    Attributes
    ----------
    status : int or None
        The HTTP status that the host answered with, where that was the reason.
    """

    status: int | None = None


class OfflineError(DownloadError):
    """No connection to the host came about: this machine is offline, or the host is.

    The message names what was to be fetched, its addresses and where a copy would be looked for.

    Examples
    --------
    >>> from zoobench import OfflineError
    >>> issubclass(OfflineError, OSError)  # so that ``except OSError`` catches it
    True
    """


class NoSpaceError(DownloadError):
    """The disk has no room for what is to be fetched, which is known before the transfer where its size is.

    The message names the disk and what to do.

    Examples
    --------
    >>> from zoobench import NoSpaceError
    >>> issubclass(NoSpaceError, OSError)  # so that ``except OSError`` catches it
    True
    """


class RangesNotSupportedError(DownloadError):
    """The host serves whole files only."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on another machine.

    Attributes
    ----------
    url : str
        Its address: ``http``, ``https`` or ``file``.
    name : str
        What it is called here: a path with slashes below the folder that it is fetched to.
    size : int or None
        Bytes, where the source publishes them.
    checksum : str or None
        ``"md5:<hex>"`` or ``"sha256:<hex>"``, where the source publishes it.
    origin : str or None
        Address of the original, where ``url`` is a copy on a mirror.

    Raises
    ------
    ValueError
        If the name leaves the folder, the size is negative, or the checksum is of another kind.

    Examples
    --------
    >>> from zoobench.download.remote import RemoteFile
    >>> RemoteFile("https://example.org/zoo.zip", "zoo.zip", size=22).size
    22
    >>> RemoteFile("https://example.org/zoo.zip", "../zoo.zip")
    Traceback (most recent call last):
        ...
    ValueError: '../zoo.zip' is no name for a file below a folder
    """

    url: str
    name: str
    size: int | None = None
    checksum: str | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        if not is_safe_path(self.name):
            raise ValueError(f"{self.name!r} is no name for a file below a folder")
        if self.size is not None and self.size < 0:
            raise ValueError(f"the size of {self.name} is {self.size} bytes, but it cannot be negative")
        if self.checksum is not None and not _CHECKSUM.fullmatch(self.checksum):
            raise ValueError(
                f"the checksum of {self.name} is {self.checksum!r}, but 'md5:' or 'sha256:' and lower-case hexadecimal "
                "digits were expected"
            )

    @property
    def key(self) -> str:
        """Address that the content is known by, whichever copy of it is fetched."""
        return self.origin or self.url


def is_safe_path(path: str) -> bool:
    """Whether a path with slashes stays below the folder that it is put into, and is fit to print."""
    if not path.isprintable() or "\\" in path or path.endswith("/"):
        return False
    parts = PurePosixPath(path).parts
    return bool(parts) and "/".join(parts) == path and ".." not in parts and not path.startswith("/")


def refused(name: str, url: str, status: int) -> DownloadError:
    """The error for an HTTP status that means no."""
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    remedy = _REMEDIES.get(status, "the host has trouble: try again later" if status >= 500 else "check the address")
    error = failed(name, url, f"the host answers {phrase}", remedy)
    error.status = status
    return error


def failed(
    name: str, url: str, reason: str, remedy: str, *, kind: type[DownloadError] = DownloadError
) -> DownloadError:
    """An error in the form that all of them have."""
    return kind(f"cannot fetch {name} from {url}: {reason}; {remedy}")
