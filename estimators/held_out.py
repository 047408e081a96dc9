"""Which data a probe chooses its penalty on: checks and folds that regression and classification share."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d, validate_data

#: The paper's penalties, in its order: among equally good ones the first, the strongest, wins.
#: K. Schürholt et al., "Model Zoos", NeurIPS 2022, code of the benchmark.
PAPER_ALPHAS = (1e3, 3e2, 1e2, 3e1, 1e1, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5)


def check_alphas(alphas: Any) -> np.ndarray:
    """The penalties as an array.

    Parameters
    ----------
    alphas : array-like of float
        As users give them.

    Returns
    -------
    ndarray of shape (n_alphas,), float64

    Raises
    ------
    ValueError
        If there is none, or one is not a positive finite number.
    """
    values = check_array(np.atleast_1d(np.asarray(alphas, dtype=object)), ensure_2d=False, dtype=np.float64)
    if values.ndim != 1 or not (values > 0).all():
        raise ValueError(f"alphas must be one or more positive numbers, not {alphas!r}")
    return values


def check_validation_data(
    estimator: BaseEstimator, X_val: Any, y_val: Any, *, allow_nan: bool = False
) -> tuple[np.ndarray, np.ndarray] | None:
    """The validation data of a fit, checked against X; None if there is none.

    Parameters
    ----------
    estimator : estimator
        Has seen X already.
    X_val, y_val : array-like or None
        As users give them.
    allow_nan : bool, default=False
        Let pass NaN in ``y_val``: targets that are not known.

    Returns
    -------
    tuple of ndarray, or None
        ``y_val`` is 1-D, or 2-D for several targets; its values are not looked at.

    Raises
    ------
    ValueError
        If only one of the two is given, or they do not fit X or each other.
    """
    if X_val is None and y_val is None:
        return None
    if X_val is None or y_val is None:
        missing = "X_val" if X_val is None else "y_val"
        raise ValueError(f"validation data needs both X_val and y_val, but {missing} was not given")
    X_val = validate_data(estimator, X_val, dtype=[np.float64, np.float32], reset=False)
    finite = "allow-nan" if allow_nan else True
    y_val = check_array(y_val, ensure_2d=False, dtype=None, ensure_all_finite=finite, input_name="y_val")
    check_consistent_length(X_val, y_val)
    return X_val, y_val


def check_groups(groups: Any, n_samples: int) -> np.ndarray | None:
    """The group of each row, or None if there are no groups.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        As users give it.
    n_samples : int
        Rows of X.

    Returns
    -------
    ndarray of shape (n_samples,), or None

    Raises
    ------
    ValueError
        If the length is wrong, or all rows are in one group: nothing would be left to fit.
    """
    if groups is None:
        return None
    groups = column_or_1d(groups)
    if len(groups) != n_samples:
        raise ValueError(f"groups has {len(groups)} entries, but X has {n_samples} rows; each row needs one")
    if len(np.unique(groups)) < 2:
        raise ValueError(
            f"groups has one group only ({groups[0]!r}), but choosing a penalty by held-out groups needs at least 2; "
            "give validation data (X_val, y_val) instead"
        )
    return groups


def stratified_folds(codes: np.ndarray, groups: np.ndarray | None, n_folds: int = 5) -> np.ndarray:
    """A fold for each row, the same at every call: groups stay together and classes are spread evenly.

    Parameters
    ----------
    codes : ndarray of int, shape (n_samples,)
        Class of each row.
    groups : ndarray of shape (n_samples,) or None
        Group of each row; None lets every row stand for itself.
    n_folds : int, default=5
        Folds; fewer if there are fewer groups.

    Returns
    -------
    ndarray of int, shape (n_samples,)

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators.held_out import stratified_folds
    >>> stratified_folds(np.array([0, 0, 0, 1, 1, 1]), np.array([7, 7, 8, 9, 9, 10]), n_folds=2)
    array([0, 0, 1, 0, 0, 1])
    """
    units, unit = np.unique(np.arange(len(codes)) if groups is None else groups, return_inverse=True)
    counts = np.zeros((len(units), codes.max() + 1), dtype=np.int64)
    np.add.at(counts, (unit, codes), 1)
    # Dealing out the units class by class gives each fold its share of each class.
    order = np.argsort(counts.argmax(axis=1), kind="stable")
    fold = np.empty(len(units), dtype=np.int64)
    fold[order] = np.arange(len(units)) % min(n_folds, len(units))
    return fold[unit]
