"""Kernel density of weights: the simplest sampler of new networks, and a hard one to beat."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, DensityMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from zoobench.estimators.ridge import row_blocks

_LOG_2PI = math.log(2 * math.pi)


class WeightKDE(DensityMixin, BaseEstimator):
    r"""Gaussian kernel density of weight vectors, to draw new ones from.

    With n models that have the weights :math:`w_1, \ldots, w_n` of d numbers each, and a bandwidth
    :math:`h_j` for each number, the density is

    .. math::
        p(w) = \prod_j \frac1n \sum_i \mathcal N(w_j; w_{ij}, h_j^2)
        \quad\text{or}\quad
        p(w) = \frac1n \sum_i \prod_j \mathcal N(w_j; w_{ij}, h_j^2)

    with ``method="independent"``, as in published work [1]_, and with ``method="joint"``.

    Parameters
    ----------
    method : {"independent", "joint"}, default="independent"
        - ``"independent"``: one density a weight. Each weight of a sample comes from a model of its own, so samples lie
          between the models, but weights that belong together do not stay so.
        - ``"joint"``: one density of whole vectors. A sample is one of the models with noise added.
    bandwidth : float or {"scott", "silverman"}, default="scott"
        Standard deviation of the kernel: a number is the same for all weights; a rule [2]_ gives a factor on each
        weight's own standard deviation. With ``"joint"`` in thousands of dimensions, rules give a factor near 1: noise
        as large as the differences between models.
    top : float, default=0.3
        Only this share of the models, those with the largest y, is used if ``fit`` is given a y, such as the test
        accuracy. Published samplers take the best 30 % [1]_. 1.0 uses all.

    Attributes
    ----------
    models_ : ndarray of shape (n_models, n_features), of the dtype of X
        The models that are used.
    bandwidth_ : ndarray of shape (n_features,), float64
        The kernel's standard deviation of each weight; 0 where all models agree and a rule was asked for.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    LatentKDE : The same on the latents of an autoencoder.

    Notes
    -----
    Every weight of every sample is drawn independently of all others (with ``"joint"``: its noise is). A published
    implementation set one seed anew for every dimension, so that each dimension drew the same model, and its samples
    were copies of training models.

    A weight that is the same in all models, with a rule for the bandwidth, is sampled as it is and does not count in
    densities, which are zero for any other value of it.

    References
    ----------
    .. [1] Schürholt, K., et al., "Hyper-Representations as Generative Models: Sampling Unseen Neural Network Weights",
       NeurIPS 2022, section 3.
    .. [2] Scott, D. W., "Multivariate Density Estimation", 1992; Silverman, B. W., "Density Estimation", 1986.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import WeightKDE
    >>> zoo = fetch_zoo("digits_cnn_s", subset="train", epochs="last")
    >>> kde = WeightKDE().fit(zoo.data, zoo.target)
    >>> kde.sample(5, random_state=0).shape
    (5, 2464)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "method": [StrOptions({"independent", "joint"})],
        "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"scott", "silverman"})],
        "top": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, method: str = "independent", *, bandwidth: float | str = "scott", top: float = 0.3) -> None:
        self.method = method
        self.bandwidth = bandwidth
        self.top = top

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> WeightKDE:
        """Keep the models and find the bandwidth.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features)
            Weight vectors.
        y : array-like of shape (n_states,), optional
            What makes a model a good one, the larger the better; models for which it is NaN are not used. Without it
            all models are.

        Returns
        -------
        WeightKDE
            Itself.

        Raises
        ------
        ValueError
            If y is known for no model.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        rows = np.arange(len(X)) if y is None else best_rows(y, len(X), self.top)
        self.models_ = np.array(X[rows])  # a copy: X may be a file that is not there later
        if isinstance(self.bandwidth, str):
            spread = self.models_.std(axis=0, dtype=np.float64)
            # Of equal numbers it is not always zero, but rounding.
            self.bandwidth_ = np.where(np.ptp(self.models_, axis=0) > 0, self._factor() * spread, 0.0)
        else:
            self.bandwidth_ = np.full(X.shape[1], float(self.bandwidth))
        return self

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw new weight vectors.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            Which ones.

        Returns
        -------
        ndarray of shape (n_samples, n_features), of the dtype of X in ``fit``
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        n_models, n_features = self.models_.shape
        samples = np.empty((n_samples, n_features), dtype=self.models_.dtype)
        for rows in row_blocks(n_samples, 3 * n_features):
            n_rows = len(samples[rows])
            if self.method == "independent":
                chosen = self.models_[rng.randint(n_models, size=(n_rows, n_features)), np.arange(n_features)]
            else:
                chosen = self.models_[rng.randint(n_models, size=n_rows)]
            samples[rows] = chosen + self.bandwidth_ * rng.standard_normal((n_rows, n_features))
        return samples

    def score_samples(self, X: Any) -> np.ndarray:
        """Logarithm of the density of each weight vector.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states,), float64
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        spread = self.bandwidth_ > 0
        models = self.models_[:, spread] / self.bandwidth_[spread]
        constant = np.log(self.bandwidth_[spread]).sum() + spread.sum() * _LOG_2PI / 2
        n_models = len(models)
        result = np.empty(len(X))
        for rows in row_blocks(len(X), models.size):
            values = X[rows][:, spread] / self.bandwidth_[spread]
            if self.method == "independent":
                exponents = -np.square(values[:, None, :] - models) / 2
                density = logsumexp(exponents, axis=1).sum(axis=1) - spread.sum() * math.log(n_models)
            else:
                density = logsumexp(-cdist(values, models, "sqeuclidean") / 2, axis=1) - math.log(n_models)
            agrees = (X[rows][:, ~spread] == self.models_[0, ~spread]).all(axis=1)
            result[rows] = np.where(agrees, density - constant, -np.inf)
        return result

    def score(self, X: Any, y: Any = None) -> float:
        """Total logarithm of the density, as scikit-learn's KernelDensity has it.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        float
        """
        return float(self.score_samples(X).sum())

    def _factor(self) -> float:
        """Scott's or Silverman's rule, for as many dimensions as one density has."""
        n_models, n_features = self.models_.shape
        d = 1 if self.method == "independent" else n_features
        if self.bandwidth == "silverman":
            n_models = n_models * (d + 2) / 4
        return float(n_models ** (-1 / (d + 4)))


def best_rows(y: Any, n_rows: int, top: float) -> np.ndarray:
    """Rows with the largest y, in their order.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The larger the better; NaN is never among the best.
    n_rows : int
        Rows of X.
    top : float
        Share of the rows whose y is known, rounded up.

    Returns
    -------
    ndarray of int

    Raises
    ------
    ValueError
        If there is another number of values, or none is known.

    Examples
    --------
    >>> from zoobench.estimators.kde import best_rows
    >>> best_rows([0.1, 0.9, float("nan"), 0.5, 0.3], 5, top=0.5).tolist()
    [1, 3]
    """
    values = column_or_1d(y).astype(np.float64)
    if len(values) != n_rows:
        raise ValueError(f"y has {len(values)} entries, but X has {n_rows} rows; each row needs one")
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        raise ValueError("y is NaN everywhere, so there are no best models; leave it out to use all")
    n_best = math.ceil(top * len(known) - 1e-9)  # .07 of 100 is 7, and a little more in floating point
    return np.sort(known[np.argsort(-values[known], kind="stable")[:n_best]])
