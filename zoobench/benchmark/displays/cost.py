"""What the methods of a leaderboard cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from zoobench.benchmark.displays.axes import COLOURS, DARK, GREY, open_axes, place_labels, short, tidy
from zoobench.benchmark.leaderboard import Leaderboard

#: Colour and marker of what a method sees: not everybody sees the colour.
_INPUTS = {"weights": (COLOURS[0], "o"), "hyperparameters": (COLOURS[1], "s"), "both": (COLOURS[2], "D")}


class CostDisplay:
    """Seconds to fit, on a logarithmic axis, against the mean rank: what a better rank costs.

    Parameters
    ----------
    table : DataFrame
        Index: methods; columns ``fit_seconds``, ``mean_rank`` and ``inputs`` ("weights", "hyperparameters", "both").

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        One collection a kind of inputs.
    front_ : matplotlib Line2D
        The steps along methods that no cheaper one outranks.
    labels_ : list of matplotlib Annotation
        One a method.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    Examples
    --------
    >>> from zoobench.benchmark import Leaderboard, Record
    >>> from zoobench.benchmark.displays import CostDisplay
    >>> results = {"ridge": (0.5, 0.1), "boosting": (0.75, 10.0)}
    >>> board = Leaderboard(
    ...     Record("z/test_acc/paper", name, "r2", {"r2": [score]}, fit_seconds=[seconds])
    ...     for name, (score, seconds) in results.items()
    ... )
    >>> [label.get_text() for label in CostDisplay.from_leaderboard(board).labels_]
    ['ridge', 'boosting']
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @classmethod
    def from_leaderboard(cls, board: Leaderboard, *, ax: Any = None) -> CostDisplay:
        """Draw the methods of a leaderboard.

        Parameters
        ----------
        board : Leaderboard
            Ranked methods whose time is known are shown.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        CostDisplay

        Raises
        ------
        ValueError
            If there is none.
        """
        table = board.ranking()[["fit_seconds", "mean_rank", "inputs"]].dropna()
        if table.empty:
            raise ValueError(f"{board!r} has no method with both a rank and a time to fit")
        return cls(table).plot(ax)

    def plot(self, ax: Any = None) -> CostDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        CostDisplay
            Itself.
        """
        ax = open_axes(ax, self, width=7.0, height=4.4)
        ordered = self.table.sort_values(["fit_seconds", "mean_rank"])
        # Times are rounded, and what is too fast to be measured must not be at minus infinity.
        seconds = ordered["fit_seconds"].clip(lower=1e-4)
        ax.set_xscale("log")
        best = ordered["mean_rank"] < ordered["mean_rank"].cummin().shift(fill_value=np.inf)
        (self.front_,) = ax.step(
            seconds[best], ordered["mean_rank"][best], where="post", color=GREY, linewidth=1.2, linestyle="--", zorder=1
        )
        self.points_ = []
        for kind, (colour, marker) in _INPUTS.items():
            rows = ordered["inputs"] == kind
            if rows.any():
                self.points_.append(
                    ax.scatter(
                        seconds[rows],
                        ordered["mean_rank"][rows],
                        s=40,
                        color=colour,
                        marker=marker,
                        zorder=3,
                        label={"hyperparameters": "hyper-parameters"}.get(kind, kind),
                    )
                )
        low, high = ordered["mean_rank"].min(), ordered["mean_rank"].max()
        room = 0.08 * (high - low) or 0.5
        ax.set(
            xlabel="seconds to fit, mean over tasks",
            ylabel="mean rank (1 is best)",
            xlim=(seconds.min() / 2, seconds.max() * 2),
            ylim=(high + room, low - room),
        )
        if len(self.points_) > 1:
            ax.legend(title="sees", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
        tidy(ax)
        points = list(zip(seconds.tolist(), ordered["mean_rank"].tolist(), strict=True))
        self.labels_ = place_labels(ax, points, [short(str(name)) for name in ordered.index], fontsize=8.5, color=DARK)
        self.ax_, self.figure_ = ax, ax.figure
        return self
