"""Principal components of weight vectors, of the whole vector or layer by layer."""

from __future__ import annotations

import warnings
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import assert_all_finite, check_array, check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from zoobench.estimators.principal import principal_axes, tiles
from zoobench.layout import WeightLayout, resolve_layout


class WeightPCA(TransformerMixin, BaseEstimator):
    """Principal component analysis of weight vectors that may lie in a file larger than memory.

    Weights are centred, not scaled; with layers of very different size of weights, a
    :class:`~zoobench.estimators.LayerScaler` in front makes them count alike. Buffers of batch normalisation are part
    of the vector. Signs are fixed: in each component, the entry of largest size is positive.

    Parameters
    ----------
    n_components : int or None, default=50
        Components to keep, of the whole vector or of each layer. No more than min(n_states, n_weights), or
        min(n_states, weights of the layer), are kept, which is also what None stands for.
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer. It decides what ``per_layer`` means, and what
        ``layer_explained_variance_ratio_`` tells apart.
    per_layer : bool, default=False
        Analyse each layer by itself, and join the layers' components in the order of the weight vector.
    tol : float, default=5e-4
        Where the decomposition is iterative, it ends when each component's variance is exact to about this part of
        itself, however much larger others are. That is judged by residuals, which cost no pass over X: with C the
        covariance, ``|C v - variance * v| <= sqrt(tol) * variance`` for each component v. The default leaves
        components whose span is that of exact ones but for about a thousandth, unless those left out vary as much.
    random_state : int, RandomState instance or None, default=0
        Where the iteration starts. The default gives the same components at every call.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_weights)
        The components, as rows of length 1. With ``per_layer``, row i holds the i-th component of every layer side
        by side, and zeros for layers that have fewer.
    explained_variance_ : ndarray of shape (n_features_out,), float64
        Variance (with n_states - 1) of each column of the transformed states.
    explained_variance_ratio_ : ndarray of shape (n_features_out,), float64
        The same as a share of the variance of all weights together; NaN if nothing varies.
    layer_explained_variance_ratio_ : ndarray of shape (n_layers,), float64
        Share of each layer's variance that its reconstruction from the components has; NaN for a layer that does
        not vary.
    layer_n_components_ : tuple of int
        Components of each layer with ``per_layer``; else the one number of components of the whole vector.
    mean_ : ndarray of shape (n_weights,)
        Mean of each weight.
    layout_ : WeightLayout
        The layout that was resolved for X.
    n_iter_ : int
        Passes over X that the decomposition took; with ``per_layer`` the most that a layer took.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    sklearn.decomposition.PCA : For data that fits into memory.

    Notes
    -----
    X is read in blocks and never copied as a whole; a read-only float32 memory map will do. Where the smaller of
    n_states and n_weights is at most 1024, or less than six times ``n_components + 10``, the result is exact. Else a
    randomised block Krylov method [1]_ multiplies ``n_components + 10`` directions by the covariance once in a pass
    over X, and looks for components among all products so far. It needs fewer passes than the power iteration of
    scikit-learn's randomised solver, which keeps the last product only. float32 data is computed with in float32:
    explained variances agree with exact ones to about 1e-5 of the largest.

    References
    ----------
    .. [1] Musco, C. and Musco, C., "Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
       Decomposition", NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import WeightPCA
    >>> rng = np.random.default_rng(0)
    >>> X = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 2464))).astype(np.float32)
    >>> pca = WeightPCA(3, layout="cnn_s").fit(X)
    >>> pca.transform(X).shape, pca.layer_explained_variance_ratio_.round(3).tolist()
    ((40, 3), [1.0, 1.0, 1.0, 1.0, 1.0])
    >>> bool(np.allclose(pca.inverse_transform(pca.transform(X)), X, atol=1e-4))
    True
    >>> WeightPCA(2, layout="cnn_s", per_layer=True).fit(X).get_feature_names_out()[:3].tolist()
    ['module_list.0_pc0', 'module_list.0_pc1', 'module_list.3_pc0']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "layout": [WeightLayout, str, None],
        "per_layer": ["boolean"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int | None = 50,
        *,
        layout: WeightLayout | str | None = None,
        per_layer: bool = False,
        tol: float = 5e-4,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.layout = layout
        self.per_layer = per_layer
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> WeightPCA:
        """Find the components.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors, at least two.
        y : None
            Ignored.

        Returns
        -------
        WeightPCA
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, or a weight is NaN or infinite.
        """
        # NaN and infinity show in the means, so that X need not be read twice.
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, ensure_min_samples=2)
        layout = resolve_layout(self.layout, X.shape[1])
        rng = check_random_state(self.random_state)
        layers = [layer.slice for layer in layout.layers]
        mean, totals = _moments(X, layers)
        if not np.isfinite(mean).all():
            assert_all_finite(X, estimator_name="WeightPCA", input_name="X")
        self.layout_ = layout
        self.mean_ = mean.astype(X.dtype)
        wanted = max(X.shape) if self.n_components is None else self.n_components
        parts = self._parts()
        sizes = [min(wanted, len(X), part.stop - part.start) for part in parts]
        self.components_ = np.zeros((max(sizes), X.shape[1]), dtype=X.dtype)
        variances, self.n_iter_ = [], 0
        for part, size in zip(parts, sizes, strict=True):
            if size:
                axes, sums, n_passes, converged = principal_axes(X, part, self.mean_, size, self.tol, rng)
                self.components_[:size, part] = axes
                variances.append(sums / (len(X) - 1))
                self.n_iter_ = max(self.n_iter_, n_passes)
                if not converged:
                    warnings.warn(
                        f"after {n_passes} passes over X the variances of the components are not exact to tol; give "
                        f"a larger tol than {self.tol} or fewer components than {size}",
                        ConvergenceWarning,
                        stacklevel=3,
                    )
        self.layer_n_components_ = tuple(sizes)
        self.explained_variance_ = np.concatenate(variances)
        self.explained_variance_ratio_ = _share(self.explained_variance_, totals.sum() / (len(X) - 1))
        explained = self._explained_by_layer(layers)
        self.layer_explained_variance_ratio_ = _share(explained, totals / (len(X) - 1))
        return self

    def _parts(self) -> list[slice]:
        """What is analysed by itself: the layers, or the whole vector."""
        return [layer.slice for layer in self.layout_.layers] if self.per_layer else [slice(0, self.layout_.n_weights)]

    def _columns_out(self) -> list[slice]:
        """Which columns of the transformed states each part yields."""
        ends = np.cumsum((0, *self.layer_n_components_)).tolist()
        return [slice(start, stop) for start, stop in pairwise(ends)]

    def _explained_by_layer(self, layers: list[slice]) -> np.ndarray:
        """Variance of each layer's weights that is along the components."""
        explained = np.zeros(len(layers))
        for part, out in zip(self._parts(), self._columns_out(), strict=True):
            variance = self.explained_variance_[out]
            for i, layer in enumerate(layers):
                if part.start <= layer.start and layer.stop <= part.stop:
                    axes = self.components_[: len(variance), layer]
                    explained[i] += variance @ np.vecdot(axes, axes).astype(np.float64)
        return explained

    def transform(self, X: Any) -> np.ndarray:
        """Coordinates of each state along the components.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states, n_features_out), of the dtype of X
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=False)
        result = np.zeros((len(X), self._n_features_out), dtype=X.dtype)
        mean = self.mean_.astype(X.dtype, copy=False)
        for part, out in zip(self._parts(), self._columns_out(), strict=True):
            for rows, columns in tiles(X, part):
                axes = self.components_[: out.stop - out.start, columns].astype(X.dtype, copy=False)
                result[rows, out] += np.subtract(X[rows, columns], mean[columns], order="C") @ axes.T
        if not np.isfinite(result).all():
            assert_all_finite(X, estimator_name="WeightPCA", input_name="X")
        return result

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Weight vectors from coordinates along the components.

        Parameters
        ----------
        X : array-like of shape (n_states, n_features_out)
            What :meth:`transform` gives.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X

        Raises
        ------
        ValueError
            If the number of columns is not that of :meth:`transform`.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], order="C", estimator=self, input_name="X")
        if X.shape[1] != self._n_features_out:
            raise ValueError(f"X has {X.shape[1]} columns, but transform gives {self._n_features_out}")
        result = np.empty((len(X), self.layout_.n_weights), dtype=X.dtype)
        mean = self.mean_.astype(X.dtype, copy=False)
        for part, out in zip(self._parts(), self._columns_out(), strict=True):
            for rows, columns in tiles(result, part):
                axes = self.components_[: out.stop - out.start, columns].astype(X.dtype, copy=False)
                np.add(X[rows, out] @ axes, mean[columns], out=result[rows, columns])
        return result

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the components.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names that were seen in ``fit``.

        Returns
        -------
        ndarray of str
            Such as ``"pc0"``, or with ``per_layer`` ``"module_list.0_pc0"``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        prefixes = [f"{layer.name}_" for layer in self.layout_.layers] if self.per_layer else [""]
        sizes = zip(prefixes, self.layer_n_components_, strict=True)
        return np.asarray([f"{prefix}pc{i}" for prefix, size in sizes for i in range(size)], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return sum(self.layer_n_components_)


def _moments(X: np.ndarray, layers: list[slice]) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column, and each layer's sum of squared deviations from it, in one pass over X.

    Differences from the first state are looked at, of which a constant layer has none at all, and blocks are merged
    in float64 by the update of Chan, Golub and LeVeque (1983): no digits are lost where means are large. Blocks are
    in C order whatever X is, so that rounding does not tell an array from a frame.
    """
    mean, totals = np.zeros(X.shape[1]), np.zeros(len(layers))
    with np.errstate(over="ignore", invalid="ignore"):
        for i, layer in enumerate(layers):
            for rows, columns in tiles(X, layer):
                block = np.subtract(X[rows, columns], X[0, columns], order="C")
                n_new, n_seen = len(block), rows.start
                centre = np.ones(n_new, dtype=X.dtype) @ block / X.dtype.type(n_new)
                block -= centre
                shift = centre - mean[columns]
                totals[i] += np.vecdot(block, block).sum(dtype=np.float64)
                totals[i] += shift @ shift * (n_seen * n_new / (n_seen + n_new))
                mean[columns] += shift * (n_new / (n_seen + n_new))
        return X[0] + mean, totals


def _share(part: np.ndarray, whole: Any) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        # Rounding may give a layer that is explained in full a little more than there is.
        return np.where(np.asarray(whole) > 0, np.minimum(part / whole, 1.0), np.nan)
