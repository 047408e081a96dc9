"""The report: a leaderboard as one HTML file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from zoobench import __version__
from zoobench.benchmark import report_plots as plots
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.ranking import Comparison
from zoobench.benchmark.records import Record
from zoobench.benchmark.report_tables import (
    INPUTS,
    METRICS,
    comparison_table,
    property_name,
    ranking_table,
    record_table,
    score_tables,
)
from zoobench.datasets_registry.cards import read_cards


def write_report(
    leaderboard: Leaderboard, path: str | os.PathLike[str], *, title: str = "zoobench leaderboard"
) -> Path:
    """Write a leaderboard as a page to read, sort and filter.

    One file: it asks no host for anything, and the same records give the same bytes. It holds the ranking, a table a
    zoo and protocol, pictures, and every record with the command that computes it again.

    Parameters
    ----------
    leaderboard : Leaderboard
        What to show.
    path : path
        The file; one that is there is replaced, whole or not at all. Its folder is made.
    title : str, default="zoobench leaderboard"
        Heading of the page.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ImportError
        If jinja2 is not installed; the extra ``report`` brings it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zoobench.benchmark import Leaderboard, Record, write_report
    >>> board = Leaderboard([Record("a_zoo/test_acc/paper", "ridge", "r2", {"r2": [0.75]})])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(board, Path(folder) / "report.html").read_text(encoding="utf-8")
    >>> "0.750" in page
    True
    """
    target = Path(path)
    text = _render(leaderboard, title)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        scratch.write_text(text, encoding="utf-8", newline="\n")
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return target


def _render(board: Leaderboard, title: str) -> str:
    from jinja2 import Environment, StrictUndefined

    files = resources.files("zoobench.benchmark") / "templates"
    template, style, script = (
        (files / f"report.{ending}").read_text(encoding="utf-8") for ending in ("html", "css", "js")
    )
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    keys = {(record.task, record.method): f"record-{i}" for i, record in enumerate(board.records)}
    n_failed = sum(bool(record.error) for record in board.records)
    return (
        environment.from_string(template).render(
            title=title,
            style=style,
            script=script,
            # The browser runs this script and no other, wherever another might come from.
            script_digest=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            board=board,
            # Failures come last among the notes, one each: they fold away.
            notes=board.notes()[: len(board.notes()) - n_failed],
            failed=board.notes()[len(board.notes()) - n_failed :],
            ranking=ranking_table(board),
            scores=score_tables(board, keys),
            records=record_table(board, keys),
            pictures=_pictures(board),
            panels=_panels(board),
            filters=_filters(board),
            any_published=any(record.source == "published" for record in board.records),
            zoos=_zoos(board),
            methods=_methods(board),
            machines=_machines(board.records),
            version=__version__,
        )
        + "\n"
    )


def _breakable(text: str) -> Any:
    """Text that may be broken after an underscore, which browsers would not do."""
    from markupsafe import Markup, escape

    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def _pictures(board: Leaderboard) -> dict[str, Any]:
    n_tasks = len(board.ranked)
    comparisons = [Comparison(*row) for row in board.comparisons().itertuples(index=False)]
    return {
        "difference": plots.critical_difference(board),
        "pairwise": plots.pairwise(board.methods, comparisons),
        "cost": plots.cost(board),
        "comparisons": comparison_table(comparisons),
        "few": ""
        if n_tasks >= board.fewest_tasks
        else f"{n_tasks} {'task is' if n_tasks == 1 else 'tasks are'} too few: it takes {board.fewest_tasks} at least.",
    }


def _panels(board: Leaderboard) -> list[dict[str, str]]:
    """One picture a task."""
    panels = []
    for i, task in enumerate(board.tasks):
        zoo, name, protocol = task.split("/")
        records = [record for record in board.records if record.task == task]
        metric = METRICS.get(records[0].metric, records[0].metric)
        heading = f"{property_name(name)}, {metric}"
        svg = plots.dots(records, f"task-{i}", f"{heading}: {zoo}, {protocol}")
        if svg:
            panels.append({"zoo": zoo, "property": name, "protocol": protocol, "heading": heading, "svg": svg})
    return panels


def _filters(board: Leaderboard) -> dict[str, dict[str, str]]:
    """What can be chosen: label by value."""
    seen = {record.inputs for record in board.records}
    return {
        "inputs": {name: INPUTS.get(name, name) for name in (*INPUTS, *sorted(seen - INPUTS.keys())) if name in seen},
        "zoo": {name: name for name in dict.fromkeys(task.split("/")[0] for task in board.tasks)},
        "property": {name: property_name(name) for name in sorted({task.split("/")[1] for task in board.tasks})},
    }


def _zoos(board: Leaderboard) -> list[dict[str, str]]:
    """What the data is, and under which licence it may be used."""
    cards, found = read_cards(), []
    for name in dict.fromkeys(task.split("/")[0] for task in board.tasks):
        card = cards.get(name)
        own = [r for r in board.records if r.task.startswith(f"{name}/") and r.data_sha256]
        found.append(
            {
                "name": name,
                "title": card.title if card else "not in the registry",
                "licence": card.licence if card else "not known",
                "citation": " ".join(card.citation.split()) if card else "not known",
                "digest": own[0].data_sha256.split()[0] if own else "",
            }
        )
    return found


def _methods(board: Leaderboard) -> list[dict[str, str]]:
    """Where each method is from, and whose code it is."""
    found = []
    for name in board.methods:
        own = next(record for record in board.records if record.method == name)
        found.append(
            {
                "name": name,
                "inputs": INPUTS.get(own.inputs, own.inputs),
                "source": own.method_source or "not stated",
                "licence": own.licence or "not stated",
            }
        )
    return found


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Environments that records come from, the most frequent first: settings by name, and how many records."""
    groups: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.source == "published" or not (record.versions or record.environment):
            continue
        facts = {**record.environment, **record.versions}
        key = json.dumps(facts, sort_keys=True, default=str)
        groups.setdefault(key, {"facts": facts, "count": 0})["count"] += 1
    return [groups[key] for key in sorted(groups, key=lambda key: (-groups[key]["count"], key))]
