"""scikit-learn's regressors that methods end in, which leave out rows whose target is unknown, as probes do.

They have the names and settings of what they are made of, and fit the same where every target is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import dummy, ensemble
from sklearn.utils import _safe_indexing

from zoobench.estimators.targets import KnownTargetsMixin, check_targets


def known_rows(y: Any, least: int = 2, name: str = "y") -> np.ndarray:
    """Numbers of the rows whose target is known.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Targets; NaN where one is not known.
    least : int, default=2
        So many must be known.
    name : str, default="y"
        What errors call it.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    ValueError
        If there is more than one target, a value is infinite, or too few are known.

    Examples
    --------
    >>> from zoobench.estimators.known_rows import known_rows
    >>> known_rows([0.5, float("nan"), 0.25]).tolist()
    [0, 2]
    """
    values = check_targets(y, len(y), least=least, name=name)
    if values.ndim > 1 and values.shape[1] > 1:
        raise ValueError(f"{name} has {values.shape[1]} targets, but this method predicts one; fit one for each")
    return np.flatnonzero(~np.isnan(values.reshape(len(values))))


class _FitsKnownRows(KnownTargetsMixin):
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit on the rows whose target is known."""
        rows = known_rows(y)
        if len(rows) < len(y):
            X, y = _safe_indexing(X, rows), _safe_indexing(y, rows)
            sample_weight = None if sample_weight is None else _safe_indexing(sample_weight, rows)
        return super().fit(X, y, sample_weight)


class HistGradientBoostingRegressor(_FitsKnownRows, ensemble.HistGradientBoostingRegressor):
    """Gradient boosting, on the rows whose target is known."""


class DummyRegressor(_FitsKnownRows, dummy.DummyRegressor):
    """A constant, from the targets that are known."""
