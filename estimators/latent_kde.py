"""Kernel density of an autoencoder's latents: new networks from the middle of those that it has learned."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from zoobench.estimators.kde import WeightKDE, best_rows
from zoobench.estimators.pca import WeightPCA


class LatentKDE(DensityMixin, BaseEstimator):
    """Gaussian kernel density of latents, whose samples are decoded to weights.

    The autoencoder learns from all models; the density is that of the best ones' latents.

    Parameters
    ----------
    autoencoder : estimator with ``transform`` and ``inverse_transform``, default=None
        Is cloned and fitted. One that is fitted already is used as it is when wrapped in
        ``sklearn.frozen.FrozenEstimator``: that is also how to train it with validation data of its own. None is
        ``WeightPCA()``.
    method : {"independent", "joint"}, default="independent"
        One density a latent dimension, or one of whole latents; see :class:`WeightKDE`.
    bandwidth : float or {"scott", "silverman"}, default="scott"
        Standard deviation of the kernel, in units of the latents, or a rule; see :class:`WeightKDE`. Published samples
        have 0.002, for latents between -1 and 1 [1]_.
    top : float, default=0.3
        Share of the models, those with the largest y, whose latents are used, if ``fit`` is given a y [1]_.

    Attributes
    ----------
    autoencoder_ : estimator
        The fitted autoencoder.
    kde_ : WeightKDE
        Density of the latents.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    WeightKDE : The same on weights.

    References
    ----------
    .. [1] Schürholt, K., et al., "Hyper-Representations as Generative Models: Sampling Unseen Neural Network Weights",
       NeurIPS 2022, section 3.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import LatentKDE, WeightPCA
    >>> zoo = fetch_zoo("digits_cnn_s", subset="train", epochs="last")
    >>> sampler = LatentKDE(WeightPCA(20)).fit(zoo.data, zoo.target)
    >>> sampler.sample(5, random_state=0).shape
    (5, 2464)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "autoencoder": [HasMethods(["fit", "transform", "inverse_transform"]), None],
        "method": [StrOptions({"independent", "joint"})],
        "bandwidth": [Interval(Real, 0, None, closed="neither"), StrOptions({"scott", "silverman"})],
        "top": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        autoencoder: Any = None,
        *,
        method: str = "independent",
        bandwidth: float | str = "scott",
        top: float = 0.3,
    ) -> None:
        self.autoencoder = autoencoder
        self.method = method
        self.bandwidth = bandwidth
        self.top = top

    @_fit_context(prefer_skip_nested_validation=False)  # the autoencoder checks its own parameters
    def fit(self, X: Any, y: Any = None) -> LatentKDE:
        """Train the autoencoder on X, and keep the latents of the best models.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features)
            Weight vectors.
        y : array-like of shape (n_states,), optional
            What makes a model a good one, the larger the better; models for which it is NaN are not used. Without it
            the latents of all models are.

        Returns
        -------
        LatentKDE
            Itself.

        Raises
        ------
        ValueError
            If y is known for no model.
        """
        # Whoever interrupts a fit, or has it fail, is left with an estimator that is not fitted, never with two halves.
        if hasattr(self, "kde_"):
            delattr(self, "kde_")
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self.autoencoder_ = WeightPCA() if self.autoencoder is None else clone(self.autoencoder)
        self.autoencoder_.fit(X, y)
        rows = slice(None) if y is None else best_rows(y, len(X), self.top)
        latents = self.autoencoder_.transform(X[rows])
        self.kde_ = WeightKDE(self.method, bandwidth=self.bandwidth).fit(latents)
        return self

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw latents, and decode them.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState instance or None, default=None
            Which ones.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            Weight vectors.
        """
        check_is_fitted(self)
        weights: np.ndarray = self.autoencoder_.inverse_transform(self.kde_.sample(n_samples, random_state))
        return weights

    def score_samples(self, X: Any) -> np.ndarray:
        """Logarithm of the density of each weight vector's latent: a density in the space of latents.

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
        return self.kde_.score_samples(self.autoencoder_.transform(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Total logarithm of the latents' density.

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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "kde_")
