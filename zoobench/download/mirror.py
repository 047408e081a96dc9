"""A copy of the published files nearer by."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from zoobench.download.remote import RemoteFile

#: Names the mirror: an address, or a folder.
ENVIRONMENT_VARIABLE = "ZOOBENCH_MIRROR"


def mirror_base() -> str | None:
    """Address of the mirror, with a slash at its end; None without one.

    Raises
    ------
    ValueError
        If the environment variable holds an address that is not ``http`` or ``https``.

    Examples
    --------
    >>> import os
    >>> from zoobench.download.mirror import mirror_base
    >>> os.environ["ZOOBENCH_MIRROR"] = "/data/zoos"
    >>> mirror_base()
    'file:///data/zoos/'
    >>> del os.environ["ZOOBENCH_MIRROR"]
    """
    mirror = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if not mirror:
        return None
    if "://" not in mirror:
        return Path(mirror).expanduser().absolute().as_uri().rstrip("/") + "/"
    if urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise ValueError(f"{ENVIRONMENT_VARIABLE} is {mirror!r}, but a folder, http://... or https://... was expected")
    return mirror.rstrip("/") + "/"


def mirrored(file: RemoteFile, key: str) -> list[RemoteFile]:
    """The addresses of a file: on the mirror first, if there is one.

    Parameters
    ----------
    file : RemoteFile
        The file at its publisher.
    key : str
        Its path with slashes on the mirror.

    Examples
    --------
    >>> from zoobench.download.mirror import mirrored
    >>> from zoobench.download.remote import RemoteFile
    >>> [file.url for file in mirrored(RemoteFile("https://example.org/a.zip", "a.zip"), "mnist/a.zip")]
    ['https://example.org/a.zip']
    """
    base = mirror_base()
    return [file] if base is None else [replace(file, url=base + quote(key), origin=file.key), file]
