"""The diversity of a zoo's models over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from zoobench.benchmark.displays.axes import COLOURS, check_matplotlib, tidy

#: Column, label and panel of each measure.
_PANELS = (
    ("test accuracy", (("accuracy", "test accuracy"),)),
    ("agreement of two models", (("agreement", "same prediction"), ("cka", "linear CKA"))),
    ("distance of two models", (("l2", "L2, by the mean norm"), ("cosine", "cosine"))),
)


class DiversityDisplay:
    """The table of :func:`~zoobench.benchmark.analysis.analyze_zoo` as a picture.

    Parameters
    ----------
    table : DataFrame
        Index ``epoch``; columns ``<measure>_mean`` and ``<measure>_std``. Measures that it lacks are left out.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        Means, by measure.
    axes_ : list of matplotlib Axes
        The panels: accuracy, likeness, distance.
    ax_, figure_ : matplotlib Axes and Figure
        The first panel, and the figure.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.benchmark import analyze_zoo
    >>> from zoobench.benchmark.displays import DiversityDisplay
    >>> table = analyze_zoo(fetch_zoo("digits_cnn_s"), measures=["distance"])
    >>> sorted(DiversityDisplay.from_analysis(table).lines_)
    ['cosine', 'l2']
    """

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    @classmethod
    def from_analysis(cls, table: pd.DataFrame, *, ax: Any = None) -> DiversityDisplay:
        """Draw an analysis.

        Parameters
        ----------
        table : DataFrame
            What ``analyze_zoo`` returns.
        ax : sequence of matplotlib Axes, optional
            Where to draw, one a panel; a new figure by default.

        Returns
        -------
        DiversityDisplay

        Raises
        ------
        ValueError
            If the table has none of the measures, or there are not as many axes as panels.
        """
        return cls(table).plot(ax)

    def plot(self, ax: Any = None) -> DiversityDisplay:
        """Draw.

        Parameters
        ----------
        ax : sequence of matplotlib Axes, optional
            Where, one a panel; a new figure by default.

        Returns
        -------
        DiversityDisplay
            Itself.
        """
        check_matplotlib("DiversityDisplay")
        panels = [
            (title, present)
            for title, measures in _PANELS
            if (present := [m for m in measures if f"{m[0]}_mean" in self.table])
        ]
        if not panels:
            raise ValueError("the table has no column of a measure; give what analyze_zoo returns")
        if ax is None:
            from matplotlib import pyplot as plt

            figure, grid = plt.subplots(
                1, len(panels), figsize=(0.6 + 3.3 * len(panels), 3.1), layout="constrained", squeeze=False
            )
            axes = list(grid[0])
        else:
            axes = list(np.atleast_1d(ax))
            figure = axes[0].figure
        if len(axes) != len(panels):
            raise ValueError(f"there are {len(panels)} panels to draw, but {len(axes)} axes were given")
        epochs = self.table.index.to_numpy()
        self.lines_ = {}
        for panel, (title, measures) in zip(axes, panels, strict=True):
            for colour, marker, (measure, label) in zip(COLOURS, "os", measures, strict=False):
                mean, std = self.table[f"{measure}_mean"], self.table[f"{measure}_std"]
                shown = marker if len(epochs) <= 12 else None
                (self.lines_[measure],) = panel.plot(
                    epochs, mean, color=colour, marker=shown, markersize=5, label=label
                )
                panel.fill_between(epochs, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
            if measures[0][0] == "accuracy":
                for end in ("min", "max"):
                    panel.plot(
                        epochs,
                        self.table[f"accuracy_{end}"],
                        color=COLOURS[0],
                        linewidth=0.9,
                        linestyle=":",
                        label="lowest and highest" if end == "min" else None,
                    )
            panel.set(xlabel="epoch", title=title)
            panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]), top=max(1.05, panel.get_ylim()[1]))
            if len(epochs) <= 8:
                panel.set_xticks(epochs)
            panel.legend(frameon=False, fontsize=8.5, loc="best")
            tidy(panel)
        self.axes_, self.ax_, self.figure_ = axes, axes[0], figure
        return self
