"""Predicted against true values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length, column_or_1d

from zoobench.benchmark.displays.axes import COLOUR_MAP, COLOURS, DARK, open_axes, tidy

#: More groups than this are shown by a scale, fewer by a legend.
_MOST_COLOURS = 6


class PredictionDisplay:
    """Predictions of a numeric property against its true values, with the line on which they are equal.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_states,)
        True and predicted values.
    groups : ndarray of shape (n_states,), optional
        What colours the points, such as the epoch or the model of each state.
    group_name : str, default="group"
        What the groups are.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The points, one collection a group where there are six at the most, else one.
    line_ : matplotlib artist
        The diagonal.
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.

    See Also
    --------
    sklearn.metrics.PredictionErrorDisplay : Residuals, too.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.displays import PredictionDisplay
    >>> display = PredictionDisplay.from_predictions([0.1, 0.5, 0.9], [0.2, 0.5, 0.8], groups=[1, 1, 2])
    >>> [len(points.get_offsets()) for points in display.points_]
    [2, 1]
    """

    def __init__(
        self, y_true: np.ndarray, y_pred: np.ndarray, *, groups: np.ndarray | None = None, group_name: str = "group"
    ) -> None:
        self.y_true = y_true
        self.y_pred = y_pred
        self.groups = groups
        self.group_name = group_name

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, *, groups: Any = None, group_name: str | None = None, ax: Any = None
    ) -> PredictionDisplay:
        """Draw predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_states,)
            True and predicted values.
        groups : array-like of shape (n_states,), optional
            What colours the points, such as ``zoo.properties["epoch"]`` or ``zoo.groups``. Six different values or
            fewer, and names, get a legend, more numbers a colour scale.
        group_name : str, optional
            What the groups are; by default the name of the Series, or "group".
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        PredictionDisplay

        Raises
        ------
        ValueError
            If the lengths differ, values are no finite numbers, or there are more names than colours.
        """
        given = [("y_true", y_true), ("y_pred", y_pred)]
        true, predicted = (_numbers(values, name) for name, values in given)
        check_consistent_length(true, predicted, groups)
        name = group_name or str(getattr(groups, "name", None) or "group")
        chosen = None if groups is None else column_or_1d(groups)
        if chosen is not None and not pd.api.types.is_numeric_dtype(chosen):
            chosen = chosen.astype(str)
            if len(np.unique(chosen)) > len(COLOURS):
                raise ValueError(
                    f"groups has {len(np.unique(chosen))} different names, and {len(COLOURS)} colours can be told "
                    "apart; give numbers, which get a scale, such as zoo.groups"
                )
        return cls(true, predicted, groups=chosen, group_name=name).plot(ax)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, *, groups: Any = None, group_name: str | None = None, ax: Any = None
    ) -> PredictionDisplay:
        """Draw what a fitted estimator predicts.

        Parameters
        ----------
        estimator : estimator
            Fitted, with a ``predict`` that gives numbers.
        X : array-like of shape (n_states, n_features)
            What it sees.
        y : array-like of shape (n_states,)
            True values.
        groups, group_name, ax
            See :meth:`from_predictions`.

        Returns
        -------
        PredictionDisplay
        """
        return cls.from_predictions(y, estimator.predict(X), groups=groups, group_name=group_name, ax=ax)

    def plot(self, ax: Any = None) -> PredictionDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where; a new figure by default.

        Returns
        -------
        PredictionDisplay
            Itself.
        """
        ax = open_axes(ax, self, width=4.8, height=4.4)
        both = np.concatenate([self.y_true, self.y_pred])
        room = 0.04 * float(np.ptp(both)) or 0.5
        ends = float(both.min()) - room, float(both.max()) + room
        self.line_ = ax.axline((ends[0], ends[0]), slope=1, color=DARK, linewidth=1, linestyle="--", zorder=1)
        style = {"s": 18, "alpha": 0.75, "linewidths": 0, "zorder": 2}
        self.points_ = []
        if self.groups is None:
            self.points_.append(ax.scatter(self.y_true, self.y_pred, color=COLOURS[0], **style))
        elif len(kinds := np.unique(self.groups)) <= _MOST_COLOURS or self.groups.dtype.kind not in "fiub":
            for colour, kind in zip(COLOURS, kinds, strict=False):
                rows = self.groups == kind
                self.points_.append(
                    ax.scatter(self.y_true[rows], self.y_pred[rows], color=colour, label=str(kind), **style)
                )
            ax.legend(title=self.group_name, frameon=False, loc="lower right")
        else:
            points = ax.scatter(self.y_true, self.y_pred, c=self.groups, cmap=COLOUR_MAP, **style)
            self.points_.append(points)
            ax.figure.colorbar(points, ax=ax, label=self.group_name)
        ax.set(xlabel="true", ylabel="predicted", xlim=ends, ylim=ends, aspect="equal")
        if len(self.y_true) > 1 and np.ptp(self.y_true) > 0:
            r2 = r2_score(self.y_true, self.y_pred)
            ax.set_title(f"R² = {r2:.3f}" if r2 > -1000 else f"R² = {r2:.0e}")
        tidy(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        found = column_or_1d(values).astype(np.float64)
    except ValueError as error:
        raise ValueError(f"{name} must be numbers, one a state: {error}") from error
    if not len(found) or not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite numbers, at least one; leave out what is missing")
    return found
