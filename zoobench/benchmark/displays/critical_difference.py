"""Whether the methods of a leaderboard differ."""

from __future__ import annotations

from typing import Any

import pandas as pd

from zoobench.benchmark.displays.axes import COLOURS, DARK, open_axes, short
from zoobench.benchmark.displays.ranks import ranks_of
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.ranking import fewest_tasks


class CriticalDifferenceDisplay:
    """Mean ranks on a line, and bars over methods that do not differ significantly: Demšar's diagram [1]_.

    Whether two methods differ is said by Wilcoxon's signed-rank test over tasks with Holm's correction, not by one
    critical difference for all.

    Parameters
    ----------
    ranks : Series
        Mean rank of each method, named by it, the best first.
    cliques : list of tuple of str
        Neighbours among which no difference is significant.
    n_tasks : int
        Tasks that the ranks are means over.

    Attributes
    ----------
    bars_ : list of matplotlib Line2D
        One a clique.
    labels_ : list of matplotlib Text
        One a method, in the order of the ranks.
    note_ : matplotlib Text or None
        What is said where there are too few tasks for any bar.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    References
    ----------
    .. [1] Demšar, J., "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006.

    Examples
    --------
    >>> from zoobench.benchmark import Leaderboard, Record
    >>> from zoobench.benchmark.displays import CriticalDifferenceDisplay
    >>> scores = {"ridge": 0.5, "boosting": 0.75}
    >>> board = Leaderboard(Record("z/test_acc/paper", name, "r2", {"r2": [value]}) for name, value in scores.items())
    >>> print(CriticalDifferenceDisplay.from_leaderboard(board).note_.get_text())
    1 task is too few to call any difference among 2 methods significant: that takes 6 at least.
    """

    def __init__(self, ranks: pd.Series, *, cliques: list[tuple[str, ...]], n_tasks: int) -> None:
        self.ranks = ranks
        self.cliques = cliques
        self.n_tasks = n_tasks

    @classmethod
    def from_leaderboard(cls, board: Leaderboard, *, ax: Any = None) -> CriticalDifferenceDisplay:
        """Draw the methods of a leaderboard.

        Parameters
        ----------
        board : Leaderboard
            Methods that it ranks are shown.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        CriticalDifferenceDisplay

        Raises
        ------
        ValueError
            If fewer than two methods are ranked.
        """
        ranks = ranks_of(board)
        return cls(ranks, cliques=board.cliques(), n_tasks=len(board.ranked)).plot(ax)

    def plot(self, ax: Any = None) -> CriticalDifferenceDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        CriticalDifferenceDisplay
            Itself.
        """
        n, half = len(self.ranks), (len(self.ranks) + 1) // 2
        bars = 0.35 * len(self.cliques)
        ax = open_axes(ax, self, width=7.2, height=1.1 + 0.26 * (half + bars))
        first = bars + 0.9
        self.bars_ = [
            ax.plot(
                [self.ranks[clique[0]] - 0.04 * (n - 1) / 8, self.ranks[clique[-1]] + 0.04 * (n - 1) / 8],
                [0.5 + 0.35 * number] * 2,
                color=DARK,
                linewidth=3.5,
                solid_capstyle="butt",
            )[0]
            for number, clique in enumerate(self.cliques)
        ]
        room = 0.03 * (n - 1)
        self.labels_ = []
        for place, (name, rank) in enumerate(self.ranks.items()):
            best = place < half
            y = first + (place if best else n - 1 - place)
            end = 1 - room if best else n + room
            ax.plot([rank, rank, end], [0, y, y], color=DARK, linewidth=0.9, solid_joinstyle="miter")
            ax.plot(rank, 0, "o", color=COLOURS[0], markersize=5, clip_on=False, zorder=3)
            text = f"{short(str(name))}  {rank:.2f}" if best else f"{rank:.2f}  {short(str(name))}"
            self.labels_.append(ax.text(end, y, f" {text} ", ha="right" if best else "left", va="center", fontsize=9))
        ax.set(xlim=(1, n), ylim=(first + half - 0.4, 0), yticks=[])
        ax.set_xticks(range(1, n + 1, max(1, n // 10)))
        ax.set_xlabel(f"mean rank over {self.n_tasks} task{'s' * (self.n_tasks != 1)} (1 is best)")
        ax.xaxis.tick_top()
        ax.xaxis.set_label_position("top")
        for side in ("left", "right", "bottom"):
            ax.spines[side].set_visible(False)
        self.note_ = None
        if said := self._said():
            self.note_ = ax.text(
                0.5, -0.02, said, transform=ax.transAxes, ha="center", va="top", fontsize=8, color=DARK
            )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _said(self) -> str:
        needed = fewest_tasks(len(self.ranks))
        if self.n_tasks < needed:
            are = "task is" if self.n_tasks == 1 else "tasks are"
            return (
                f"{self.n_tasks} {are} too few to call any difference among {len(self.ranks)} methods significant: "
                f"that takes {needed} at least."
            )
        return "Bars join methods that do not differ significantly." if self.cliques else "All neighbours differ."
