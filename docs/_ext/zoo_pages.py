"""The catalogue of zoos: a table of all, and a page each, from the cards of the registry and the committed results."""

from __future__ import annotations

from functools import cache

import pandas as pd

from rst import code, facts, heading, link, plain, table, with_papers
from zoobench.benchmark.records import PUBLISHED, RECORDS, Record, iterate_records
from zoobench.benchmark.results import benchmarked
from zoobench.datasets_registry import Card, Source, read_cards
from zoobench.download.disk import human

#: What formats of sources are called.
_FORMATS = {
    "zoo": "the zoo format",
    "experiment": "a raw experiment",
    "dataset_pt": "the authors' preprocessed file",
    "small_cnn_zoo": "weights, metrics and layout",
    "hyper_representations": "the authors' preprocessed file",
    "other": "single checkpoints",
}

_HEAD = (
    "zoo",
    "dataset",
    "architecture",
    "variant",
    "models",
    "epochs",
    "weights",
    "size",
    "source",
    "licence",
)
_NUMBERS = ("models", "epochs", "weights", "size")


def zoo_pages() -> dict[str, str]:
    """Page -> text."""
    cards = read_cards()
    pages = {f"zoos/{name}": zoo_page(card) for name, card in cards.items()}
    pages["zoos/index"] = overview(list(cards.values()))
    return pages


def overview(cards: list[Card]) -> str:
    """The table of all zoos."""
    bundled = sum(card.bundled is not None for card in cards)
    rows = [_row(card) for card in cards]
    return "\n".join(
        [
            heading("Zoos"),
            f"{len(cards)} populations, of which {bundled} come with the package. "
            ":func:`~zoobench.list_zoos` is this table as a DataFrame; "
            "a name leads to the zoo's page: what it is, how to fetch it, what to cite, which numbers are "
            "known. Size is that of the weights, as float32. What is not known before a zoo is read is left empty. "
            ":doc:`/fetching` says where zoos come from and where they go, :doc:`/bring_your_zoo` how to add one.\n",
            "A click on a title sorts.\n",
            table(_HEAD, rows, css="sortable zoos", numbers=_NUMBERS),
            ".. toctree::\n   :hidden:\n\n" + "".join(f"   {card.name}\n" for card in cards),
        ]
    )


def zoo_page(card: Card) -> str:
    """What a card says, how to fetch the zoo, and which numbers are known of it."""
    parts = [
        heading(card.name),
        f"**{plain(card.title)}.** {with_papers(' '.join(card.description.split()))}\n",
        code(_fetching(card)) if card.readable else "zoobench has no reader for it yet.\n",
        facts(_facts(card)),
    ]
    if card.grid:
        parts.append(".. rubric:: Hyper-parameters\n")
        rows = [(f"``{name}``", plain(", ".join(map(str, values)))) for name, values in card.grid.items()]
        parts.append(table(("property", "values"), rows))
    parts.append(".. rubric:: Sources\n")
    parts.append("\n".join(f"{number}. {_source(source)}" for number, source in enumerate(card.sources, 1)) + "\n")
    parts.append(f".. rubric:: Citation\n\n{with_papers(' '.join(card.citation.split()))}\n")
    return "\n".join([*parts, *_computed(card.name), *_published(card.name)])


def _row(card: Card) -> list[str]:
    return [
        f":doc:`{card.name}`",
        card.dataset,
        card.architecture,
        card.variant,
        _count(card.n_models),
        _count(card.epochs and len(card.epochs)),
        _count(card.n_weights),
        _size(card),
        card.sources[0].kind if card.readable else f"{card.sources[0].kind}, no reader yet",
        card.licence,
    ]


def _facts(card: Card) -> list[tuple[str, str]]:
    twins = [other.name for other in read_cards().values() if other.twin_of == card.name]
    return [
        ("images", plain(card.dataset)),
        ("image channels", _count(card.channels)),
        ("architecture", f"``{card.architecture}``"),
        ("variant", f"``{card.variant}``"),
        ("models", _count(card.n_models)),
        ("epochs", _epochs(card.epochs)),
        ("weights of a model", _count(card.n_weights)),
        ("states", _count(card.n_states)),
        ("size of the weights", _size(card)),
        ("seeds", plain(card.seeds or "")),
        ("twin of", f":doc:`{card.twin_of}`" if card.twin_of else ""),
        ("its twins", ", ".join(f":doc:`{name}`" for name in twins)),
        ("licence", card.licence if card.licence != "unknown" else "unknown: none is stated"),
        ("train it again", f"``zoobench generate {card.recipe}``" if card.recipe else ""),
    ]


def _fetching(card: Card) -> str:
    lines = ["from zoobench import fetch_zoo", "", f'zoo = fetch_zoo("{card.name}")']
    if card.epochs is not None and len(card.epochs) > 1:
        lines[-1] += "  # every epoch"
        lines.append(f'zoo = fetch_zoo("{card.name}", epochs="last")')
    return "\n".join(lines)


def _source(source: Source) -> str:
    where = link(source.address, source.address) if source.address.startswith("http") else source.address
    said = [f"{_FORMATS[source.format].capitalize()}: {where}"]
    file = getattr(source, "file", None)
    if file and file not in source.address:
        said.append(f"file ``{file}``")
    if getattr(source, "member", None):
        said.append(f"folder ``{source.member}`` in it")
    if source.size:
        said.append(human(source.size))
    if source.epochs:
        said.append(f"epochs {_epochs(source.epochs)}")
    if source.checksum:
        said.append(f"{source.checksum.partition(':')[0]} is known")
    if not source.readable:
        said.append("no reader yet")
    return f"{', '.join(said)}.{f' {plain(source.note)}' if source.note else ''}"


@cache
def _records() -> list[Record]:
    return [*iterate_records(RECORDS), *iterate_records(PUBLISHED)]


def _of(zoo: str, source: str) -> list[Record]:
    return [r for r in _records() if r.task.split("/")[0] == zoo and r.source == source and r.score is not None]


def _computed(zoo: str) -> list[str]:
    """The committed records: methods by properties, a table for each protocol."""
    found = _of(zoo, "ours")
    if not found:
        return []
    parts = [
        ".. rubric:: Confirmed numbers\n",
        "Computed by zoobench, and a part of them again by ``zoobench check``: means over folds; R² for numbers, "
        "accuracy for names. :doc:`/leaderboard` has the intervals.\n",
    ]
    for protocol in dict.fromkeys(r.task.split("/")[2] for r in found):
        rows = [(r.method, r.task.split("/")[1], r.score) for r in found if r.task.split("/")[2] == protocol]
        pivot = pd.DataFrame(rows, columns=["method", "property", "score"]).pivot(
            index="method", columns="property", values="score"
        )
        cells = [
            [f"``{name}``", *(f"{value:.3f}" if value == value else "" for value in row)]
            for name, *row in pivot.itertuples()
        ]
        head = ["method", *pivot.columns]
        parts += [f"Protocol ``{protocol}``:\n", table(head, cells, css="sortable", numbers=head[1:])]
    if zoo in benchmarked():
        parts.append("The numbers of the paper's own protocol are in :doc:`/paper_benchmark`.\n")
    return parts


def _published(zoo: str) -> list[str]:
    """Numbers that papers report, each with where it was read and how far to trust it."""
    found = _of(zoo, "published")
    if not found:
        return []
    rows = []
    for r in found:
        _, name, protocol = r.task.split("/")
        rows.append(
            [
                name,
                protocol,
                r.method.removesuffix("_published"),
                r.metric,
                f"{r.score:g}",
                with_papers(r.method_source),
                plain(r.confidence),
            ]
        )
    head = ("property", "protocol", "method", "metric", "score", "source", "confidence")
    said = "Read in papers, not computed here; what they compare is only comparable within one protocol.\n"
    return [".. rubric:: Published numbers\n", said, table(head, rows, css="sortable", numbers=("score",))]


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _size(card: Card) -> str:
    return "" if card.n_states is None or card.n_weights is None else human(card.n_states * card.n_weights * 4)


def _epochs(epochs: tuple[int, ...] | None) -> str:
    if epochs is None:
        return ""
    if len(epochs) > 2 and epochs == tuple(range(epochs[0], epochs[-1] + 1)):
        return f"{epochs[0]} to {epochs[-1]}"
    return ", ".join(map(str, epochs))
