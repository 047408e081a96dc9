"""How the values of a property are distributed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from zoobench.benchmark.displays.axes import check_column, label_of, open_axes, ordered_colours, tidy
from zoobench.zoo import Zoo

#: More epochs than this cannot be told apart in one picture.
_MOST_EPOCHS = 6

#: As many different numbers, such as the learning rates of a grid, are counted one by one.
_MOST_BARS = 8


class PropertyHistogramDisplay:
    """How many states of a zoo have which value of a property.

    Parameters
    ----------
    values : dict of str to ndarray
        Values, strings or numbers, by the label of the group that they belong to.
    name : str
        The property.
    bins : int, default=30
        Bins of numbers, over all groups together.

    Attributes
    ----------
    edges_ : ndarray of shape (n_bins + 1,), or None
        Ends of the bins; None where single values are counted.
    counts_ : dict of str to ndarray
        Number of states of each group in each bin, or with each value.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.benchmark.displays import PropertyHistogramDisplay
    >>> display = PropertyHistogramDisplay.from_zoo(fetch_zoo("digits_cnn_s"))
    >>> {group: int(counts.sum()) for group, counts in display.counts_.items()}
    {'epoch 5': 200, 'epoch 25': 200, 'epoch 50': 200}
    """

    def __init__(self, values: dict[str, np.ndarray], *, name: str, bins: int = 30) -> None:
        self.values = values
        self.name = name
        self.bins = bins

    @classmethod
    def from_zoo(
        cls, zoo: Zoo, property: str = "test_acc", *, bins: int = 30, ax: Any = None
    ) -> PropertyHistogramDisplay:
        """Draw the distribution of a property of a zoo.

        Parameters
        ----------
        zoo : Zoo
            Any zoo. What is measured at each state is told apart by epoch, as long as there are six at the most.
        property : str, default="test_acc"
            A property, number or name. States without a value do not count.
        bins : int, default=30
            Bins of numbers, if there are more than eight different ones. Where they span two powers of ten and more,
            bins and axis are logarithmic.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        PropertyHistogramDisplay

        Raises
        ------
        ValueError
            If the zoo has no such property.
        """
        table = zoo.properties
        check_column(table, property, zoo)
        known = table[table[property].notna()]
        epochs = sorted(known["epoch"].unique())
        # What a model was trained with is the same at each of its states.
        constant = known.groupby("model", observed=True)[property].nunique().max() == 1
        if property == "epoch" or constant or not 1 < len(epochs) <= _MOST_EPOCHS:
            groups = {"states": known[property].to_numpy()}
        else:
            groups = {f"epoch {epoch}": known.loc[known["epoch"] == epoch, property].to_numpy() for epoch in epochs}
        return cls(groups, name=property, bins=bins).plot(ax)

    def plot(self, ax: Any = None) -> PropertyHistogramDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        PropertyHistogramDisplay
            Itself.
        """
        ax = open_axes(ax, self)
        together = np.concatenate([np.asarray(values) for values in self.values.values()])
        if pd.api.types.is_numeric_dtype(together) and len(np.unique(together)) > _MOST_BARS:
            self._plot_numbers(ax, together.astype(np.float64))
        else:
            self._plot_names(ax, together)
        ax.set(xlabel=label_of(self.name), ylabel="states")
        if len(self.values) > 1:
            ax.legend(frameon=False)
        tidy(ax, grid="y")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_numbers(self, ax: Any, together: np.ndarray) -> None:
        low, high = float(together.min()), float(together.max())
        logarithmic = low > 0 and high / low >= 100
        if logarithmic:
            self.edges_: np.ndarray | None = np.geomspace(low, high, self.bins + 1)
            ax.set_xscale("log")
        else:
            self.edges_ = np.histogram_bin_edges(together, self.bins)
        self.counts_ = {}
        colours = ordered_colours(len(self.values))
        for colour, (group, values) in zip(colours, self.values.items(), strict=True):
            counts, _ = np.histogram(np.clip(values, self.edges_[0], self.edges_[-1]), self.edges_)
            self.counts_[group] = counts
            ax.stairs(counts, self.edges_, fill=True, color=colour, alpha=0.12 if len(self.values) > 1 else 0.35)
            ax.stairs(counts, self.edges_, color=colour, linewidth=1.5, label=group)

    def _plot_names(self, ax: Any, together: np.ndarray) -> None:
        self.edges_ = None
        names = [_written(value) for value in np.unique(together)]
        width = 0.8 / len(self.values)
        self.counts_ = {}
        colours = ordered_colours(len(self.values))
        for place, (group, values) in enumerate(self.values.items()):
            found = pd.Series([_written(value) for value in values]).value_counts()
            self.counts_[group] = found.reindex(names, fill_value=0).to_numpy()
            x = np.arange(len(names)) + (place - (len(self.values) - 1) / 2) * width
            ax.bar(x, self.counts_[group], width * 0.92, color=colours[place], label=group)
        ax.set_xticks(range(len(names)), names, rotation=0 if sum(map(len, names)) < 50 else 30)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
