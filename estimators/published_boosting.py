"""Gradient boosting with the published settings of Unterthiner et al.: LightGBM, stopped by held-out data."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor, early_stopping
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.validation import check_array

from zoobench.estimators.held_out import check_groups
from zoobench.estimators.known_rows import known_rows
from zoobench.estimators.targets import KnownTargetsMixin

#: Found by a thousand random draws on their CIFAR10 networks (arXiv:2002.11448). LightGBM samples rows only if it is
#: told to do so for every tree.
PUBLISHED_SETTINGS: dict[str, Any] = {
    "n_estimators": 2000,
    "num_leaves": 6209,
    "max_depth": 12,
    "learning_rate": 0.0231,
    "max_bin": 127,
    "min_child_weight": 3,
    "subsample": 0.6,
    "subsample_freq": 1,
    "colsample_bytree": 0.894,
    "reg_lambda": 25.0,
    "reg_alpha": 0.0081,
    "deterministic": True,
    "verbosity": -1,
}

#: Trees without a better loss on what is held out, after which no more are added.
_PATIENCE = 500

#: Share of the groups, or rows, that are held out where there are no validation data.
_HELD_OUT = 0.15


class _StoppedByHeldOutData:
    """Mixed into LightGBM's estimators: ``fit`` as the other predictors of this package have it."""

    random_state: Any

    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> _StoppedByHeldOutData:
        """Grow trees until validation data, else held-out groups, else held-out rows, see no gain."""
        X = check_array(X, dtype=[np.float64, np.float32])
        y = np.asarray(y)
        if y.dtype.kind == "f":  # numbers, which may be unknown here and there
            rows = known_rows(y)
            X, y, groups = X[rows], y[rows], None if groups is None else np.asarray(groups)[rows]
            if X_val is not None:
                rows = known_rows(y_val, 1, "y_val")
                X_val, y_val = np.asarray(X_val)[rows], np.asarray(y_val)[rows]
        if X_val is None:
            units = np.arange(len(X)) if groups is None else check_groups(groups, len(X))
            splitter = GroupShuffleSplit(1, test_size=_HELD_OUT, random_state=self.random_state)
            kept, held = next(splitter.split(X, groups=units))
            X, y, X_val, y_val = X[kept], y[kept], X[held], y[held]
        stop = early_stopping(_PATIENCE, verbose=False)
        with warnings.catch_warnings():
            # What is to replace eval_set, eval_X and eval_y, does not take names for classes as of LightGBM 4.7.
            warnings.filterwarnings("ignore", message=".*eval_set.*")
            super().fit(X, y, eval_set=[(X_val, y_val)], callbacks=[stop])  # type: ignore[misc]
        return self


class _ScoredWhereKnown(_StoppedByHeldOutData, KnownTargetsMixin):
    """One class, because LightGBM looks for its parameters in the first two that an estimator is made of."""


class PublishedBoostingRegressor(_ScoredWhereKnown, LGBMRegressor):
    """LightGBM for numbers."""


class PublishedBoostingClassifier(_StoppedByHeldOutData, LGBMClassifier):
    """LightGBM for names."""
