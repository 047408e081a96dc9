"""The leaderboard: records of many methods on many tasks as one ranked table, in every form that people paste."""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from zoobench.benchmark.metrics import LOSSES
from zoobench.benchmark.ranking import (
    Comparison,
    cliques,
    compare_all,
    complete,
    corrected_t_test,
    fewest_tasks,
    mean_ranks,
    win_rates,
)
from zoobench.benchmark.records import RECORDS, Record, iterate_records, to_frame

#: What is shown where a method has no score.
MISSING = {"text": "-", "markdown": "–", "latex": "--", "html": "–"}

_METRICS = {"r2": "R²", "kendall_tau": "Kendall's τ", "accuracy": "accuracy"}


class Leaderboard:
    """Methods by tasks, ranked.

    Parameters
    ----------
    records : iterable of Record
        One a task and method; of two for the same the last counts. Published numbers may be among them: they are shown
        and marked, but come from other splits, and so are not ranked with what was computed. Where there is nothing
        else, they are ranked among themselves.

    Attributes
    ----------
    records : list of Record
        Ordered by task and method.
    tasks, methods : list of str
        Ids and names. Methods are ordered by mean rank, those without one last.
    scores : DataFrame of shape (n_tasks, n_methods)
        Mean over folds of each task's own metric; NaN where there is none.
    protocol : str
        The one whose tasks are ranked over: that with the most scores.
    ranked : DataFrame
        The part of ``scores`` that ranks come from: the largest one in which nothing is missing.
    fewest_tasks : int
        How many tasks it would take for any difference between that many methods to be significant.

    Examples
    --------
    >>> from zoobench.benchmark import Leaderboard, Record
    >>> values = {"ridge": 0.5, "boosting": 0.75}
    >>> board = Leaderboard(Record("z/test_acc/paper", name, "r2", {"r2": [value]}) for name, value in values.items())
    >>> board.methods
    ['boosting', 'ridge']
    >>> print(board.to_markdown())  # doctest: +ELLIPSIS
    | method | mean rank | win rate | ...
    """

    def __init__(self, records: Iterable[Record]) -> None:
        unique = {(record.task, record.method): record for record in records}
        if not unique:
            raise ValueError("a leaderboard needs at least one record, and there is none; `zoobench run` makes them")
        self.tasks = sorted({task for task, _ in unique})
        metrics: dict[str, set[str]] = {}
        for (task, _), record in unique.items():
            metrics.setdefault(task, set()).add(record.metric)
        for task, found in metrics.items():
            if len(found) > 1:
                raise ValueError(
                    f"records of {task} are judged by {' and by '.join(sorted(found))}, which cannot be compared"
                )
        self._metric = {task: found.pop() for task, found in metrics.items()}
        names = list(dict.fromkeys(name for _, name in unique))
        table = pd.DataFrame(index=self.tasks, columns=names, dtype=np.float64)
        for (task, name), record in unique.items():
            if record.score is not None:
                table.loc[task, name] = -record.score if record.metric in LOSSES else record.score
        ours = {key for key, record in unique.items() if record.source == "ours"} or set(unique)
        data = {key: unique[key].data_sha256 for key in ours if unique[key].data_sha256}
        self._mixed = [t for t in self.tasks if len({digest for (task, _), digest in data.items() if task == t}) > 1]
        ours = {key for key in ours if key[0] not in self._mixed}
        comparable = table.where([[(task, name) in ours for name in names] for task in self.tasks])
        # The same property under another protocol is not another task to be better on.
        protocols = [task.split("/")[2] for task in self.tasks]
        rows = {name: [p == name for p in protocols] for name in protocols}
        self.protocol = max(rows, key=lambda name: int(comparable[rows[name]].count().sum()))
        self.ranked, _ = complete(comparable[rows[self.protocol]])
        ranks = mean_ranks(self.ranked).reindex(names)
        # Who is not ranked comes last, with more tasks before fewer; names decide the rest.
        order = sorted(names, key=lambda n: (np.isnan(ranks[n]), np.nan_to_num(ranks[n]), -table[n].count(), n))
        self.methods = order
        self.scores, self._comparable = table[order], comparable[order]
        self.ranked = self.ranked[[name for name in order if name in self.ranked]]
        self.fewest_tasks = fewest_tasks(self.ranked.shape[1])
        self.records = [unique[key] for key in sorted(unique, key=lambda k: (k[0], order.index(k[1])))]
        self._by_key = unique

    @classmethod
    def from_folder(cls, *folders: str | os.PathLike[str]) -> Leaderboard:
        """The leaderboard of stores of records, of which the later count; without any, of the bundled zoos' records."""
        return cls(record for folder in folders or (RECORDS,) for record in iterate_records(folder))

    # -- what it says --------------------------------------------------------------------------------------------------

    def record(self, task: str, method: str) -> Record | None:
        """The record of a method on a task; None if there is none."""
        return self._by_key.get((task, method))

    def ranking(self) -> pd.DataFrame:
        """One row a method: how it stands over the tasks that are ranked.

        Returns
        -------
        DataFrame
            Index ``method``; columns ``mean_rank``, ``win_rate`` (NaN where it lacks a task), ``n_tasks``
            (scores under all protocols), ``fit_seconds`` (mean over tasks of the mean over folds), ``inputs`` and
            ``source``.
        """
        rows = {}
        for name in self.methods:
            own = [record for record in self.records if record.method == name]
            seconds = [np.mean(record.fit_seconds) for record in own if record.fit_seconds and not record.error]
            rows[name] = {
                "n_tasks": int(self.scores[name].count()),
                "fit_seconds": float(np.mean(seconds)) if seconds else float("nan"),
                "inputs": own[0].inputs,
                "source": own[0].source,
            }
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
        table.insert(0, "mean_rank", mean_ranks(self.ranked))
        table.insert(1, "win_rate", win_rates(self.ranked))
        return table

    def comparisons(self) -> pd.DataFrame:
        """Every pair of ranked methods over the tasks; see :func:`~zoobench.benchmark.ranking.compare_all`."""
        return pd.DataFrame(compare_all(self.ranked), columns=Comparison._fields)

    def compare(self, task: str, first: str, second: str) -> tuple[float, float]:
        """Two methods on one task, by the t-test that is corrected for the training data that folds share.

        Parameters
        ----------
        task : str
            A task's id.
        first, second : str
            Methods that have a score on it.

        Returns
        -------
        t, p : float
            See :func:`~zoobench.benchmark.ranking.corrected_t_test`. NaN for a protocol of one fold.

        Raises
        ------
        ValueError
            If one of the two has no score on the task, or a published one, which comes from other splits, or if the
            zoo changed between the results.
        """
        pair = []
        for name in (first, second):
            record = self.record(task, name)
            if record is None or record.score is None:
                raise ValueError(f"{name!r} has no score on {task!r}; there are scores of {self._scored(task)}")
            if record.source == "published":
                raise ValueError(
                    f"the score of {name!r} on {task!r} is a published one, of other splits; compare what was computed"
                )
            pair.append(record)
        if task in self._mixed:
            raise ValueError(f"results on {task!r} are of different states of the zoo; run {first} and {second} again")
        values = [np.asarray(record.scores[record.metric], dtype=np.float64) for record in pair]
        sign = -1 if pair[0].metric in LOSSES else 1
        one = pair[0]
        return corrected_t_test(sign * (values[0] - values[1]), n_train=one.n_train or 1, n_test=one.n_test or 1)

    def _scored(self, task: str) -> str:
        names = self.scores.columns[self.scores.loc[task].notna()] if task in self.tasks else []
        return ", ".join(names) or "nobody"

    def cliques(self) -> list[tuple[str, ...]]:
        """Neighbours in the ranking among which no difference is significant; empty with too few tasks to tell."""
        return cliques(self.ranked) if len(self.ranked) >= self.fewest_tasks else []

    def notes(self) -> list[str]:
        """What a reader has to know about this table."""
        published = [name for name in self.methods if self._published(name, self.tasks)]
        lacking = [name for name in self.methods if name not in self.ranked and name not in published]
        mixed = ", ".join(self._mixed)
        said = ["±: half of the 95 % interval from drawing the models that judge again; higher is better."]
        if lacking:
            said.append(f"Not ranked, for want of a result: {', '.join(lacking)}. Nothing missing is averaged over.")
        if mixed:
            said.append(f"Not ranked over, as the zoo changed between the results: {mixed}. Run these methods again.")
        if published and self.ranked.shape[1] and not set(published) & set(self.ranked):
            said.append(f"Not ranked, as published numbers come from other splits: {', '.join(published)}.")
        if len({task.split("/")[2] for task in self.tasks}) > 1 or len(self.ranked) < len(self.tasks):
            said.append(f"Ranked over {len(self.ranked)} of {len(self.tasks)} tasks, those of {self.protocol}.")
        if len(self.ranked) < self.fewest_tasks and self.ranked.shape[1] > 1:
            said.append(
                f"{so_many_tasks(len(self.ranked))} too few to call any difference among {self.ranked.shape[1]} "
                f"methods significant: that takes {self.fewest_tasks} at least."
            )
        if len({task.split("/")[0] for task in self.tasks}) < len(self.tasks):
            said.append("Tasks of one zoo share its models, so ranks over them say less than their number suggests.")
        said += [f"{r.method} failed on {r.task}: {r.error}." for r in self.records if r.error]
        return said

    # -- in many forms -------------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """The records, one a row; see :func:`~zoobench.benchmark.records.load_results`."""
        return to_frame(self.records)

    def to_csv(self) -> str:
        """:meth:`to_frame` as text, every digit."""
        return self.to_frame().to_csv(index=False)

    def to_text(self) -> str:
        """For a terminal: the ranking, then the scores of each zoo, then the notes."""
        parts = [_aligned(self._ranking_cells("text"))]
        for title, cells in self._score_tables("text"):
            parts.append(f"{title}\n{_aligned(cells)}")
        return "\n\n".join([*parts, "\n".join(self.notes())])

    def to_markdown(self) -> str:
        """For a README."""
        parts = [_markdown(self._ranking_cells("markdown"))]
        for title, cells in self._score_tables("markdown"):
            parts.append(f"**{title}**\n\n{_markdown(cells)}")
        return "\n\n".join([*parts, "\n".join(f"- {note}" for note in self.notes())])

    def to_latex(self) -> str:
        """For a paper: booktabs tables, the best score of each task in bold."""
        parts = [_latex(self._ranking_cells("latex"))]
        for title, cells in self._score_tables("latex"):
            parts.append(f"% {title}\n{_latex(cells)}")
        return "\n\n".join(parts)

    def to_html(self) -> str:
        """Tables for a notebook."""
        parts = [_html(self._ranking_cells("html"), "Ranking")]
        parts += [_html(cells, title) for title, cells in self._score_tables("html")]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes())
        return "\n".join([*parts, f"<ul>{notes}</ul>"])

    def _repr_html_(self) -> str:
        return self.to_html()

    def __repr__(self) -> str:
        sizes = ((len(self.methods), "method"), (len(self.tasks), "task"))
        return f"Leaderboard({', '.join(f'{n} {what}' + 's' * (n != 1) for n, what in sizes)})"

    def _published(self, name: str, tasks: Iterable[str]) -> bool:
        """Whether a method's scores on some tasks are published ones."""
        found = [record.source for task in tasks if (record := self.record(task, name))]
        return bool(found) and set(found) == {"published"}

    def _marked(self, name: str, tasks: Iterable[str]) -> str:
        return f"{name} (published)" if self._published(name, tasks) else name

    def _ranking_cells(self, style: str) -> list[list[str]]:
        ranking, lack = self.ranking(), MISSING[style]
        cells = [["method", "mean rank", "win rate", "tasks", "seconds to fit", "sees"]]
        for name, row in ranking.iterrows():
            cells.append(
                [self._marked(str(name), self.tasks)]
                + [lack if np.isnan(row[key]) else f"{row[key]:.2f}" for key in ("mean_rank", "win_rate")]
                + [f"{row['n_tasks']}/{len(self.tasks)}"]
                + [lack if np.isnan(row["fit_seconds"]) else f"{row['fit_seconds']:.2g}", row["inputs"]]
            )
        return cells

    def _score_tables(self, style: str) -> list[tuple[str, list[list[str]]]]:
        """One table a zoo and protocol: methods by properties."""
        groups: dict[tuple[str, str], list[str]] = {}
        for task in self.tasks:
            zoo, _, protocol = task.split("/")
            groups.setdefault((zoo, protocol), []).append(task)
        tables = []
        for (zoo, protocol), tasks in groups.items():
            head = ["method"]
            for task in tasks:
                head.append(f"{task.split('/')[1]} ({_METRICS.get(self._metric[task], self._metric[task])})")
            names = [name for name in self.methods if any(self.record(task, name) for task in tasks)]
            best = {task: self._comparable.loc[task].max() for task in tasks}
            body = [
                [self._marked(name, tasks), *(self._cell(task, name, best[task], style) for task in tasks)]
                for name in names
            ]
            tables.append((f"{zoo}, {protocol}", [head, *body]))
        return tables

    def _cell(self, task: str, name: str, best: float, style: str) -> str:
        record = self.record(task, name)
        if record is None or record.score is None:
            return "failed" if record and record.error else MISSING[style]
        text = _number(record.score)
        if record.interval:
            text += f" ±{_number((record.interval[1] - record.interval[0]) / 2)}"
        if self._comparable.loc[task, name] == best:
            text = {"markdown": f"**{text}**", "latex": rf"\textbf{{{text}}}", "text": f"{text}*"}.get(style, text)
        return text.replace("±", r"$\pm$ ") if style == "latex" else text


def so_many_tasks(number: int) -> str:
    """Beginning of a sentence: "1 task is", "5 tasks are"."""
    return "1 task is" if number == 1 else f"{number} tasks are"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.0e}"


def _aligned(cells: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _markdown(cells: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|:--" + "|--:" * (len(cells[0]) - 1) + "|", *lines[1:]])


def _latex(cells: list[list[str]]) -> str:
    def line(row: list[str]) -> str:
        return (
            " & ".join(cell.replace("_", r"\_").replace("R²", "$R^2$").replace("τ", r"$\tau$") for cell in row) + r" \\"
        )

    head = [rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}", r"\toprule", line(cells[0]), r"\midrule"]
    return "\n".join([*head, *(line(row) for row in cells[1:]), r"\bottomrule", r"\end{tabular}"])


def _html(cells: list[list[str]], caption: str) -> str:
    def row(values: list[str], tag: str, first: str) -> str:
        tags: list[Any] = [first] + [tag] * (len(values) - 1)
        return "".join(f"<{t}>{escape(v)}</{t.split()[0]}>" for t, v in zip(tags, values, strict=True))

    head = row(cells[0], 'th scope="col"', 'th scope="col"')
    lines = [row(values, "td", 'th scope="row"') for values in cells[1:]]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
