"""A property of all models over the epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from zoobench.benchmark.displays.axes import COLOURS, DARK, check_column, label_of, open_axes, tidy
from zoobench.zoo import Zoo

#: Of the bands, from the outside to the inside, and of the line.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class ZooOverviewDisplay:
    """How a property of a zoo's models develops: bands of quantiles, and a few single models.

    Parameters
    ----------
    quantiles : DataFrame of shape (n_epochs, 5)
        Index ``epoch``; columns 0.05, 0.25, 0.5, 0.75 and 0.95: quantiles over models.
    runs : DataFrame of shape (n_epochs, n_runs)
        Single models, one a column; NaN where a model has no such state.
    name : str, default="test_acc"
        The property.
    n_models : int, default=0
        Models that the quantiles are of.

    Attributes
    ----------
    bands_ : list of matplotlib artists
        From the 5 to the 95 % quantile, and from the 25 to the 75 %.
    median_ : matplotlib Line2D
        The median.
    runs_ : list of matplotlib Line2D
        The single models.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.benchmark.displays import ZooOverviewDisplay
    >>> display = ZooOverviewDisplay.from_zoo(fetch_zoo("digits_cnn_s"))
    >>> display.quantiles[0.5].round(2).to_dict()
    {5: 0.32, 25: 0.78, 50: 0.87}
    """

    def __init__(
        self, quantiles: pd.DataFrame, runs: pd.DataFrame, *, name: str = "test_acc", n_models: int = 0
    ) -> None:
        self.quantiles = quantiles
        self.runs = runs
        self.name = name
        self.n_models = n_models

    @classmethod
    def from_zoo(
        cls,
        zoo: Zoo,
        property: str = "test_acc",
        *,
        n_runs: int = 5,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
    ) -> ZooOverviewDisplay:
        """Draw a property of a zoo over its epochs.

        Parameters
        ----------
        zoo : Zoo
            With two epochs at least.
        property : str, default="test_acc"
            A numeric property.
        n_runs : int, default=5
            Single models to draw.
        random_state : int, RandomState instance or None, default=0
            Chooses them.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        ZooOverviewDisplay

        Raises
        ------
        ValueError
            If the zoo has no such number, or a single epoch.
        """
        table = zoo.properties
        check_column(table, property, zoo)
        if not pd.api.types.is_numeric_dtype(table[property]):
            raise ValueError(f"property {property!r} is no number; PropertyHistogramDisplay shows it")
        if table["epoch"].nunique() < 2:
            raise ValueError(f"{zoo!r} has a single epoch; PropertyHistogramDisplay shows how a property spreads in it")
        wide = table.pivot(index="epoch", columns="model", values=property).dropna(how="all", axis=1)
        chosen = np.sort(check_random_state(random_state).permutation(wide.shape[1])[:n_runs])
        quantiles = wide.quantile(list(_QUANTILES), axis=1).T
        return cls(quantiles, wide.iloc[:, chosen], name=property, n_models=wide.shape[1]).plot(ax)

    def plot(self, ax: Any = None) -> ZooOverviewDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        ZooOverviewDisplay
            Itself.
        """
        ax = open_axes(ax, self)
        epochs, q = self.quantiles.index.to_numpy(), self.quantiles
        self.bands_ = [
            ax.fill_between(epochs, q[low], q[high], color=COLOURS[0], alpha=alpha, linewidth=0, label=label)
            for low, high, alpha, label in (
                (0.05, 0.95, 0.18, "90 % of the models"),
                (0.25, 0.75, 0.32, "half of the models"),
            )
        ]
        self.runs_ = []
        for number, run in enumerate(self.runs):
            label = "single models" if number == 0 else None
            self.runs_ += ax.plot(epochs, self.runs[run], color=DARK, linewidth=0.7, linestyle="--", label=label)
        marker = "o" if len(epochs) <= 12 else None
        (self.median_,) = ax.plot(
            epochs, q[0.5], color=COLOURS[0], linewidth=2, marker=marker, markersize=5, label="median"
        )
        ax.set(xlabel="epoch", ylabel=label_of(self.name), title=f"{self.n_models} models")
        if len(epochs) <= 8:
            ax.set_xticks(epochs)
        ax.legend(frameon=False)
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
