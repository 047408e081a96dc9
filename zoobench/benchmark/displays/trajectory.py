"""The way of each model through the space of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from zoobench.benchmark.displays.axes import COLOUR_MAP, GREY, check_column, label_of, open_axes, tidy
from zoobench.estimators.pca import WeightPCA
from zoobench.zoo import Zoo


class TrajectoryDisplay:
    """States of a zoo in the plane of two principal components of their weights, joined along the epochs.

    Parameters
    ----------
    coordinates : ndarray of shape (n_states, 2)
        Place of each state, in the order in which the states of a model follow each other.
    groups : ndarray of shape (n_states,)
        Number of each state's model.
    values : ndarray of shape (n_states,)
        What colours the points.
    explained : sequence of two floats
        Share of the variance of all weights that each axis has.
    name : str, default="test_acc"
        The property that the values are of.

    Attributes
    ----------
    lines_ : matplotlib LineCollection
        One line a model.
    points_ : matplotlib PathCollection
        One point a state.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.benchmark.displays import TrajectoryDisplay
    >>> display = TrajectoryDisplay.from_zoo(fetch_zoo("digits_cnn_s", subset="val"), n_models=10)
    >>> display.coordinates.shape, len(display.lines_.get_segments())
    ((30, 2), 10)
    """

    def __init__(
        self,
        coordinates: np.ndarray,
        *,
        groups: np.ndarray,
        values: np.ndarray,
        explained: tuple[float, float],
        name: str = "test_acc",
    ) -> None:
        self.coordinates = coordinates
        self.groups = groups
        self.values = values
        self.explained = explained
        self.name = name

    @classmethod
    def from_zoo(
        cls,
        zoo: Zoo,
        property: str = "test_acc",
        *,
        components: Sequence[int] = (0, 1),
        n_models: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        ax: Any = None,
    ) -> TrajectoryDisplay:
        """Draw the trajectories of a zoo's models.

        Parameters
        ----------
        zoo : Zoo
            Any zoo; the components are those of all of its states.
        property : str, default="test_acc"
            A numeric property, which colours the points.
        components : sequence of two ints, default=(0, 1)
            Principal components to show, from 0: the one that explains most is the first.
        n_models : int, optional
            Models to draw; all by default. Components do not depend on it.
        random_state : int, RandomState instance or None, default=0
            Chooses the models, and starts the iteration of the decomposition.
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        TrajectoryDisplay

        Raises
        ------
        ValueError
            If the zoo has no such number, or not so many components.
        """
        table = zoo.properties
        check_column(table, property, zoo)
        if table[property].dtype.kind not in "fiub":
            raise ValueError(f"property {property!r} is no number; colours are those of a scale")
        if len(components) != 2 or min(components) < 0:
            raise ValueError(f"components must be two numbers from 0, not {components!r}")
        rng = check_random_state(random_state)
        pca = WeightPCA(max(components) + 1, layout=zoo.layout, random_state=rng).fit(zoo.data)
        if max(components) >= len(pca.explained_variance_ratio_):
            raise ValueError(
                f"components {components!r} asks for more than the {len(pca.explained_variance_ratio_)} that "
                f"{zoo!r} has"
            )
        rows = np.lexsort((table["epoch"], zoo.groups))
        if n_models is not None:
            chosen = rng.permutation(np.unique(zoo.groups))[:n_models]
            rows = rows[np.isin(zoo.groups[rows], chosen)]
        coordinates = pca.transform(zoo.data)[rows][:, list(components)]
        first, second = pca.explained_variance_ratio_[list(components)].tolist()
        display = cls(
            coordinates,
            groups=zoo.groups[rows],
            values=table[property].to_numpy(dtype=np.float64)[rows],
            explained=(first, second),
            name=property,
        )
        display._components = (int(components[0]), int(components[1]))
        return display.plot(ax)

    _components = (0, 1)

    def plot(self, ax: Any = None) -> TrajectoryDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        TrajectoryDisplay
            Itself.
        """
        ax = open_axes(ax, self, width=6.4, height=4.6)
        from matplotlib.collections import LineCollection

        starts = np.flatnonzero(np.diff(self.groups)) + 1
        ways = np.split(self.coordinates, starts)
        self.lines_ = ax.add_collection(LineCollection(ways, colors=GREY, linewidths=0.5, alpha=0.6, zorder=1))
        self.points_ = ax.scatter(*self.coordinates.T, c=self.values, cmap=COLOUR_MAP, s=14, linewidths=0, zorder=2)
        ax.figure.colorbar(self.points_, ax=ax, label=label_of(self.name))
        x, y = (
            f"component {number + 1} ({share:.1%} of the variance)"
            for number, share in zip(self._components, self.explained, strict=True)
        )
        ax.set(xlabel=x, ylabel=y, title=f"{len(ways)} models")
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
