"""Statistics of each layer's weights: the features that published work calls s(W)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import assert_all_finite
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from zoobench.layers import TensorSpec
from zoobench.layout import WeightLayout, resolve_layout

#: Rows are read in blocks of this many bytes, so that a memory map larger than memory is read once, page by page.
_BLOCK_BYTES = 1 << 25

#: What is sorted at a time stays in the second-level cache of one core.
_CACHE_BYTES = 1 << 19

#: Up to this many numbers a tensor, comparing whole columns beats one sort a row: a sort of eight numbers is nearly
#: all overhead.
_NETWORK_SIZE = 20


class _Preset(NamedTuple):
    percentiles: tuple[int, ...]
    roles: tuple[str, ...]


_PRESETS = {
    "model_zoos": _Preset((1, 25, 50, 75, 99), ("weight", "bias")),
    "unterthiner": _Preset((0, 25, 50, 75, 100), ("weight", "bias")),
    "hyper_representations": _Preset((1, 25, 50, 75, 99), ("weight",)),
}


class WeightStatistics(TransformerMixin, BaseEstimator):
    """Mean, variance and percentiles of each layer's weights and biases.

    Four different sets of features are called "weight statistics" in the literature; three of them are presets here.
    In the order of the weight vector, each tensor yields its mean, its (population) variance and its percentiles by
    linear interpolation. Weights and biases are kept apart. What no optimizer trains, such as the running mean of a
    batch normalisation, is left out.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer that is all weight.
    preset : {"model_zoos", "unterthiner", "hyper_representations"}, default="model_zoos"
        - ``"model_zoos"``: percentiles 1, 25, 50, 75, 99 of weights and biases [1]_; 70 features for the CNNs there.
        - ``"unterthiner"``: percentiles 0, 25, 50, 75, 100 of weights and biases [2]_.
        - ``"hyper_representations"``: percentiles 1, 25, 50, 75, 99 of the weights only [3]_.

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
    zoobench.estimators.LinearProbeRegressor : Predicts a property from such features.

    Notes
    -----
    float32 stays float32 and float64 stays float64. A memory map is read in blocks of rows: memory does not grow with
    the number of states.

    References
    ----------
    .. [1] K. Schuerholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022,
       section 4.
    .. [2] T. Unterthiner et al., "Predicting Neural Network Accuracy from Weights", arXiv:2002.11448, section 3.
    .. [3] K. Schuerholt et al., "Self-Supervised Representation Learning on Neural Network Weights for Model
       Characteristic Prediction", NeurIPS 2021, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import WeightStatistics
    >>> X = np.random.default_rng(0).normal(size=(3, 2464)).astype(np.float32)
    >>> statistics = WeightStatistics("cnn_s").fit(X)
    >>> statistics.transform(X).shape
    (3, 70)
    >>> statistics.get_feature_names_out()[:3].tolist()
    ['module_list.0.weight_mean', 'module_list.0.weight_var', 'module_list.0.weight_p1']
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "layout": [WeightLayout, str, None],
        "preset": [StrOptions(set(_PRESETS))],
    }

    def __init__(self, layout: WeightLayout | str | None = None, *, preset: str = "model_zoos") -> None:
        self.layout = layout
        self.preset = preset

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> WeightStatistics:
        """Resolve the layout; nothing is learnt from the values.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        WeightStatistics
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, or has no tensor that the preset describes.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        layout = resolve_layout(self.layout, X.shape[1])
        if not described_tensors(layout, self.preset):
            roles = " or ".join(_PRESETS[self.preset].roles)
            raise ValueError(f"{layout!r} has no tensor that is a {roles}, so preset {self.preset!r} gives no feature")
        self.layout_ = layout
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Statistics of each state.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states, n_features_out), of the dtype of X
        """
        check_is_fitted(self)
        # NaN and infinity show in the means, so that X need not be read twice.
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=False)
        return layer_statistics(X, self.layout_, self.preset)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the statistics.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names that were seen in ``fit``.

        Returns
        -------
        ndarray of str
            Tensor and statistic, such as ``"module_list.0.weight_p25"``.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        statistics = ["mean", "var", *(f"p{percentile}" for percentile in _PRESETS[self.preset].percentiles)]
        tensors = described_tensors(self.layout_, self.preset)
        return np.asarray([f"{tensor.name}_{name}" for tensor in tensors for name in statistics], dtype=object)

    @property
    def _n_features_out(self) -> int:
        return len(self.get_feature_names_out())


def described_tensors(layout: WeightLayout, preset: str) -> list[TensorSpec]:
    """The tensors that a preset describes, in the order of the weight vector."""
    return [tensor for tensor in layout.tensors if tensor.role in _PRESETS[preset].roles and tensor.size]


def layer_statistics(
    X: np.ndarray, layout: WeightLayout, preset: str = "model_zoos", *, exact: bool = False
) -> np.ndarray:
    """Statistics of each layer, for states whose layout is known.

    Parameters
    ----------
    X : ndarray of shape (n_states, n_weights), float32 or float64
        Weight vectors; a memory map may be larger than memory.
    layout : WeightLayout
        Which columns belong to which layer.
    preset : {"model_zoos", "unterthiner", "hyper_representations"}, default="model_zoos"
        See :class:`WeightStatistics`.
    exact : bool, default=False
        Round as ``numpy.mean``, ``numpy.var`` and ``numpy.percentile`` do, and give float64: percentiles of float32
        values are interpolated in float64. Slower. A regression with a penalty of 1e-5 amplifies the last digits of
        its features by orders of magnitude, so published results can only be met to 1e-6 with their rounding.

    Returns
    -------
    ndarray of shape (n_states, n_features_out)
        Of the dtype of X, or float64 if ``exact``.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite.
    """
    tensors = described_tensors(layout, preset)
    percentiles = _PRESETS[preset].percentiles
    width = 2 + len(percentiles)
    result = np.empty((len(X), len(tensors) * width), dtype=np.float64 if exact else X.dtype)
    largest = max((tensor.size for tensor in tensors), default=0)
    scratch = np.empty(max(largest, _CACHE_BYTES // X.itemsize), dtype=X.dtype)
    step = max(1, _BLOCK_BYTES // (X.shape[1] * X.itemsize))
    for start in range(0, len(X), step):
        block = np.asarray(X[start : start + step])
        for number, tensor in enumerate(tensors):
            values = block[:, tensor.slice]
            out = result[start : start + step, number * width : (number + 1) * width]
            if tensor.size <= _NETWORK_SIZE and not exact:
                _describe_columns(values, percentiles, out)
            else:
                _describe_rows(values, percentiles, out, scratch, exact)
        if not np.isfinite(result[start : start + step, ::width]).all():
            assert_all_finite(block, estimator_name="WeightStatistics", input_name="X")
    return result


def _describe_rows(
    values: np.ndarray, percentiles: Sequence[int], out: np.ndarray, scratch: np.ndarray, exact: bool
) -> None:
    """Statistics of each row, by sorting a few rows at a time."""
    size = values.shape[1]
    lower, upper, fraction = _positions(size, percentiles, out.dtype)
    step = max(1, scratch.size // size)
    ones = np.ones(size, dtype=values.dtype)
    for start in range(0, len(values), step):
        part = values[start : start + step]
        rows = scratch[: part.size].reshape(part.shape)
        np.copyto(rows, part)
        described = out[start : start + step]
        if exact:
            described[:, 0], described[:, 1] = rows.mean(axis=1), rows.var(axis=1)
        else:
            described[:, 0], described[:, 1] = _moments(rows, ones)
        rows.sort(axis=1)
        below = rows[:, lower]
        described[:, 2:] = below + (rows[:, upper] - below) * fraction


def _moments(rows: np.ndarray, ones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each row in one pass; in two for rows whose mean would eat up the digits of the variance."""
    size = rows.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.vecdot(rows, ones) / size
        square = np.vecdot(rows, rows) / size
        variance = square - mean**2
        cancelled = np.flatnonzero(~(2 * variance > square))
        if cancelled.size:
            centred = rows[cancelled] - mean[cancelled, None]
            variance[cancelled] = np.vecdot(centred, centred) / size
    return mean, variance


def _describe_columns(values: np.ndarray, percentiles: Sequence[int], out: np.ndarray) -> None:
    """Statistics of each row of a few numbers, by comparing whole columns in the order of a sorting network."""
    size = values.shape[1]
    lower, upper, fraction = _positions(size, percentiles, out.dtype)
    table = np.ascontiguousarray(values.T)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = table.sum(axis=0) / size
        out[:, 0] = mean
        out[:, 1] = np.square(table - mean).sum(axis=0) / size
    columns, spare = list(table), np.empty_like(mean)
    for i, j in _sorting_network(size):
        np.minimum(columns[i], columns[j], out=spare)
        np.maximum(columns[i], columns[j], out=columns[j])
        columns[i], spare = spare, columns[i]
    for k in range(len(percentiles)):
        below, above = columns[lower[k]], columns[upper[k]]
        out[:, 2 + k] = below + (above - below) * fraction[k]


def _positions(size: int, percentiles: Sequence[int], dtype: np.dtype) -> tuple[list[int], list[int], np.ndarray]:
    """Between which two ranks each percentile lies, and how far from the lower one."""
    places = [percentile / 100 * (size - 1) for percentile in percentiles]
    lower = [math.floor(place) for place in places]
    upper = [min(rank + 1, size - 1) for rank in lower]
    return lower, upper, np.asarray([place - rank for place, rank in zip(places, lower, strict=True)], dtype=dtype)


@cache
def _sorting_network(size: int) -> tuple[tuple[int, int], ...]:
    """Which pairs to compare, in order, to sort that many numbers: Batcher's merge exchange (Knuth, volume 3, 5.2.2)."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    p = top
    while p and size > 1:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(pairs)
