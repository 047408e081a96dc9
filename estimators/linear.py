"""Linear probe for numbers: ridge regression whose penalty is chosen by validation data or in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, _fit_context
from sklearn.utils.validation import check_is_fitted, validate_data

from zoobench.estimators.held_out import PAPER_ALPHAS, check_alphas, check_groups, check_validation_data
from zoobench.estimators.ridge import RidgePath, blocked_product, first_best, r2_scores
from zoobench.estimators.targets import Bounds, KnownTargetsMixin, check_features_and_targets, check_validation_targets


class LinearProbeRegressor(KnownTargetsMixin, MultiOutputMixin, BaseEstimator):
    """Ridge regression with a penalty for each target, chosen without refitting.

    One factorisation of X serves all penalties and all targets that are known in the same rows. The penalty is the
    first of the best ones in the order of ``alphas``, judged by R2 on

    1. validation data, if ``X_val`` and ``y_val`` are given;
    2. else held-out groups, if ``groups`` is given: each row is predicted by the model that was fitted without the
       row's group, in closed form. States of one network are similar, so a zoo's ``groups`` should be given;
    3. else held-out rows, in closed form. With several states of one network this chooses too weak a penalty.

    The final coefficients are fitted on X alone, as in the paper [1]_: validation data choose, but do not train.
    Rows whose target is NaN are left out, target by target.

    Parameters
    ----------
    alphas : sequence of positive float, default=the 17 of the paper, from 1e3 to 1e-5
        Penalties on the sum of squared coefficients, where the loss is the sum of squared residuals.
    penalize_intercept : bool, default=False
        Treat the intercept as one more coefficient. The paper does (its design matrix has a column of ones), which
        makes predictions depend on where y has its zero; a free intercept is what users of regression expect.
    bounds : None, pair of float, or sequence with one of both for each target, default=None
        A target between bounds, such as an accuracy with ``(0, 1)``, is replaced by its logit, so that no prediction
        is outside. The penalty is chosen by the R2 of the target itself. A target at a bound, whose logit is infinite,
        counts as 0.001 of the interval inside.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features), float64
        Coefficients; of the logit for a bounded target.
    intercept_ : float or ndarray of shape (n_targets,), float64
        Intercept.
    alpha_ : float or ndarray of shape (n_targets,)
        The chosen penalty.
    alpha_scores_ : ndarray of shape (n_alphas,) or (n_alphas, n_targets)
        R2 of each penalty on what was held out; NaN where the held-out target does not vary.
    bounds_ : Bounds
        The bounds of each target.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    zoobench.estimators.LinearProbeClassifier : For targets that are names.
    zoobench.paper_table : The paper's table of such probes.

    Notes
    -----
    Computed in float64 whatever the dtype of X, which may be a float32 memory map: it is read in blocks.

    References
    ----------
    .. [1] Schürholt, K., et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS
       2022, section 4.

    Examples
    --------
    A pipeline passes validation data through its transformers, if told that they are features:

    >>> import numpy as np
    >>> import sklearn
    >>> from sklearn.pipeline import Pipeline
    >>> from zoobench.estimators import LinearProbeRegressor, WeightStatistics
    >>> y = np.linspace(0.1, 0.5, 60)
    >>> X = np.random.default_rng(0).permuted(y[:, None] * np.linspace(-1, 1, 2464), axis=1).astype(np.float32)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     probe = LinearProbeRegressor().set_fit_request(X_val=True, y_val=True)
    ...     model = Pipeline([("statistics", WeightStatistics("cnn_s")), ("probe", probe)], transform_input=["X_val"])
    ...     model = model.fit(X[::2], y[::2], X_val=X[1::4], y_val=y[1::4])
    >>> bool(model.score(X[3::4], y[3::4]) > 0.9)
    True

    Without validation data, the states of one network belong in one group:

    >>> probe = LinearProbeRegressor().fit(X, y, groups=np.repeat(np.arange(20), 3))
    >>> probe.coef_.shape, probe.alpha_scores_.shape
    ((2464,), (17,))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "alphas": ["array-like"],
        "penalize_intercept": ["boolean"],
        "bounds": ["array-like", None],
    }

    def __init__(
        self, alphas: Sequence[float] = PAPER_ALPHAS, *, penalize_intercept: bool = False, bounds: Any = None
    ) -> None:
        self.alphas = alphas
        self.penalize_intercept = penalize_intercept
        self.bounds = bounds

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> LinearProbeRegressor:
        """Choose a penalty for each target and fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, such as weights or their statistics.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; NaN where one is not known.
        groups : array-like of shape (n_samples,), optional
            Network that each row belongs to. Not looked at if validation data is given.
        X_val : array-like of shape (n_validation, n_features), optional
            Features of the validation data.
        y_val : array-like of shape (n_validation,) or (n_validation, n_targets), optional
            Targets of the validation data.

        Returns
        -------
        LinearProbeRegressor
            Itself.

        Raises
        ------
        ValueError
            If a target is known in fewer than two rows or lies outside its bounds, ``X_val`` comes without ``y_val``
            or the other way round, shapes do not fit, or all rows are in one group.
        """
        X, Y, single = check_features_and_targets(self, X, y)
        alphas = check_alphas(self.alphas)
        validation = check_validation_data(self, X_val, y_val, allow_nan=True)
        if validation is not None:
            validation = validation[0], check_validation_targets(validation[1], len(validation[0]), Y.shape[1])
        groups = None if validation is not None else check_groups(groups, len(X))
        self.bounds_ = Bounds(self.bounds, Y)
        targets, watched = self.bounds_.widen(Y), Y if validation is None else validation[1]
        predicted, paths = np.full((len(alphas), *watched.shape), np.nan), []
        for rows, columns in _by_known_rows(Y):
            here = slice(None) if len(rows) == len(X) else rows  # a memory map is not to be copied
            part = targets[rows[:, None], columns]
            path = RidgePath(X[here], part, penalize_intercept=self.penalize_intercept)
            if validation is None:
                held_out = part - path.held_out_residuals(alphas, None if groups is None else groups[here])
                predicted[:, rows[:, None], columns] = held_out
            else:
                predicted[:, :, columns] = path.predict(validation[0], alphas)
            paths.append((path, columns))
        residuals = watched - self.bounds_.narrow(predicted)
        residuals[np.isinf(predicted)] = np.inf  # which a sigmoid would hide
        scores, alpha = np.empty((len(alphas), Y.shape[1])), np.empty(Y.shape[1])
        for rows, columns in _by_known_rows(watched):
            known = residuals[:, rows[:, None], columns]
            scores[:, columns] = r2_scores(known, watched[rows[:, None], columns])
            alpha[columns] = alphas[first_best(scores[:, columns], known)]
        coef, intercept = np.empty((Y.shape[1], X.shape[1])), np.empty(Y.shape[1])
        for path, columns in paths:
            coef[columns], intercept[columns] = path.coefficients(alpha[columns])
        self.coef_ = coef[0] if single else coef
        self.intercept_ = float(intercept[0]) if single else intercept
        self.alpha_ = float(alpha[0]) if single else alpha
        self.alpha_scores_ = scores[:, 0] if single else scores
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets), float64
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted = blocked_product(X, np.atleast_2d(self.coef_).T) + self.intercept_
        predicted = self.bounds_.narrow(predicted)
        return predicted[:, 0] if self.coef_.ndim == 1 else predicted


def _by_known_rows(Y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that are known, and the targets that are known in just these: they share a factorisation."""
    patterns, number = np.unique(~np.isnan(Y), axis=1, return_inverse=True)
    for i, known in enumerate(patterns.T):
        yield np.flatnonzero(known), np.flatnonzero(number == i)
