"""Linear probe for numbers: ridge regression whose penalty is chosen by validation data or in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.validation import check_is_fitted, validate_data

from zoobench.estimators.held_out import PAPER_ALPHAS, check_alphas, check_groups, check_validation_data
from zoobench.estimators.ridge import RidgePath, blocked_product, first_best, r2_scores


class LinearProbeRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression with a penalty for each target, chosen without refitting.

    One factorisation of X serves all penalties and all targets. The penalty is the first of the best ones in the
    order of ``alphas``, judged by R2 on

    1. validation data, if ``X_val`` and ``y_val`` are given;
    2. else held-out groups, if ``groups`` is given: each row is predicted by the model that was fitted without the
       row's group, in closed form. States of one network are similar, so a zoo's ``groups`` should be given;
    3. else held-out rows, in closed form. With several states of one network this chooses too weak a penalty.

    The final coefficients are fitted on X alone, as in the paper [1]_: validation data choose, but do not train.

    Parameters
    ----------
    alphas : sequence of positive float, default=the 17 of the paper, from 1e3 to 1e-5
        Penalties on the sum of squared coefficients, where the loss is the sum of squared residuals.
    penalize_intercept : bool, default=False
        Treat the intercept as one more coefficient. The paper does (its design matrix has a column of ones), which
        makes predictions depend on where y has its zero; a free intercept is what users of regression expect.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features), float64
        Coefficients.
    intercept_ : float or ndarray of shape (n_targets,), float64
        Intercept.
    alpha_ : float or ndarray of shape (n_targets,)
        The chosen penalty.
    alpha_scores_ : ndarray of shape (n_alphas,) or (n_alphas, n_targets)
        R2 of each penalty on what was held out; NaN where the held-out target does not vary.
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
    .. [1] K. Schuerholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022,
       section 4.

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
    }

    def __init__(self, alphas: Sequence[float] = PAPER_ALPHAS, *, penalize_intercept: bool = False) -> None:
        self.alphas = alphas
        self.penalize_intercept = penalize_intercept

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> LinearProbeRegressor:
        """Choose a penalty for each target and fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, such as weights or their statistics.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
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
            If ``X_val`` comes without ``y_val`` or the other way round, shapes do not fit, or all rows are in one
            group.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True, ensure_min_samples=2
        )
        alphas = check_alphas(self.alphas)
        Y = _as_columns(y)
        validation = check_validation_data(self, X_val, y_val)
        path = RidgePath(X, Y, penalize_intercept=self.penalize_intercept)
        if validation is not None:
            held_out = _as_columns(validation[1])
            if held_out.shape[1] != Y.shape[1]:
                raise ValueError(f"y_val has {held_out.shape[1]} targets, but y has {Y.shape[1]}")
            residuals = held_out - path.predict(validation[0], alphas)
        else:
            held_out = Y
            residuals = path.held_out_residuals(alphas, check_groups(groups, len(X)))
        scores = r2_scores(residuals, held_out)
        alpha = alphas[first_best(scores, residuals)]
        coef, intercept = path.coefficients(alpha)
        single = y.ndim == 1
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
        return predicted[:, 0] if self.coef_.ndim == 1 else predicted


def _as_columns(y: np.ndarray) -> np.ndarray:
    return np.asarray(y, dtype=np.float64).reshape(len(y), -1)
