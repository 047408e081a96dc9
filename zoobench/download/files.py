"""One file: fetched once, whole, checked, and by one process however many ask."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pooch
from tqdm import tqdm

from zoobench.download.checksums import ChecksumLock, FirstSeen, digest
from zoobench.download.client import Client
from zoobench.download.disk import disk_error, one_at_a_time, write_whole
from zoobench.download.gate import say
from zoobench.download.remote import DownloadError, RemoteFile, failed
from zoobench.download.sources import Sources, as_sources, first_that_works
from zoobench.download.transfer import drop_part, part_path, transfer

#: Beside the files lies a folder of this name, with what is known of them and what is not yet whole.
DESK = ".download"


def fetch_file(
    file: Sources,
    folder: str | os.PathLike[str],
    *,
    lock: ChecksumLock | None = None,
    client: Client | None = None,
    progress: bool = True,
) -> Path:
    """Fetch a file, unless it is here already.

    A transfer that broke off, by whatever reason, is continued by the next call. Of several processes that ask for
    the same file one fetches it and the others wait. The file has its name only when it is whole and its checksum
    was found right; that is looked at once, and again if its size or date changes.

    Parameters
    ----------
    file : RemoteFile or sequence of RemoteFile
        The file, or several addresses of it under one name, best first.
    folder : path-like
        Where it goes, under its name.
    lock : ChecksumLock, optional
        Holds the checksums of files whose publisher gives none; without it such a file is taken as it comes.
    client : Client, optional
        Sends the requests; by default one for this call.
    progress : bool, default=True
        Show a progress bar on stderr.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    DownloadError
        If no source gives it, and why: refused, changed, damaged, or no room on the disk. OfflineError if no
        connection came about. No file is left under its name.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zoobench.download.files import fetch_file
    >>> from zoobench.download.remote import RemoteFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     there = Path(folder, "there.json")
    ...     _ = there.write_text("[1, 2]")
    ...     here = fetch_file(RemoteFile(there.as_uri(), "here.json", size=6), folder, progress=False)
    ...     here.read_text()
    '[1, 2]'
    """
    sources = as_sources(file)
    target = Path(folder) / sources[0].name
    desk = target.parent / DESK / target.name
    if _is_stamped(target, desk, sources):
        return target
    with ExitStack() as stack:
        client = client or stack.enter_context(Client())
        try:
            desk.mkdir(parents=True, exist_ok=True)
            stack.enter_context(one_at_a_time(desk / "lock", f"fetching {target}"))
            if _is_stamped(target, desk, sources):
                return target
            if target.exists():
                if (checksum := _matching(target, sources, lock)) is not None:
                    _stamp(target, desk, checksum)
                    return target
                say(f"{target} is not what its source has: fetching it anew")
            fetch = _Fetch(target, desk, sources[0].key, lock, client, progress)
            first_that_works(sources, fetch.from_source, target)
        except DownloadError:
            raise
        except OSError as error:
            raise disk_error(sources[0].name, target.parent, error) from error
    return target


def is_fetched(file: Sources, folder: str | os.PathLike[str]) -> bool:
    """Whether :func:`fetch_file` would transfer nothing, because the file is here and was found right."""
    sources = as_sources(file)
    target = Path(folder) / sources[0].name
    return _is_stamped(target, target.parent / DESK / target.name, sources)


def forget_check(target: Path) -> None:
    """Let the next :func:`fetch_file` look at a file's checksum again."""
    (target.parent / DESK / target.name / "stamp.json").unlink(missing_ok=True)


class _Fetch:
    """One call's work on a file; whoever makes it holds the file's lock."""

    def __init__(
        self, target: Path, desk: Path, key: str, lock: ChecksumLock | None, client: Client, progress: bool
    ) -> None:
        self.target, self.desk, self.key = target, desk, key
        self.lock, self.client, self.progress = lock, client, progress
        self.work = desk / "work"

    def from_source(self, source: RemoteFile) -> None:
        """Fetch through pooch, which compares the checksum and moves the file from a temporary name."""
        first = self.lock.read().get(self.key) if self.lock and source.checksum is None else None
        wanted = source.checksum if first is None else f"sha256:{first.sha256}"
        self.work.mkdir(exist_ok=True)
        for leftover in self.work.glob("tmp*"):  # pooch's, of a process that was killed
            leftover.unlink()
        try:
            with _without_log():
                fetched = pooch.retrieve(
                    source.url, wanted, fname=self.target.name, path=self.work, downloader=self._downloader(source)
                )
        except ValueError as error:  # a wrong checksum
            drop_part(part_path(self.work, source))
            difference = str(error).split(". ")[0]
            if self.lock and first:
                raise self.lock.changed(self.key, first, difference) from None
            remedy = "it was deleted; try again, and tell the publisher if it stays so"
            raise failed(source.name, source.url, difference, remedy) from None
        if wanted is None:
            wanted = _remember(Path(fetched), self.key, self.lock)
        os.replace(fetched, self.target)
        _stamp(self.target, self.desk, wanted or "")
        shutil.rmtree(self.work)

    def _downloader(self, source: RemoteFile) -> Any:
        def download(url: str, output_file: str, pooch: Any) -> None:
            part = part_path(self.work, source)
            with ExitStack() as stack:
                bars: list[Any] = []

                def report(done: int, total: int | None) -> None:
                    if not bars:  # not before the host has answered: an error needs no bar above it
                        options = {"unit": "B", "unit_scale": True, "dynamic_ncols": True, "disable": not self.progress}
                        bars.append(stack.enter_context(tqdm(desc=source.name, total=total, initial=done, **options)))
                    bars[0].total = total
                    bars[0].update(done - bars[0].n)

                transfer(source, part, self.client, report)
            os.unlink(output_file)
            try:
                # The part stays until the file has its name: killed in between, nothing is transferred again.
                os.link(part, output_file)
            except OSError:
                os.replace(part, output_file)

        return download


def _is_stamped(target: Path, desk: Path, sources: Sequence[RemoteFile]) -> bool:
    """Whether the file is the one whose checksum was found right."""
    try:
        stamp = json.loads((desk / "stamp.json").read_bytes())
        state = target.stat()
    except (OSError, ValueError):
        return False
    checksums = {source.checksum for source in sources}
    return (stamp.get("size"), stamp.get("mtime_ns")) == (state.st_size, state.st_mtime_ns) and (
        checksums == {None} or stamp.get("checksum") in checksums
    )


def _stamp(target: Path, desk: Path, checksum: str) -> None:
    state = target.stat()
    stamp = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "checksum": checksum}
    write_whole(desk / "stamp.json", json.dumps(stamp).encode())


def _matching(target: Path, sources: Sequence[RemoteFile], lock: ChecksumLock | None) -> str | None:
    """The checksum by which a file that was put here by other means is right; None if it is wrong."""
    if sources[0].size not in (None, target.stat().st_size):
        return None
    published = [source.checksum for source in sources if source.checksum is not None]
    if not published:
        known = lock.expected(sources[0].key) if lock else None
        if known is None:
            return _remember(target, sources[0].key, lock)
        published = [known]
    for checksum in published:
        algorithm = checksum.split(":")[0]
        if f"{algorithm}:{digest(target, algorithm)}" == checksum:
            return checksum
    return None


def _remember(path: Path, key: str, lock: ChecksumLock | None) -> str:
    """Take a file's content as its first; the checksum, empty without a lock to keep it in."""
    if lock is None:
        return ""
    seen = FirstSeen(digest(path), path.stat().st_size)
    lock.add({key: seen})
    return f"sha256:{seen.sha256}"


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep pooch from telling, in this thread, what the progress bar shows and what the user need not do."""
    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.WARNING

    logger = pooch.get_logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
