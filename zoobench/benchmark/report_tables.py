"""Tables of the report page as plain data: what stands in a cell, what it is sorted by, and which filter it heeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.metrics import LOSSES
from zoobench.benchmark.protocols import n_folds, transferred_from
from zoobench.benchmark.ranking import Comparison
from zoobench.benchmark.records import Record
from zoobench.benchmark.report_plots import ALPHA, bar, is_number, number, p_text

METRICS = {
    "r2": "R²",
    "mae": "MAE",
    "spearman": "Spearman's ρ",
    "kendall_tau": "Kendall's τ",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}

PROPERTIES = {
    "test_acc": "test accuracy",
    "train_acc": "train accuracy",
    "ggap": "generalisation gap",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "init": "initialisation",
}

INPUTS = {"weights": "weights", "hyperparameters": "hyper-parameters", "both": "both"}


@dataclass(frozen=True)
class Column:
    """A column: its heading, which way it is sorted first, and whether it is shown unasked."""

    label: str
    note: str = ""
    first: str = "ascending"
    numeric: bool = False
    shown: bool = True
    #: The filter for properties hides what is of another.
    property: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and what it is sorted by if that is another thing. ``kind`` says how it is drawn."""

    text: str
    sort: float | None = None
    kind: str = "text"
    extra: str = ""
    bar: str = ""
    link: str = ""
    best: bool = False
    published: bool = False


@dataclass(frozen=True)
class Row:
    """A row; the first cell heads it. Filters look at the other fields."""

    cells: list[Cell]
    method: str = ""
    inputs: str = ""
    zoo: str = ""
    property: str = ""
    key: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page."""

    key: str
    caption: str
    columns: list[Column]
    rows: list[Row]
    note: str = ""
    zoo: str = ""
    filtered: bool = field(default=True)


def property_name(name: str) -> str:
    """How a property is called in a heading."""
    return PROPERTIES.get(name, name.replace("_", " "))


def ranking_table(board: Leaderboard) -> Table:
    """How every method stands over all tasks."""
    columns = [
        Column("method"),
        Column("mean rank", numeric=True),
        Column("win rate", first="descending", numeric=True),
        Column("tasks", f"of {len(board.tasks)}", first="descending", numeric=True),
        Column("seconds to fit", "mean over tasks", numeric=True),
        Column("sees"),
        Column("source"),
    ]
    rows = []
    for method, line in board.ranking().iterrows():
        name, published = str(method), line["source"] == "published"
        cells = [
            Cell(name),
            _figure(line["mean_rank"], f"{line['mean_rank']:.2f}", "not ranked"),
            _figure(line["win_rate"], f"{line['win_rate']:.2f}", "not ranked"),
            _figure(int(line["n_tasks"]), str(line["n_tasks"])),
            _figure(line["fit_seconds"], seconds(line["fit_seconds"]), "not measured"),
            Cell(INPUTS.get(line["inputs"], line["inputs"])),
            Cell("published" if published else "computed", published=published),
        ]
        rows.append(Row(cells, method=name, inputs=line["inputs"]))
    return Table("ranking", "Ranking over all tasks", columns, rows)


def score_tables(board: Leaderboard, keys: dict[tuple[str, str], str]) -> list[Table]:
    """Methods by properties, one table a zoo and protocol; ``keys`` are the places of the records in the page."""
    groups: dict[tuple[str, str], list[str]] = {}
    for task in board.tasks:
        zoo, _, protocol = task.split("/")
        groups.setdefault((zoo, protocol), []).append(task)
    tables = []
    for place, ((zoo, protocol), tasks) in enumerate(groups.items()):
        columns = [Column("method")]
        for task in tasks:
            metric = next(record.metric for record in board.records if record.task == task)
            name = task.split("/")[1]
            first = "ascending" if metric in LOSSES else "descending"
            note = METRICS.get(metric, metric) + (", less is better" if metric in LOSSES else "")
            columns.append(Column(property_name(name), note, first, numeric=True, property=name))
        best = {task: board.scores.loc[task].max() for task in tasks}
        rows = []
        for name in board.methods:
            found = [board.record(task, name) for task in tasks]
            known = next((record for record in found if record), None)
            if known is None:
                continue
            cells = [Cell(name)]
            for task, record in zip(tasks, found, strict=True):
                leads = record is not None and board.scores.loc[task, name] == best[task]
                cells.append(score_cell(record, keys.get((task, name), ""), best=leads))
            rows.append(Row(cells, method=name, inputs=known.inputs))
        note = f"{describe_protocol(protocol)} {_sizes([r for r in board.records if r.task in tasks])}".strip()
        tables.append(Table(f"scores-{place}", f"{zoo}, {protocol}", columns, rows, note, zoo=zoo))
    return tables


def score_cell(record: Record | None, key: str, *, best: bool = False) -> Cell:
    """A score with its interval, or why there is none."""
    if record is None:
        return Cell("no result", kind="missing")
    if record.error:
        return Cell("failed", kind="failed", extra=record.error, link=key)
    if record.score is None or not is_number(record.score):
        return Cell("not defined", kind="failed", extra=f"no {METRICS.get(record.metric, record.metric)}", link=key)
    half = half_width(record)
    return Cell(
        number(record.score),
        sort=record.score,
        kind="score",
        extra="" if half is None else f"±{number(half)}",
        bar=bar(record),
        link=key,
        best=best,
        published=record.source == "published",
    )


def half_width(record: Record) -> float | None:
    """Half of a record's interval."""
    if not record.interval or not all(is_number(end) for end in record.interval):
        return None
    return record.interval[1] / 2 - record.interval[0] / 2


def record_table(board: Leaderboard, keys: dict[tuple[str, str], str]) -> Table:
    """Every record with all that it holds, the command that computes it again last."""
    columns = [
        Column("method"),
        Column("zoo"),
        Column("property"),
        Column("protocol"),
        Column("metric", shown=False),
        Column("score", first="descending", numeric=True),
        Column("command", "or where it is from"),
        Column("95 % interval", numeric=True),
        Column("other scores"),
        Column("seconds to fit", "a fold", numeric=True),
        Column("seconds to predict", "a fold", numeric=True, shown=False),
        Column("peak memory", "MB", numeric=True, shown=False),
        Column("models", "that judge", first="descending", numeric=True),
        Column("settings", shown=False),
    ]
    rows = []
    for record in board.records:
        zoo, name, protocol = record.task.split("/")
        key = keys[record.task, record.method]
        fit, predict = _mean(record.fit_seconds), _mean(record.predict_seconds)
        memory = None if record.peak_memory is None else record.peak_memory / 1e6
        interval = half_width(record) is not None and record.interval
        about = f"{record.method} on {record.task}"
        source = f"published: {record.method_source or 'source not stated'}"
        source += f"; confidence: {record.confidence or 'not stated'}"
        cells = [
            Cell(record.method),
            Cell(zoo),
            Cell(property_name(name)),
            Cell(protocol),
            Cell(METRICS.get(record.metric, record.metric)),
            score_cell(record, ""),
            Cell(source, kind="source")
            if record.source == "published"
            else Cell(record.command or "not recorded", kind="command" if record.command else "text", extra=about),
            Cell(f"{number(interval[0])} to {number(interval[1])}", sort=interval[0], kind="number")
            if interval
            else Cell("no interval", kind="missing"),
            Cell(_others(record), kind="wide"),
            _figure(fit, seconds(fit), "not measured"),
            _figure(predict, seconds(predict), "not measured"),
            _figure(memory, f"{memory or 0:.0f}", "not measured"),
            _figure(record.n_models, str(record.n_models), "not stated"),
            Cell(record.settings or "not stated", kind="wide"),
        ]
        rows.append(Row(cells, record.method, record.inputs, zoo, name, key))
    return Table("records", "Every result, and how to compute it again", columns, rows)


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Every pair of methods as numbers: what the picture of pairs shows."""
    columns = [
        Column("method"),
        Column("compared with"),
        Column("tasks", first="descending", numeric=True),
        Column("wins", first="descending", numeric=True),
        Column("ties", first="descending", numeric=True),
        Column("median difference", first="descending", numeric=True),
        Column("p", "Wilcoxon, Holm", numeric=True),
        Column("significant", f"at {ALPHA:g}"),
    ]
    rows = []
    for pair in comparisons:
        sure = is_number(pair.p_holm) and pair.p_holm < ALPHA
        cells = [
            Cell(pair.first),
            Cell(pair.second),
            *(_figure(count, str(count)) for count in (pair.n_tasks, pair.wins, pair.ties)),
            _figure(pair.difference, number(pair.difference), "not defined"),
            _figure(pair.p_holm, p_text(pair.p_holm).removeprefix("p ").removeprefix("= "), "no test"),
            Cell("yes" if sure else "no"),
        ]
        rows.append(Row(cells, method=pair.first))
    return Table("pairs-table", "Pairwise comparisons in numbers", columns, rows, filtered=False)


def describe_protocol(protocol: str) -> str:
    """One sentence on how a protocol judges."""
    if zoo := transferred_from(protocol):
        return f"Fitted on the train part of {zoo}, judged on all models of this zoo."
    if protocol == "paper":
        return "Fitted on the zoo's train part, chosen on its val part, judged on its test part."
    if protocol == "paper-published":
        return "Fitted, chosen and judged on the train, val and test parts that the zoo's authors dealt out."
    if protocol == "nfn":
        return "The last state of each model; half of the models judge."
    if protocol.startswith("cv-"):
        folds, _, repetitions = protocol.removeprefix("cv-").partition("x")
        times = "" if repetitions == "1" else f", repeated {repetitions} times ({n_folds(protocol)} fits)"
        return f"Cross-validation by model in {folds} folds{times}: all states of a model are in the same fold."
    return ""


def seconds(value: float | None) -> str:
    """A time with the same number of decimals everywhere, so that a column aligns."""
    if value is None or not is_number(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _figure(value: Any, text: str, lack: str = "no result") -> Cell:
    if value is None or not is_number(float(value)):
        return Cell(lack, kind="missing")
    return Cell(text, sort=float(value), kind="number")


def _others(record: Record) -> str:
    found = []
    for metric, values in record.scores.items():
        mean = _mean(values)
        if metric != record.metric:
            found.append(f"{METRICS.get(metric, metric)} {'not defined' if mean is None else number(mean)}")
    return " · ".join(found) or "none"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _sizes(records: Sequence[Record]) -> str:
    known = next((record for record in records if record.n_models and record.n_states), None)
    if known is None:
        return ""
    text = f"{known.n_states} states of {known.n_models} models judge"
    fold = f"; {known.n_train} models to fit on and {known.n_test} to judge in a fold" if known.n_train else ""
    return f"{text}{fold}."
