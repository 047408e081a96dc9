"""A zoo that is not on this machine yet: fetched from the first source that gives it, and converted once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from zoobench.contents import ZooContents
from zoobench.convert import convert
from zoobench.datahome import CHECKSUMS, RAW
from zoobench.datasets_registry.cards import Card
from zoobench.datasets_registry.sources import DirectorySource, Source, ZenodoSource
from zoobench.download.checksums import ChecksumLock
from zoobench.download.client import Client
from zoobench.download.disk import disk_error, human, one_at_a_time
from zoobench.download.gate import say
from zoobench.download.remote import DownloadError, NoSpaceError, OfflineError
from zoobench.errors import ZooFormatError
from zoobench.originals import Originals
from zoobench.origins import Desk, Hosts, Plan, plan
from zoobench.readers.sparsified import with_sparsity
from zoobench.selection import listed
from zoobench.store import is_zoo, read_index

#: Where the published files are; replaced in tests, whose files lie on this machine.
HOSTS = Hosts()


def missing_epochs(card: Card, folder: Path, epochs: str | tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Which epochs have to be fetched before a zoo can be used.

    Parameters
    ----------
    card : Card
        The zoo.
    folder : Path
        Where it lies, or would lie.
    epochs : None, "last" or tuple of int
        What is asked for.

    Returns
    -------
    None or tuple of int
        None for all that the source has; an empty tuple for none.

    Raises
    ------
    ValueError
        If an epoch is asked for that the zoo is known not to have.
    ZooFormatError
        If what lies there is damaged, or of another version of the format.
    """
    if isinstance(epochs, str):
        # "last"; where the epochs are not known, neither is the last.
        epochs = card.epochs[-1:] if card.epochs else None
    if is_zoo(folder):
        here: list[int] | None = read_index(folder)["provenance"].get("epochs")
        if here is None:
            return ()
        if epochs is not None:
            epochs = tuple(sorted(set(epochs) - set(here)))
    # The authors of some zoos do not count the untrained networks, which may be there all the same.
    unknown = sorted(set(epochs or ()) - {0} - set(card.epochs or epochs or ()))
    if unknown:
        raise ValueError(f"zoo {card.name!r} has no epoch {listed(unknown)}; it has epochs {listed(card.epochs or ())}")
    return epochs


def acquire(
    card: Card,
    folder: Path,
    epochs: tuple[int, ...] | None,
    *,
    max_bytes: int,
    n_retries: int,
    delay: float,
    keep_original: bool = False,
    progress: bool = True,
) -> None:
    """Fetch a zoo, or more epochs of it, and bring it into the zoo format.

    Parameters
    ----------
    card : Card
        The zoo.
    folder : Path
        Where it is to lie. What it has already stays.
    epochs : tuple of int or None
        Which epochs to fetch; None for all.
    max_bytes : int
        Refuse to transfer more.
    n_retries, delay : int, float
        Further attempts after a request that failed, and seconds before the first.
    keep_original : bool, default=False
        Keep the downloaded files.
    progress : bool, default=True
        Show progress bars on stderr.

    Raises
    ------
    OSError
        If no source gives it: the reason of each is named.
    ValueError
        If it would transfer more than ``max_bytes``.
    """
    problems: list[Exception] = []
    with _desk(card, folder, n_retries, delay, progress=progress) as desk:
        if is_zoo(folder):
            epochs = missing_epochs(card, folder, epochs)
            if epochs == ():
                return  # another process was faster
        originals = Originals(desk.folder)
        for chosen in _plans(card, epochs, desk, problems):
            _check_size(card, chosen, max_bytes)
            if chosen.seconds:
                minutes = f"{chosen.seconds / 60:.0f} minutes at least"
                say(f"{chosen.source.address} takes {minutes}: its host limits how many requests it answers")
            try:
                raw = chosen.fetch()
                keep = keep_original or originals.holds(raw)
                # What came whole and does not stay is converted whole: it would have to come again for other epochs.
                # So is what has an order of models of its own, which parts that are joined would not have.
                taken = epochs if chosen.source.format == "experiment" and (keep or not chosen.whole) else None
                _convert(card, folder, raw, taken, chosen.source)
                if keep:
                    originals.keep(chosen.source, raw, None if chosen.whole else epochs)
                originals.clear_others(keep_notes=taken is not None)
            except NoSpaceError:
                raise
            except (DownloadError, ValueError) as error:
                problems.append(error)
                originals.distrust(chosen.source)
            except OSError as error:
                raise disk_error(f"zoo {card.name!r}", folder.parent, error) from error
            else:
                return
    raise _failure(card, folder, problems)


def preview(card: Card, folder: Path, epochs: tuple[int, ...] | None, *, n_retries: int, delay: float) -> Plan:
    """What :func:`acquire` would transfer, from the first source that answers."""
    problems: list[Exception] = []
    with _desk(card, folder, n_retries, delay, progress=False) as desk:
        for chosen in _plans(card, epochs, desk, problems):
            return chosen
    raise _failure(card, folder, problems)


@contextmanager
def _desk(card: Card, folder: Path, n_retries: int, delay: float, *, progress: bool) -> Iterator[Desk]:
    """Room for the raw files of one zoo, for one process at a time."""
    home = folder.parent
    raw = home / RAW / card.name
    with ExitStack() as stack:
        try:
            raw.mkdir(parents=True, exist_ok=True)
            stack.enter_context(one_at_a_time(home / RAW / f"{card.name}.lock", f"fetching {card.name}"))
            raw.mkdir(parents=True, exist_ok=True)  # whoever had the lock before may have cleared up
        except OSError as error:
            raise disk_error(f"zoo {card.name!r}", home, error) from error
        client = stack.enter_context(Client(n_retries=n_retries, delay=delay))
        yield Desk(card, raw, ChecksumLock(home / CHECKSUMS), client, progress, HOSTS)


def _plans(card: Card, epochs: Sequence[int] | None, desk: Desk, problems: list[Exception]) -> Iterator[Plan]:
    """What each source would transfer, best source first; why one cannot is noted."""
    kept = Originals(desk.folder).plan(card, epochs)
    if kept is not None:
        yield kept
    sources: list[Source] = [source for source in card.sources if source.readable]
    if epochs is not None:
        # A host of single files gives some epochs at less cost than one that has them all in one file.
        sources.sort(key=lambda source: not isinstance(source, DirectorySource))
    for source in sources:
        if source.epochs is not None and not set(epochs or card.epochs or ()) <= set(source.epochs):
            there = ", ".join(map(str, source.epochs))
            problems.append(DownloadError(f"{source.address} has only epochs {there}"))
            continue
        try:
            chosen = plan(source, epochs, desk)
        except DownloadError as error:
            problems.append(error)
        else:
            yield chosen


def _check_size(card: Card, chosen: Plan, max_bytes: int) -> None:
    if chosen.n_bytes is not None and chosen.n_bytes > max_bytes:
        raise ValueError(
            f"fetching zoo {card.name!r} would transfer {chosen.total}, more than max_bytes allows "
            f'({human(max_bytes)}); ask for fewer epochs, such as epochs="last", or allow more'
        )


def what_is_missing(card: Card, folder: Path) -> str:
    """For messages: the zoo, its size, and that it or a part of it is not where it belongs."""
    n_states, n_weights = card.n_states, card.n_weights
    size = f" ({human(4 * n_states * n_weights)} of weights)" if n_states and n_weights else ""
    lacks = f"in {folder} lacks some of the epochs that are asked for" if is_zoo(folder) else f"is not in {folder}"
    return f"zoo {card.name!r}{size} {lacks}"


def _failure(card: Card, folder: Path, problems: Sequence[Exception]) -> DownloadError:
    remedy = f"Try `zoobench fetch {card.name}` later, or name a mirror in ZOOBENCH_MIRROR"
    addresses = ", ".join(source.address for source in card.sources)
    if not card.readable:
        return DownloadError(
            f"zoobench has no reader for its format yet, so zoo {card.name!r} was not downloaded. "
            f"Its sources: {addresses}"
        )
    if problems and all(isinstance(problem, OfflineError) for problem in problems):
        return OfflineError(
            f"{what_is_missing(card, folder)}, and no connection could be made to its sources: {addresses}. "
            f"Check the network. {remedy}"
        )
    reasons = "; ".join(dict.fromkeys(map(str, problems)))
    return DownloadError(f"zoo {card.name!r} could not be fetched into {folder}: {reasons}. {remedy}")


def _convert(card: Card, folder: Path, raw: Path, epochs: Sequence[int] | None, source: Source) -> None:
    """Bring raw files into the zoo format, beside what the zoo has already."""
    # A source that has only some epochs gives no whole zoo.
    known = set(epochs or source.epochs or ()) or None
    if known is not None and is_zoo(folder):
        known |= set(read_index(folder)["provenance"]["epochs"])

    def finish(contents: ZooContents) -> ZooContents:
        layout = contents.layout
        if card.n_weights not in (None, layout.n_parameters):
            raise ZooFormatError(
                f"{source.address} has networks of {layout.n_parameters} weights, but those of {card.name} have "
                f"{card.n_weights}"
            )
        here = read_index(folder)["layout"]["tensors"] if is_zoo(folder) else layout.to_dict()["tensors"]
        if [shape for _, shape, _ in here] != [list(tensor.shape) for tensor in layout.tensors]:
            raise ZooFormatError(
                f"{source.address} has networks of {layout.n_weights} numbers, buffers included, but those that are "
                f"here already have other tensors; delete {folder} to take these instead"
            )
        if card.twin_of is not None:
            contents = with_sparsity(contents)
        origin = {"address": source.address, "epochs": None if known is None else sorted(known)}
        provenance = contents.provenance | origin
        return replace(contents, name=card.name, card=card.to_dict(), filenames=[], provenance=provenance)

    member = source.member if isinstance(source, ZenodoSource) else None
    convert(raw, folder, epochs=None if epochs is None else tuple(epochs), finish=finish, add=True, member=member)
