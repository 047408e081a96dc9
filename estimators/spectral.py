"""Features of the singular values of each layer's weight matrix."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from zoobench.layers import TensorSpec
from zoobench.layout import WeightLayout, resolve_layout

#: What each weight tensor yields, in this order.
FEATURES = ("log_norm", "log_spectral_norm", "stable_rank", "alpha", "weighted_alpha", "log_alpha_norm")

#: Logarithms of squared norms end here: that of a singular value of 1e-10, far below any trained weight.
_LEAST_LOG = -20.0

#: Mean logarithm of how far eigenvalues of the tail are above its end: below it, they are all the same number.
_LEAST_SPREAD = 0.01

#: States are taken to float64 in chunks of this many bytes.
_CHUNK_BYTES = 1 << 23


def _alpha_of_half(logs: np.ndarray) -> np.ndarray:
    """Exponents from logarithms of eigenvalues, largest first, in rows; 0 where fewer than two are finite."""
    n_tail = np.isfinite(logs).sum(axis=1) // 2
    ends = np.take_along_axis(logs, n_tail[:, None], axis=1)
    in_tail = np.arange(logs.shape[1]) < n_tail[:, None]
    above = np.subtract(logs, ends, out=np.zeros_like(logs), where=in_tail).sum(axis=1)
    spread = np.maximum(above / np.maximum(n_tail, 1), _LEAST_SPREAD)
    return np.where(n_tail > 0, 1 + 1 / spread, 0.0)


def _alpha_by_distance(logs: np.ndarray) -> np.ndarray:
    """The same for the tail that is closest to a power law."""
    alpha, least = np.zeros(len(logs)), np.full(len(logs), np.inf)
    for n_tail in range(2, logs.shape[1] + 1):
        with np.errstate(invalid="ignore"):  # a tail that ends in zero has no distance, and is none
            above = logs[:, :n_tail] - logs[:, n_tail - 1 : n_tail]
            spread = np.maximum(above.mean(axis=1), _LEAST_SPREAD)
            larger = np.arange(1, n_tail + 1) / n_tail
            distance = np.abs(np.exp(-above / spread[:, None]) - larger).max(axis=1)
        better = distance < least
        alpha[better], least[better] = 1 + 1 / spread[better], distance[better]
    return alpha


_TAILS = {"half": _alpha_of_half, "ks": _alpha_by_distance}


class SpectralFeatures(TransformerMixin, BaseEstimator):
    """Norms, stable rank and power-law exponent of each layer's weight matrix, from its singular values.

    Permuting a layer's neurons changes none of them. A weight tensor of shape (out, ...) is the matrix W of
    out rows and as many columns as there are other numbers; one with a single axis, such as that of a batch
    normalisation, is a matrix of one row. Biases and buffers are not looked at. With the squared singular values
    l_1 >= l_2 >= ... of W (the eigenvalues of W'W), each weight tensor yields

    - ``log_norm``: log10 of the squared Frobenius norm, which is the sum of all l_i;
    - ``log_spectral_norm``: log10 of l_1, the squared spectral norm;
    - ``stable_rank``: squared Frobenius norm over squared spectral norm, from 1 to the rank of W;
    - ``alpha``: exponent of the power law that the density of the largest l_i follows;
    - ``weighted_alpha``: alpha * log10 l_1;
    - ``log_alpha_norm``: log10 of the sum of all l_i ** alpha.

    The last three are from [1]_. Alpha is a maximum-likelihood estimate, 1 + 1 / (mean of ln(l_i / l_end) in the tail),
    where ``tail`` says which l_i are the largest ones.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer, whose weight is a matrix of one row.
    tail : {"half", "ks"}, default="half"
        Of r squared singular values that are not zero, those that alpha is estimated from:

        - ``"half"``: the k = r // 2 largest, and l_end is the one behind them. This is Hill's estimator with the tail
          that [2]_ uses; it is a continuous function of the weights almost everywhere.
        - ``"ks"``: the k largest with l_end = l_k, where k >= 2 makes the Kolmogorov-Smirnov distance between the
          tail and its power law smallest, as in [1]_ and [3]_. With the 8 to 20 singular values that layers of small
          networks have, that choice may jump from one epoch of a network to the next.

    Attributes
    ----------
    layout_ : WeightLayout
        The layout that was resolved for X.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    zoobench.estimators.WeightStatistics : Moments and percentiles, which do not see the shape of a matrix.

    Notes
    -----
    Every feature is finite. Logarithms of squared norms are at least -20, so a matrix of zeros has ``log_norm`` and
    ``log_spectral_norm`` -20, and a stable rank of 0. Where fewer than two singular values differ from zero, which is
    always so with one row, there is no tail, and the last three features are 0. Where those of the tail are equal, as
    in an orthogonal matrix, alpha would be infinite and is 101. An l_i below max(out, columns) * 2.2e-16 * l_1 counts
    as zero.

    Eigenvalues of the smaller of WW' and W'W are computed in float64, many states at once, and the result has the
    dtype of X. A memory map is read in chunks of states.

    References
    ----------
    .. [1] Martin, C. H., Peng, T. and Mahoney, M. W., "Predicting trends in the quality of state-of-the-art neural
       networks without access to training or testing data", Nature Communications 12, 4122 (2021).
    .. [2] Zhou, Y., et al., "Temperature Balancing, Layer-wise Weight Analysis, and Neural Network Training", NeurIPS
       2023.
    .. [3] Clauset, A., Shalizi, C. R. and Newman, M. E. J., "Power-Law Distributions in Empirical Data", SIAM Review 51
       (2009), section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import SpectralFeatures
    >>> X = np.random.default_rng(0).normal(size=(3, 2464)).astype(np.float32)
    >>> spectral = SpectralFeatures("cnn_s").fit(X)
    >>> spectral.transform(X).shape
    (3, 30)
    >>> spectral.get_feature_names_out()[:3].tolist()
    ['module_list.0.weight_log_norm', 'module_list.0.weight_log_spectral_norm', 'module_list.0.weight_stable_rank']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "layout": [WeightLayout, str, None],
        "tail": [StrOptions(set(_TAILS))],
    }

    def __init__(self, layout: WeightLayout | str | None = None, *, tail: str = "half") -> None:
        self.layout = layout
        self.tail = tail

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> SpectralFeatures:
        """Resolve the layout; nothing is learnt from the values.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        SpectralFeatures
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, or has no weight.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        layout = resolve_layout(self.layout, X.shape[1])
        if not _weights(layout):
            raise ValueError(f"{layout!r} has no tensor that is a weight, so there is no matrix to describe")
        self.layout_ = layout
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Spectral features of each state.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states, n_features_out), of the dtype of X
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        tensors = _weights(self.layout_)
        result = np.empty((len(X), len(tensors), len(FEATURES)), dtype=X.dtype)
        for number, tensor in enumerate(tensors):
            step = max(1, _CHUNK_BYTES // (8 * tensor.size))
            for start in range(0, len(X), step):
                chunk = X[start : start + step, tensor.slice].astype(np.float64)
                rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
                result[start : start + step, number] = spectral_features(chunk.reshape(len(chunk), rows, -1), self.tail)
        return result.reshape(len(X), -1)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names that were seen in ``fit``.

        Returns
        -------
        ndarray of str
            Tensor and feature, such as ``"module_list.0.weight_alpha"``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        return np.asarray([f"{tensor.name}_{name}" for tensor in _weights(self.layout_) for name in FEATURES], object)

    @property
    def _n_features_out(self) -> int:
        return len(_weights(self.layout_)) * len(FEATURES)


def _weights(layout: WeightLayout) -> list[TensorSpec]:
    return [tensor for tensor in layout.tensors if tensor.role == "weight" and tensor.size]


def spectral_features(matrices: np.ndarray, tail: str = "half") -> np.ndarray:
    """The features of many matrices of one shape.

    Parameters
    ----------
    matrices : ndarray of shape (n_matrices, n_rows, n_columns), float64
        Matrices; finite.
    tail : {"half", "ks"}, default="half"
        See :class:`SpectralFeatures`.

    Returns
    -------
    ndarray of shape (n_matrices, 6), float64
        In the order of :data:`FEATURES`; see :class:`SpectralFeatures`.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators.spectral import spectral_features
    >>> spectral_features(np.diag([10.0, 1.0])[None])[0, :3].round(3)
    array([2.004, 2.   , 1.01 ])
    """
    # Scaled to a largest entry of 1, so that no square is too large or too small for a number.
    largest = np.abs(matrices).max(axis=(1, 2))
    matrices = matrices / np.where(largest > 0, largest, 1.0)[:, None, None]
    transposed = matrices.transpose(0, 2, 1)
    wide = matrices.shape[1] <= matrices.shape[2]
    values = np.linalg.eigvalsh(matrices @ transposed if wide else transposed @ matrices)[:, ::-1]
    rounding = max(matrices.shape[1:]) * np.finfo(np.float64).eps * values[:, :1]
    values = np.where(values > rounding, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values) + 2 * np.log(largest)[:, None]
        total, top = logsumexp(logs, axis=1) / np.log(10), logs[:, 0] / np.log(10)
        stable_rank = np.where(values[:, 0] > 0, values.sum(axis=1) / values[:, 0], 0.0)
    log_norm, log_spectral_norm = np.maximum(total, _LEAST_LOG), np.maximum(top, _LEAST_LOG)
    alpha = _TAILS[tail](logs)
    # Without a tail, alpha is zero and so are these.
    has_tail = alpha > 0
    log_alpha_norm = np.zeros(len(matrices))
    log_alpha_norm[has_tail] = logsumexp(alpha[has_tail, None] * logs[has_tail], axis=1) / np.log(10)
    return np.stack(
        [log_norm, log_spectral_norm, stable_rank, alpha, alpha * log_spectral_norm, log_alpha_norm], axis=1
    )
