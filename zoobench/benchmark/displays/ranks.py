"""Ranks of a leaderboard's methods over all tasks, and scores on one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from zoobench.benchmark.displays.axes import COLOURS, GREY, label_of, open_axes, short, tidy
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.metrics import LOSSES


class RankDisplay:
    """Methods from the best to the worst: their ranks over tasks, or their scores on one task with intervals.

    Parameters
    ----------
    values : Series
        Mean rank or score of each method, named by it, the best first.
    low, high : Series
        Ends of each method's line: its best and its worst rank, or the interval of its score; NaN where there is none.
    single : DataFrame of shape (n_tasks, n_methods), optional
        Ranks on each task, drawn as small dots.
    title, xlabel : str
        What is shown.

    Attributes
    ----------
    points_ : matplotlib PathCollection
        One point a method.
    lines_ : matplotlib LineCollection
        One line a method.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    Examples
    --------
    >>> from zoobench.benchmark import Leaderboard, Record
    >>> from zoobench.benchmark.displays import RankDisplay
    >>> scores = {"ridge": 0.5, "boosting": 0.75}
    >>> board = Leaderboard(Record("z/test_acc/paper", name, "r2", {"r2": [value]}) for name, value in scores.items())
    >>> RankDisplay.from_leaderboard(board, task="z/test_acc/paper").values.to_dict()
    {'boosting': 0.75, 'ridge': 0.5}
    """

    def __init__(
        self,
        values: pd.Series,
        *,
        low: pd.Series,
        high: pd.Series,
        single: pd.DataFrame | None = None,
        title: str = "",
        xlabel: str = "",
    ) -> None:
        self.values = values
        self.low = low
        self.high = high
        self.single = single
        self.title = title
        self.xlabel = xlabel

    @classmethod
    def from_leaderboard(cls, board: Leaderboard, *, task: str | None = None, ax: Any = None) -> RankDisplay:
        """Draw ranks over all tasks, or scores on one.

        Parameters
        ----------
        board : Leaderboard
            Of the ranks, methods that it ranks are shown.
        task : str, optional
            A task's id: shows the scores on it, with the 95 % intervals of their records. By default mean ranks are
            shown, with a dot for the rank on each task and a line from the best to the worst of them.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        RankDisplay

        Raises
        ------
        ValueError
            If the leaderboard has no such task, no score on it, or fewer than two methods are ranked.
        """
        if task is None:
            ranks = ranks_of(board)
            single = board.ranked.rank(axis=1, ascending=False)[ranks.index]
            title = f"{len(single)} task{'s' * (len(single) != 1)}"
            low, high = single.min(), single.max()
            return cls(ranks, low=low, high=high, single=single, title=title, xlabel="rank (1 is best)").plot(ax)
        if task not in board.tasks:
            raise ValueError(f"the leaderboard has no task {task!r}; there are {', '.join(board.tasks)}")
        found = {name: record for name in board.methods if (record := board.record(task, name)) is not None}
        known = {name: record for name, record in found.items() if record.score is not None}
        if not known:
            raise ValueError(f"no method has a score on task {task!r}")
        metric = next(iter(known.values())).metric
        scores = pd.Series({name: record.score for name, record in known.items()}, dtype=np.float64)
        scores = scores.sort_values(ascending=metric in LOSSES, kind="stable")
        ends = [known[name].interval or [float("nan")] * 2 for name in scores.index]
        low, high = (pd.Series([end[i] for end in ends], index=scores.index, dtype=np.float64) for i in (0, 1))
        label = {"r2": "R²", "kendall_tau": "Kendall's τ"}.get(metric, label_of(metric))
        better = "lower" if metric in LOSSES else "higher"
        return cls(scores, low=low, high=high, title=task, xlabel=f"{label} ({better} is better)").plot(ax)

    def plot(self, ax: Any = None) -> RankDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        RankDisplay
            Itself.
        """
        n = len(self.values)
        ax = open_axes(ax, self, width=6.4, height=1.2 + 0.3 * n)
        y = np.arange(n)
        self.lines_ = ax.hlines(y, self.low.reindex(self.values.index), self.high.reindex(self.values.index))
        self.lines_.set(color=COLOURS[0], linewidth=2, alpha=0.45)
        if self.single is not None:
            for place, name in enumerate(self.values.index):
                shown, times = np.unique(self.single[name], return_counts=True)
                ax.scatter(shown, [place] * len(shown), s=12 + 6 * times, color=GREY, linewidths=0, zorder=2)
        self.points_ = ax.scatter(self.values, y, s=42, color=COLOURS[0], zorder=3)
        ax.set_yticks(y, [short(str(name)) for name in self.values.index])
        ax.set(xlabel=self.xlabel, title=self.title, ylim=(n - 0.4, -0.6))
        if self.single is not None:
            ax.set_xticks(range(1, n + 1, max(1, n // 10)))
        tidy(ax)
        ax.tick_params(axis="y", length=0)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def ranks_of(board: Leaderboard) -> pd.Series:
    """Mean rank of each method that has one, the best first; an error where there are fewer than two."""
    ranks = board.ranking()["mean_rank"].dropna().sort_values(kind="stable")
    if len(ranks) < 2:
        raise ValueError(
            f"{board!r} ranks {len(ranks)} of its methods, and two are needed; run more methods on all tasks"
        )
    return ranks
