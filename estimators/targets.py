"""Targets that may be unknown here and there, and targets that lie between bounds: what all regressors share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_array, check_consistent_length, validate_data

#: A target at its bound has an infinite logit; it is taken as this far inside, as a share of the interval, or half as
#: far as the nearest target that is not at a bound.
_INSIDE = 1e-3


class KnownTargetsMixin(RegressorMixin):
    """Scores a regressor on the targets that are known."""

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2 of the predictions, the mean over the targets; rows whose target is NaN are left out, target by target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True values; NaN where they are not known.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
        """
        truth = np.asarray(y, dtype=np.float64)
        if not np.isnan(truth).any():
            return float(super().score(X, y, sample_weight))
        predicted = np.reshape(self.predict(X), (len(truth), -1))
        truth = truth.reshape(len(truth), -1)
        scores = []
        for column, values in zip(predicted.T, truth.T, strict=True):
            known = ~np.isnan(values)
            weight = None if sample_weight is None else np.asarray(sample_weight)[known]
            scores.append(r2_score(values[known], column[known], sample_weight=weight))
        return float(np.mean(scores))


def check_features_and_targets(estimator: BaseEstimator, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """What a regressor is fitted on: rows without NaN, and targets that may be NaN here and there.

    Parameters
    ----------
    estimator : estimator
        Learns which features X has.
    X, y : array-like
        As users give them.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float32 or float64
    Y : ndarray of shape (n_samples, n_targets), float64
    single : bool
        Whether y was 1-D, as predictions then are.

    Raises
    ------
    ValueError
        If they do not fit each other, there are fewer than two rows, or a target is known in fewer than two of them.
    """
    # scikit-learn's own check of y knows no NaN; of a y that is None it has the words.
    unchecked = None if y is None else "no_validation"
    X = validate_data(estimator, X, unchecked, dtype=[np.float64, np.float32], ensure_min_samples=2)
    targets = check_targets(y, len(X), least=2)
    return X, targets.reshape(len(targets), -1), targets.ndim == 1


def check_validation_targets(y_val: Any, n_rows: int, n_targets: int) -> np.ndarray:
    """Targets of validation data, as columns.

    Parameters
    ----------
    y_val : array-like of shape (n_rows,) or (n_rows, n_targets)
        As users give them; NaN where one is not known.
    n_rows, n_targets : int
        Rows of the validation data, and targets that were fitted.

    Returns
    -------
    ndarray of shape (n_rows, n_targets), float64

    Raises
    ------
    ValueError
        If there are other numbers of them, a value is infinite, or a target is never known.
    """
    found = check_targets(y_val, n_rows, name="y_val").reshape(n_rows, -1)
    if found.shape[1] != n_targets:
        raise ValueError(f"y_val has {found.shape[1]} targets, but y has {n_targets}")
    return found


def check_targets(y: Any, n_rows: int, *, least: int = 1, name: str = "y") -> np.ndarray:
    """Targets in float64, NaN where they are not known.

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_targets)
        As users give it.
    n_rows : int
        Rows of the features that they belong to.
    least : int, default=1
        So many values of each target must be known.
    name : str, default="y"
        What errors call it.

    Returns
    -------
    ndarray of shape (n_rows,) or (n_rows, n_targets), float64

    Raises
    ------
    ValueError
        If the number of rows differs, a value is infinite, or a target is known too rarely.
    """
    values = check_array(y, ensure_2d=False, dtype=np.float64, ensure_all_finite="allow-nan", input_name=name)
    if values.ndim > 2:
        raise ValueError(f"{name} must be 1-D, or 2-D with one target a column, but it has {values.ndim} dimensions")
    check_consistent_length(np.empty((n_rows, 0)), values)
    columns = values.reshape(len(values), -1)
    names = getattr(y, "columns", range(columns.shape[1]))
    for number, target in zip((~np.isnan(columns)).sum(axis=0), names, strict=True):
        if number < least:
            which = f" of target {target!r}" if columns.shape[1] > 1 else ""
            raise ValueError(
                f"Input {name} contains NaN: rows whose target is unknown are left out, but {number} of {n_rows} "
                f"values{which} are known, and at least {least} must be"
            )
    return values


class Bounds:
    """Between which values each target lies, and the way from there to all numbers and back.

    Parameters
    ----------
    bounds : None, pair of float, or sequence of pairs and None
        None is no bound; a pair holds for all targets; a sequence has one entry a target.
    Y : ndarray of shape (n_samples, n_targets)
        Targets, which must lie between their bounds; NaN is left alone.

    Raises
    ------
    ValueError
        If a pair is no pair of growing finite numbers, there is not one a target, or a target lies outside.
    """

    def __init__(self, bounds: Any, Y: np.ndarray) -> None:
        pairs = self._pairs(bounds, Y.shape[1])
        self.columns = np.flatnonzero([pair is not None for pair in pairs])
        self.low = np.array([pair[0] for pair in pairs if pair is not None], dtype=np.float64)
        self.width = np.array([pair[1] - pair[0] for pair in pairs if pair is not None], dtype=np.float64)
        inside = Y[:, self.columns]
        outside = (inside < self.low) | (inside > self.low + self.width)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise ValueError(
                f"y has the value {inside[row, column]:g}, which is outside its bounds "
                f"({self.low[column]:g}, {self.low[column] + self.width[column]:g}); give other bounds, or none"
            )
        share = (inside - self.low) / self.width
        distance = np.minimum(share, 1 - share)
        nearest = np.min(np.where(distance > 0, distance, np.inf), axis=0, initial=2 * _INSIDE)  # NaN is not greater
        self.inside = nearest / 2

    @staticmethod
    def _pairs(bounds: Any, n_targets: int) -> Sequence[tuple[float, float] | None]:
        if bounds is None:
            return [None] * n_targets
        try:
            single = len(bounds) == 2 and all(np.ndim(value) == 0 and value is not None for value in bounds)
            pairs = [tuple(bounds)] * n_targets if single else [p if p is None else tuple(p) for p in bounds]
            valid = all(p is None or (len(p) == 2 and -np.inf < p[0] < p[1] < np.inf) for p in pairs)
        except TypeError:
            valid, pairs = False, []
        if not valid or len(pairs) != n_targets:
            raise ValueError(
                f"bounds must be None, a pair of growing numbers such as (0, 1), or one of either for each of the "
                f"{n_targets} targets, not {bounds!r}"
            )
        return pairs

    def widen(self, Y: np.ndarray) -> np.ndarray:
        """Bounded targets as logits, the others as they are; a new array."""
        result = np.array(Y, dtype=np.float64)
        share = (result[..., self.columns] - self.low) / self.width
        result[..., self.columns] = logit(np.clip(share, self.inside, 1 - self.inside))
        return result

    def narrow(self, values: np.ndarray) -> np.ndarray:
        """Back from logits to targets; a new array, of any number of leading axes."""
        result = np.array(values, dtype=np.float64)
        result[..., self.columns] = self.low + self.width * expit(result[..., self.columns])
        return result
