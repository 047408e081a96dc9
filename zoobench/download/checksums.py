"""Checksums of what publishers give none for: the first download's, which every later one must match."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoobench.download.disk import one_at_a_time, write_whole
from zoobench.download.remote import DownloadError
from zoobench.errors import ZooFormatError

_VERSION = 1


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class FirstSeen:
    """A file as it was when it was first fetched.

    Attributes
    ----------
    sha256 : str
        Hexadecimal digest of its content.
    size : int
        Bytes.
    date : str
        When that was, in UTC.
    """

    sha256: str
    size: int
    date: str = field(default_factory=_now, compare=False)


class ChecksumLock:
    """A file that holds the checksum of every first download, by its address.

    Parameters
    ----------
    path : path-like
        The file, JSON; it is made when something is first added.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench.download.checksums import ChecksumLock, FirstSeen
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = ChecksumLock(f"{folder}/checksums.json")
    ...     lock.add({"https://example.org/zoo.tar": FirstSeen("ab" * 32, 10)})
    ...     print(lock.expected("https://example.org/zoo.tar")[:13])
    ...     lock.add({"https://example.org/zoo.tar": FirstSeen("cd" * 32, 10)})
    Traceback (most recent call last):
        ...
    zoobench.download.remote.DownloadError: https://example.org/zoo.tar has changed since it was first fetched ...
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> dict[str, FirstSeen]:
        """Every entry.

        Raises
        ------
        ZooFormatError
            If the file is damaged.
        """
        try:
            content = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise self._damaged(str(error)) from None
        try:
            if content["version"] != _VERSION:
                raise self._damaged(f"its version is {content['version']}, but {_VERSION} was expected")
            return {key: FirstSeen(**entry) for key, entry in content["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(repr(error)) from None

    def expected(self, key: str) -> str | None:
        """``"sha256:<hex>"`` of the file of that address; None if it was never fetched."""
        seen = self.read().get(key)
        return None if seen is None else f"sha256:{seen.sha256}"

    def add(self, seen: Mapping[str, FirstSeen]) -> None:
        """Keep what is new, and compare what is not.

        Parameters
        ----------
        seen : mapping of str to FirstSeen
            Address -> what was fetched from it.

        Raises
        ------
        DownloadError
            If a file differs from its first download. What is new is kept nevertheless.
        """
        if not seen:
            return
        with self._locked():
            known = self.read()
            changed = [key for key, now in seen.items() if known.get(key, now) != now]
            new = {key: now for key, now in seen.items() if key not in known}
            if new:
                self._write(known | new)
        if changed:
            raise self.changed(changed[0], known[changed[0]], f"it is sha256 {seen[changed[0]].sha256} now")

    def forget(self, key: str) -> None:
        """Drop an entry, so that the next download is taken as the first.

        Parameters
        ----------
        key : str
            Address of the file.
        """
        with self._locked():
            known = self.read()
            if known.pop(key, None) is not None:
                self._write(known)

    def changed(self, key: str, first: FirstSeen, found: str) -> DownloadError:
        """The error for a file that is no longer what it was, and how to accept that."""
        return DownloadError(
            f"{key} has changed since it was first fetched on {first.date} (then sha256 {first.sha256}, {first.size} "
            f"bytes; {found}), so it is refused; if its publisher has replaced it and you trust the new content, "
            f"accept it by: python -c 'from zoobench.download.checksums import ChecksumLock; "
            f'ChecksumLock("{self.path}").forget("{key}")\''
        )

    def _locked(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return one_at_a_time(self.path.with_name(f".{self.path.name}.lock"), f"writing {self.path}")

    def _write(self, entries: Mapping[str, FirstSeen]) -> None:
        files = {key: asdict(entries[key]) for key in sorted(entries)}
        write_whole(self.path, json.dumps({"version": _VERSION, "files": files}, indent=1).encode())

    def _damaged(self, reason: str) -> ZooFormatError:
        return ZooFormatError(
            f"{self.path} is no list of checksums ({reason}); restore it, or delete it to begin a new one"
        )
