"""Whether the sources that the cards name are there and hold what the cards say: a look at the real hosts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoobench.datasets_registry.cards import Card, find_card, read_cards
from zoobench.datasets_registry.sources import DirectorySource, Source, UrlSource, ZenodoSource
from zoobench.download.client import Client
from zoobench.download.disk import human, write_whole
from zoobench.download.listing import address, list_directory
from zoobench.download.many import fetch_many
from zoobench.download.ranges import RemoteZip
from zoobench.download.remote import DownloadError, RangesNotSupportedError, RemoteFile, is_safe_path
from zoobench.download.zenodo import record_files
from zoobench.origins import Hosts, epochs_in, record_file, tree_below, trial_files, trial_member
from zoobench.readers import read_foreign

#: Trials that are looked at for one with a checkpoint: some of a published zoo may have failed.
_TRIALS = 5


@dataclass(frozen=True)
class Finding:
    """What became of one source of a card.

    Attributes
    ----------
    card : str
        Name of the zoo.
    address : str
        The source.
    wrong : bool
        Whether the source is not there, cannot be read, or contradicts the card.
    text : str
        What was found, or what is wrong.
    """

    card: str
    address: str
    wrong: bool
    text: str

    def __str__(self) -> str:
        return f"{'WRONG' if self.wrong else 'ok   '}  {self.card}  {self.address}  {' '.join(self.text.split())}"


def check_sources(
    names: Sequence[str] = (), *, hosts: Hosts, n_retries: int = 2, delay: float = 1.0
) -> Iterator[Finding]:
    """Resolve every source of every card, and read one model where that needs only a part of the source.

    Parameters
    ----------
    names : sequence of str
        Zoos; by default all of the registry.
    hosts : Hosts
        Where the published files are.
    n_retries, delay : int, float
        Further attempts after a request that failed, and seconds before the first.

    Yields
    ------
    Finding
        One for each source of each card, as soon as it is known.

    Raises
    ------
    ValueError
        For an unknown name.
    """
    cards = [find_card(name) for name in names] or list(read_cards().values())
    with Client(n_retries=n_retries, delay=delay) as client:
        for card in cards:
            for source in card.sources:
                try:
                    text, wrong = _look(card, source, hosts, client), False
                except (OSError, ValueError) as error:
                    text, wrong = str(error), True
                yield Finding(card.name, source.address, wrong, text)


def _look(card: Card, source: Source, hosts: Hosts, client: Client) -> str:
    """What is there; an error says what is wrong."""
    if isinstance(source, DirectorySource):
        return _look_at_tree(card, source, hosts, client)
    if isinstance(source, ZenodoSource):
        if source.file is None:
            files = record_files(source.record or source.doi, client=client, api=hosts.zenodo)
            shown = ", ".join(file.name for file in files[:8]) + (", ..." if len(files) > 8 else "")
            return f"{len(files)} files: {shown}; not read: which of them is meant is not known"
        return _look_at_file(card, source, record_file(source, hosts, client), client)
    if isinstance(source, UrlSource):
        file = hosts.file_at(source)
        return _look_at_file(card, source, _with_size(file, client), client)
    return "comes with the package"


def _with_size(file: RemoteFile, client: Client) -> RemoteFile:
    """The file with the size that its host tells; a request for one byte, since some hosts answer no HEAD."""
    with client.open(file.url, name=file.name, headers={"Range": "bytes=0-0"}) as response:
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise DownloadError(f"{file.url} answers with a web page instead of the file")
        told = response.headers.get("Content-Range", "").rpartition("/")[2] if response.status_code == 206 else None
        size = told or response.headers.get("Content-Length", "")
    found = int(size) if size.isdecimal() else None
    if file.size is not None and found is not None and found != file.size:
        raise DownloadError(f"{file.url} has {found} bytes, but the card says {file.size}")
    return RemoteFile(file.url, file.name, size=found, checksum=file.checksum, origin=file.origin)


def _look_at_file(card: Card, source: Source, file: RemoteFile, client: Client) -> str:
    found = f"{file.name}, {'of unknown size' if file.size is None else human(file.size)}"
    if not source.readable:
        return f"{found}; not read: zoobench has no reader for it yet"
    if source.format != "experiment" or not file.name.endswith(".zip"):
        return f"{found}; not read: it would have to be transferred whole"
    try:
        archive = RemoteZip(file, client=client)
    except RangesNotSupportedError:
        return f"{found}; not read: its host serves no parts of it"
    trials: dict[str, list[str]] = {}
    epochs: dict[str, int] = {}
    for name in archive.members:
        match = trial_member(source, name)
        if match and is_safe_path(name):
            trials.setdefault(match["trial"], []).append(name)
            if match["epoch"]:
                epochs[name] = int(match["epoch"])
    for trial, names in sorted(trials.items()):
        checkpoints = sorted((name for name in names if name in epochs), key=epochs.__getitem__)
        if not checkpoints:
            continue
        wanted = [*checkpoints[-1:], *(name for name in names if name not in epochs)]
        with tempfile.TemporaryDirectory() as folder:
            for name, content in archive.read_members(wanted):
                write_whole(Path(folder, name), content)
            return f"{found}; {_read(card, Path(folder), trial, len(trials), len(set(epochs.values())))}"
    raise DownloadError(f"{file.url} has no checkpoint among its {len(archive.members)} files")


def _look_at_tree(card: Card, source: DirectorySource, hosts: Hosts, client: Client) -> str:
    root, inside = tree_below(hosts.directory, source, client)
    trials = [entry.name for entry in list_directory(root, client=client) if entry.is_directory]
    if not source.readable:
        return f"{len(trials)} folders; not read: zoobench has no reader for it yet"
    for trial in trials[:_TRIALS]:
        entries = list_directory(address(root, trial), client=client)
        epochs = epochs_in(entries)
        if epochs:
            files = trial_files(trial, entries, epochs[-1:])
            with tempfile.TemporaryDirectory() as folder:
                tree = Path(folder, inside.rpartition("/")[2])
                wanted = [RemoteFile(address(root, *path), "/".join(path), size=size) for path, size in files]
                fetch_many(wanted, tree, client=client, progress=False)
                return _read(card, tree, trial, len(trials), len(epochs))
    raise DownloadError(f"{root} has no checkpoint in the first {_TRIALS} of its {len(trials)} folders")


def _read(card: Card, raw: Path, trial: str, n_trials: int, n_epochs: int) -> str:
    """Read the one model, and compare it with the card."""
    contents = read_foreign(raw)
    found = contents.layout.n_parameters
    if card.n_weights not in (None, found):
        raise ValueError(f"its networks have {found} weights, but the card says {card.n_weights}")
    models = "" if card.n_models is None else f" of {card.n_models}"
    epochs = "" if card.epochs is None else f" of {len(card.epochs)}"
    known = "as the card says" if card.n_weights else "the card does not say how many"
    name = trial.rpartition("/")[2]
    return f"{n_trials}{models} models, {n_epochs}{epochs} epochs; read {name}: {found} weights, {known}"
