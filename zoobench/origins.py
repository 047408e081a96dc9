"""What each source of a zoo would transfer, and how to get it: the kinds of source that a card may name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from zoobench.datasets_registry.cards import Card
from zoobench.datasets_registry.sources import DIRECTORY_HOST, DirectorySource, Source, UrlSource, ZenodoSource
from zoobench.download.checksums import ChecksumLock
from zoobench.download.client import Client
from zoobench.download.disk import human, require_space, write_whole
from zoobench.download.files import fetch_file, is_fetched
from zoobench.download.listing import Entry, address, list_directories, list_directory
from zoobench.download.many import fetch_many
from zoobench.download.mirror import mirror_base, mirrored
from zoobench.download.ranges import RemoteZip
from zoobench.download.remote import DownloadError, OfflineError, RangesNotSupportedError, RemoteFile, is_safe_path
from zoobench.download.zenodo import API, record_files
from zoobench.selection import listed

_CHECKPOINT = re.compile(r"checkpoint_([0-9]{1,9})")
_NOTES = ("params.json", "result.json")

#: What readers need of a raw experiment's archive: a trial's checkpoints and notes.
_MEMBER = re.compile(
    r"(?P<trial>(?:.*/)?[^/]+)/(?:checkpoint_(?P<epoch>[0-9]{1,9})/checkpoints|(?:params|result)\.json)"
)

#: With more requests than this for parts of one file, a host that serves single files is asked instead: hosts of
#: large files limit their guests to a few thousand requests an hour.
MAX_RANGES = 500


@dataclass(frozen=True)
class Plan:
    """What a source would transfer.

    Attributes
    ----------
    source : Source
        Where from.
    files : list of (str, int or None)
        Name and bytes of each file; None where the host does not say.
    n_bytes : int or None
        Bytes in all; None where they are not known.
    n_requests : int
        Requests that it takes.
    fetch : callable
        Transfers them and returns the path of what :func:`zoobench.readers.read_foreign` reads.
    whole : bool
        Whether every epoch of the source comes, whichever were asked for.
    at_least : bool
        Whether ``n_bytes`` is the least that it can be, because the host does not say how large every file is.
    seconds : float
        Time that it takes at least, because the host limits how many requests it answers.
    """

    source: Source
    files: list[tuple[str, int | None]]
    n_bytes: int | None
    n_requests: int
    fetch: Callable[[], Path]
    whole: bool = False
    at_least: bool = False
    seconds: float = 0.0

    @property
    def total(self) -> str:
        """The bytes for people."""
        if self.n_bytes is None:
            return "an unknown number of bytes"
        return f"{'at least ' * self.at_least}{human(self.n_bytes)}"


@dataclass(frozen=True)
class Hosts:
    """Where the published files are: another place in tests alone.

    Attributes
    ----------
    directory : str
        Base address of the authors' per-file host.
    zenodo : str
        Base address of Zenodo's API.
    plain : str or None
        What stands for the ``https://`` of plain addresses.
    """

    directory: str = DIRECTORY_HOST
    zenodo: str = API
    plain: str | None = None

    def file_at(self, source: UrlSource) -> RemoteFile:
        """The file of a plain address."""
        url = source.url if self.plain is None else self.plain + source.url.removeprefix("https://")
        name = source.url.rpartition("/")[2]
        return RemoteFile(url, name, size=source.size, checksum=source.checksum, origin=source.url)


@dataclass(frozen=True)
class Desk:
    """What fetching a zoo needs.

    Attributes
    ----------
    card : Card
        The zoo.
    folder : Path
        Where its raw files go.
    lock : ChecksumLock
        Checksums of files whose publisher gives none.
    client : Client
        Sends the requests.
    progress : bool
        Whether to show progress bars.
    hosts : Hosts
        Where the published files are.
    """

    card: Card
    folder: Path
    lock: ChecksumLock
    client: Client
    progress: bool
    hosts: Hosts = Hosts()


def plan(source: Source, epochs: Sequence[int] | None, desk: Desk) -> Plan:
    """What a source would transfer.

    Parameters
    ----------
    source : Source
        One of the card's.
    epochs : sequence of int or None
        Which epochs; None for all.
    desk : Desk
        What fetching needs.

    Returns
    -------
    Plan

    Raises
    ------
    DownloadError
        If the source cannot be reached or does not have what the card says.
    """
    if isinstance(source, DirectorySource):
        return _plan_directory(source, epochs, desk)
    if isinstance(source, ZenodoSource):
        return _plan_file(source, _record_addresses(source, desk), epochs, desk)
    if isinstance(source, UrlSource):
        file = desk.hosts.file_at(source)
        return _plan_file(source, mirrored(file, f"{desk.card.name}/{file.name}"), epochs, desk)
    raise ValueError(f"a source of kind {source.kind!r} is not downloaded")


def record_file(source: ZenodoSource, hosts: Hosts, client: Client) -> RemoteFile:
    """The record's one file that a card means; DownloadError if there is not exactly one."""
    files = record_files(source.record or source.doi, client=client, api=hosts.zenodo)
    pattern = source.file or "*"
    found = [file for file in files if fnmatch(file.name, pattern)]
    if len(found) != 1:
        there = ", ".join(file.name for file in files[:20]) or "none"
        what = "no file" if not found else "more than one file"
        raise DownloadError(f"the record {source.address} has {what} that matches {pattern!r}; its files are: {there}")
    file = found[0]
    return replace(file, size=file.size or source.size, checksum=file.checksum or source.checksum)


def _record_addresses(source: ZenodoSource, desk: Desk) -> list[RemoteFile]:
    """Addresses of the record's file: with what the record says of it, or on a mirror where no record can be asked."""
    try:
        file = record_file(source, desk.hosts, desk.client)
    except DownloadError:
        copy = _copy_on_mirror(source, desk)
        if copy is None:
            raise
        return [copy]
    return mirrored(file, f"{desk.card.name}/{file.name}")


def _copy_on_mirror(source: ZenodoSource, desk: Desk) -> RemoteFile | None:
    base = mirror_base()
    if base is None or source.file is None:
        return None
    folder = address(base, desk.card.name)
    try:
        listing = list_directory(folder, client=desk.client)
    except DownloadError:
        # A mirror need not list its folders; then the name has to be known.
        listing = [] if set("*?[") & set(source.file) else [Entry(source.file, is_directory=False)]
    found = [entry for entry in listing if not entry.is_directory and fnmatch(entry.name, source.file)]
    if len(found) != 1:
        return None
    name = found[0].name
    size = source.size if found[0].size is None else found[0].size
    return RemoteFile(address(folder, name), name, size, source.checksum, origin=f"{source.address}#{name}")


# -- one file ----------------------------------------------------------------------------------------------------------


def _plan_file(source: Source, addresses: list[RemoteFile], epochs: Sequence[int] | None, desk: Desk) -> Plan:
    file = addresses[-1]
    here = is_fetched(addresses, desk.folder)
    if not here and epochs is not None and source.format == "experiment" and file.name.endswith(".zip"):
        for candidate in addresses:
            try:
                return _plan_members(source, candidate, epochs, desk)
            except RangesNotSupportedError:
                break
            except DownloadError:
                if candidate is addresses[-1]:
                    raise

    def fetch() -> Path:
        return fetch_file(addresses, desk.folder, lock=desk.lock, client=desk.client, progress=desk.progress)

    if here:  # by an earlier call, which did not come to convert it
        return Plan(source, [], 0, 0, fetch, whole=True)
    return Plan(source, [(file.name, file.size)], file.size, 1, fetch, whole=True)


def _plan_members(source: Source, file: RemoteFile, epochs: Sequence[int], desk: Desk) -> Plan:
    """Those members of a remote zip that belong to some epochs, and are not here yet."""
    remote = RemoteZip(file, client=desk.client, cache=desk.folder / f".{file.name}.directory")
    tree = desk.folder / "members"
    there = {name: match for name in remote.members if (match := trial_member(source, name))}
    _require_epochs(file.url, epochs, {int(match["epoch"]) for match in there.values() if match["epoch"]})
    asked = (name for name, match in there.items() if match["epoch"] is None or int(match["epoch"]) in epochs)
    wanted = [name for name in asked if not (tree / name).exists()]
    unsafe = [name for name in wanted if not is_safe_path(name)]
    if unsafe:
        raise DownloadError(f"{file.url} has a member {unsafe[0]!r} that would lie outside its folder; it was not read")
    extents = remote.plan(wanted)
    n_bytes = sum(extent.stop - extent.start for extent in extents)
    if len(extents) > MAX_RANGES:
        raise RangesNotSupportedError(f"{file.url} would take {len(extents)} requests for parts of it")

    def fetch() -> Path:
        from tqdm import tqdm

        require_space(desk.folder, sum(remote.members[name].file_size for name in wanted), file.name)
        bar = tqdm(total=len(wanted), unit="file", desc=f"{desk.card.name}: {file.name}", disable=not desk.progress)
        with bar:
            for name, content in remote.read_members(wanted):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                write_whole(tree / name, content)
                bar.update()
        return tree

    files: list[tuple[str, int | None]] = [(name, remote.members[name].compress_size) for name in wanted]
    seconds = desk.client.least_seconds(file.url, len(extents))
    return Plan(source, files, n_bytes, len(extents), fetch, seconds=seconds)


def trial_member(source: Source, name: str) -> re.Match[str] | None:
    """What a member of a source's archive is to a raw experiment: groups ``trial`` and ``epoch``; None if nothing.

    Of an archive that holds several zoos, only what lies in the source's folder is something.
    """
    inside = source.member if isinstance(source, ZenodoSource) else None
    return _MEMBER.fullmatch(name) if inside is None or f"/{inside}/" in f"/{name}" else None


def _require_epochs(where: str, asked: Sequence[int] | None, there: Collection[int]) -> None:
    """Before anything is transferred, whether a source has what is asked for."""
    missing = sorted(set(asked or ()) - set(there))
    if missing or not there:
        lacking = f"no checkpoint of epoch {listed(missing)}" if missing else "no checkpoints"
        having = f"; it has epochs {listed(sorted(there))}" if there else ""
        raise DownloadError(f"{where} has {lacking}{having}")


# -- a tree of files ---------------------------------------------------------------------------------------------------


def _plan_directory(source: DirectorySource, epochs: Sequence[int] | None, desk: Desk) -> Plan:
    """Checkpoints, parameters and results of every trial in a tree of single files."""
    root, inside = _find_tree(source, desk)
    trials = [entry.name for entry in list_directory(root, client=desk.client) if entry.is_directory]
    listings = list_directories([address(root, trial) for trial in trials], client=desk.client)
    _require_epochs(root, epochs, {epoch for entries in listings for epoch in epochs_in(entries)})
    files = [
        RemoteFile(address(root, *path), "/".join(path), size=size)
        for trial, entries in zip(trials, listings, strict=True)
        for path, size in trial_files(trial, entries, epochs)
    ]
    tree = desk.folder / "tree" / inside.rpartition("/")[2]
    missing = [file for file in files if not (tree / file.name).exists()]
    sizes = [file.size for file in missing]
    # The host does not say how large checkpoints are; no smaller than their weights.
    at_least = None in sizes
    least = None if desk.card.n_weights is None else 4 * desk.card.n_weights
    n_bytes = None if at_least and least is None else sum(least or 0 if size is None else size for size in sizes)

    def fetch() -> Path:
        require_space(desk.folder, n_bytes or 0, f"{len(missing)} files")
        # All of them, because a process that was killed may not have noted the checksums of what is here.
        sources = [mirrored(file, f"{inside}/{file.name}") for file in files]
        fetch_many(sources, tree, lock=desk.lock, client=desk.client, progress=desk.progress)
        return tree

    return Plan(source, [(file.name, file.size) for file in missing], n_bytes, len(missing), fetch, at_least=at_least)


def _find_tree(source: DirectorySource, desk: Desk) -> tuple[str, str]:
    """Address of the zoo's folder, on the mirror or at the authors', and its path below the base."""
    problems: list[DownloadError] = []
    for base in (mirror_base(), desk.hosts.directory):
        if base is None:
            continue
        try:
            return tree_below(base, source, desk.client)
        except DownloadError as error:
            problems.append(error)
    if all(isinstance(problem, OfflineError) for problem in problems):
        raise problems[-1]
    raise DownloadError("; ".join(map(str, problems)))


def tree_below(base: str, source: DirectorySource, client: Client) -> tuple[str, str]:
    """Address of a zoo's folder on a host, and its path there; DownloadError if the host lists no such folder."""
    parent, _, last = source.path.rpartition("/")
    listing = list_directory(address(base, *parent.split("/")), client=client)
    there = [entry.name for entry in listing if entry.is_directory]
    for pattern in (last, *source.spellings):
        found = [name for name in there if fnmatch(name, pattern)]
        if len(found) == 1:
            inside = f"{parent}/{found[0]}"
            return address(base, *inside.split("/")), inside
    raise DownloadError(f"there is no folder {last!r} in {base}{parent}; there is {', '.join(there[:20]) or 'none'}")


def epochs_in(entries: Sequence[Entry]) -> list[int]:
    """The epochs of the checkpoints in a trial's folder."""
    matches = (_CHECKPOINT.fullmatch(entry.name) for entry in entries if entry.is_directory)
    return sorted(int(match[1]) for match in matches if match)


def trial_files(
    trial: str, entries: Sequence[Entry], epochs: Sequence[int] | None
) -> list[tuple[tuple[str, ...], int | None]]:
    """Path below the zoo's folder, and bytes where they are known, of what readers need of a trial."""
    found: list[tuple[tuple[str, ...], int | None]] = []
    for entry in entries:
        match = _CHECKPOINT.fullmatch(entry.name)
        if match and entry.is_directory and (epochs is None or int(match[1]) in epochs):
            found.append(((trial, entry.name, "checkpoints"), None))
        elif entry.name in _NOTES and not entry.is_directory:
            found.append(((trial, entry.name), entry.size))
    return found
