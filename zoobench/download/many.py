"""Many small files, over kept connections."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tqdm import tqdm

from zoobench.download.checksums import ChecksumLock, FirstSeen, digest
from zoobench.download.client import Client
from zoobench.download.disk import disk_error, one_at_a_time, require_space
from zoobench.download.parallel import in_parallel
from zoobench.download.remote import DownloadError, RemoteFile, failed
from zoobench.download.sources import Sources, as_sources, first_that_works
from zoobench.download.transfer import drop_part, part_path, transfer

_DESK = ".download-many"


def fetch_many(
    files: Sequence[Sources],
    folder: str | os.PathLike[str],
    *,
    lock: ChecksumLock | None = None,
    client: Client | None = None,
    progress: bool = True,
) -> list[Path]:
    """Fetch many files in parallel, except those that are here already.

    Each is moved to its name when it is whole and its checksum was found right, so a file that has its name is done.
    Of several processes that fetch into one folder, one works and the others wait.

    Parameters
    ----------
    files : sequence of (RemoteFile or sequence of RemoteFile)
        The files, or for each several addresses under one name, best first. No two files have one name; two that
        have one address are both fetched from it.
    folder : path-like
        Where they go, under their names, which may have folders in them.
    lock : ChecksumLock, optional
        Holds the checksums of files whose publisher gives none; without it such a file is taken as it comes.
    client : Client, optional
        Sends the requests, over as many connections as it keeps; by default one for this call.
    progress : bool, default=True
        Show a progress bar on stderr.

    Returns
    -------
    list of Path
        The files, in their order.

    Raises
    ------
    DownloadError
        If one of them cannot be fetched, and why; the others that have arrived stay.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zoobench.download.many import fetch_many
    >>> from zoobench.download.remote import RemoteFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     there = [Path(folder, f"there_{i}.json") for i in range(2)]
    ...     _ = [path.write_text("[1, 2]") for path in there]
    ...     files = [RemoteFile(path.as_uri(), f"trial_{i}/params.json") for i, path in enumerate(there)]
    ...     [path.parent.name for path in fetch_many(files, folder, progress=False)]
    ['trial_0', 'trial_1']
    """
    wanted = [as_sources(file) for file in files]
    folder = Path(folder)
    paths = [folder / sources[0].name for sources in wanted]
    known = lock.read() if lock else {}
    if not _missing(wanted, folder, lock, known):
        return paths
    name = f"{len(wanted)} files"
    with ExitStack() as stack:
        client = client or stack.enter_context(Client())
        try:
            work = folder / _DESK / "work"
            work.mkdir(parents=True, exist_ok=True)
            stack.enter_context(one_at_a_time(folder / _DESK / "lock", f"fetching into {folder}"))
            known = lock.read() if lock else {}
            missing = _missing(wanted, folder, lock, known)
            work.mkdir(exist_ok=True)
            require_space(folder, sum(s[0].size or 0 for s in missing if not (folder / s[0].name).exists()), name)
            _fetch_missing(missing, folder, work, lock, known, client, progress)
            shutil.rmtree(work)
        except DownloadError:
            raise
        except OSError as error:
            raise disk_error(name, folder, error) from error
    return paths


def _missing(
    wanted: Sequence[tuple[RemoteFile, ...]], folder: Path, lock: ChecksumLock | None, known: Mapping[str, FirstSeen]
) -> list[tuple[RemoteFile, ...]]:
    """Files that are not here whole, or whose first checksum was not noted because their process was killed."""
    missing = []
    for sources in wanted:
        first = sources[0]
        try:
            size = (folder / first.name).stat().st_size
        except OSError:
            size = None
        unnoted = lock is not None and first.checksum is None and first.key not in known
        if size is None or unnoted or first.size not in (None, size):
            missing.append(sources)
    return missing


def _fetch_missing(
    missing: Sequence[tuple[RemoteFile, ...]],
    folder: Path,
    work: Path,
    lock: ChecksumLock | None,
    known: Mapping[str, FirstSeen],
    client: Client,
    progress: bool,
) -> None:
    fresh: dict[str, FirstSeen] = {}

    def fetch(sources: tuple[RemoteFile, ...]) -> int:
        target = folder / sources[0].name
        key = sources[0].key

        def from_source(source: RemoteFile) -> int:
            part = part_path(work, source)
            transfer(source, part, client)
            try:
                return accept(source, part)
            except DownloadError:
                drop_part(part)
                raise

        def accept(source: RemoteFile, path: Path) -> int:
            size = path.stat().st_size
            if source.checksum is not None:
                _compare(source, path)
            elif lock is not None:
                first, now = known.get(key), FirstSeen(digest(path), size)
                if first is not None and first != now:
                    raise lock.changed(key, first, f"it is sha256 {now.sha256} now")
                fresh[key] = now
            if path != target:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
                drop_part(path)
            return size

        if target.exists() and sources[0].size in (None, target.stat().st_size):
            return accept(sources[0], target)
        return first_that_works(sources, from_source, target)

    sizes = [sources[0].size for sources in missing]
    in_bytes = None not in sizes
    total = sum(size or 0 for size in sizes) if in_bytes else len(missing)
    with tqdm(
        total=total,
        desc="fetching",
        unit="B" if in_bytes else "file",
        unit_scale=in_bytes,
        dynamic_ncols=True,
        disable=not progress,
    ) as bar:
        try:
            for size in in_parallel(client, fetch, missing, ahead=8 * client.n_connections):
                bar.update(size if in_bytes else 1)
        finally:
            if lock is not None:
                lock.add(fresh)


def _compare(source: RemoteFile, path: Path) -> None:
    assert source.checksum is not None
    algorithm, expected = source.checksum.split(":")
    found = digest(path, algorithm)
    if found != expected:
        reason = f"its {algorithm} is {found}, but {expected} was expected"
        raise failed(
            source.name, source.url, reason, "it was deleted; try again, and tell the publisher if it stays so"
        )
