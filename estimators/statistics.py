"""Statistics of each layer's weights: the features that published work calls s(W)."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from numbers import Integral
from typing import Any, ClassVar, NamedTuple

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import assert_all_finite
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from zoobench.estimators.huge_statistics import huge_statistics, refuse_overflow
from zoobench.estimators.padded_statistics import PERCENTILES, padded_statistics, token_layers
from zoobench.layers import TensorSpec
from zoobench.layout import WeightLayout, resolve_layout

#: States are copied and sorted a few at a time, so that they stay in the second-level cache of one core.
_CACHE_BYTES = 1 << 20

#: That many states are turned into statistics at once, by one thread. Memory does not grow beyond that.
_CHUNK_STATES = 1024

#: Up to this many numbers a tensor, comparing whole columns beats sorting rows: a sort of eight numbers is nearly all
#: overhead.
_NETWORK_SIZE = 10


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

    Four different sets of features are called "weight statistics" in the literature; each is a preset here. In the
    order of the weight vector, each tensor yields its mean, its (population) variance and its percentiles by linear
    interpolation. Weights and biases are kept apart, except in ``"sane"``. What no optimizer trains, such as the
    running mean of a batch normalisation, is left out.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer that is all weight.
    preset : {"model_zoos", "unterthiner", "hyper_representations", "sane"}, default="model_zoos"
        - ``"model_zoos"``: percentiles 1, 25, 50, 75, 99 of weights and biases [1]_; 70 features for the CNNs there.
        - ``"unterthiner"``: percentiles 0, 25, 50, 75, 100 of weights and biases [2]_.
        - ``"hyper_representations"``: percentiles 1, 25, 50, 75, 99 of the weights only [3]_.
        - ``"sane"``: percentiles 1, 25, 50, 75, 99 of the tokens of each layer [4]_: the weights into a neuron and its
          bias, padded with zeros to the size of a token. The zeros count, so these numbers tell the size of the
          padding as well. Seven numbers a layer; batch normalisation is left out. SANE's tokens are standardised
          before, which a :class:`~zoobench.estimators.LayerScaler` in front does.
    token_size : int or None, default=None
        Numbers in a token of ``"sane"``; longer rows are cut into several. None takes the longest row of the layout,
        such as 289 for ``"cnn_l"``. For ResNet-18, [4]_ has 288.

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
    the number of states. Blocks are shared among as many threads as scikit-learn's own OpenMP code would start, which
    ``OMP_NUM_THREADS`` and threadpoolctl limit; in a worker of joblib, no more than its share of the cores. The result
    does not depend on how many there are.

    References
    ----------
    .. [1] Schürholt, K., et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS
       2022, section 4.
    .. [2] Unterthiner, T., et al., "Predicting Neural Network Accuracy from Weights", arXiv:2002.11448, section 3.
    .. [3] Schürholt, K., et al., "Self-Supervised Representation Learning on Neural Network Weights for Model
       Characteristic Prediction", NeurIPS 2021, section 4.
    .. [4] Schürholt, K., Mahoney, M. W. and Borth, D., "Towards Scalable and Versatile Weight Space Learning", ICML
       2024, and the code published with it.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "layout": [WeightLayout, str, None],
        "preset": [StrOptions({*_PRESETS, "sane"})],
        "token_size": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self, layout: WeightLayout | str | None = None, *, preset: str = "model_zoos", token_size: int | None = None
    ) -> None:
        self.layout = layout
        self.preset = preset
        self.token_size = token_size

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
        if not self._described(layout):
            roles = " or ".join(_PRESETS[self.preset].roles) if self.preset in _PRESETS else "weight"
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

        Raises
        ------
        ValueError
            If a weight is NaN or infinite, or a statistic is larger than the dtype of X holds.
        """
        check_is_fitted(self)
        # NaN and infinity show in the means, so that X need not be read twice.
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite=False, reset=False)
        if self.preset in _PRESETS:
            return layer_statistics(X, self.layout_, self.preset)
        with np.errstate(over="ignore", invalid="ignore"):
            result = padded_statistics(X, self.layout_, self.token_size)
            finite = np.isfinite(result).all()
            if not finite:
                assert_all_finite(X, estimator_name="WeightStatistics", input_name="X")
        if not finite:
            refuse_overflow(result.reshape(len(X), -1, 2 + len(PERCENTILES)), self._described(self.layout_), X.dtype, 0)
        return result

    def _described(self, layout: WeightLayout) -> list[str]:
        """Names of what yields features: tensors, or whole layers."""
        if self.preset in _PRESETS:
            return [tensor.name for tensor in described_tensors(layout, self.preset)]
        return [layer.name for layer in token_layers(layout)]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the statistics.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Only checked against the names that were seen in ``fit``.

        Returns
        -------
        ndarray of str
            Tensor and statistic, such as ``"module_list.0.weight_p25"``; with ``"sane"`` layer and statistic.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        percentiles = _PRESETS[self.preset].percentiles if self.preset in _PRESETS else PERCENTILES
        statistics = ["mean", "var", *(f"p{percentile}" for percentile in percentiles)]
        owners = self._described(self.layout_)
        return np.asarray([f"{owner}_{name}" for owner in owners for name in statistics], dtype=object)

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
        values are interpolated in float64. Slower. A ridge regression with a penalty of 1e-5 amplifies the last
        digits of its features by orders of magnitude, so results that others computed with numpy's rounding can only
        be met to 1e-6 with the same rounding.

    Returns
    -------
    ndarray of shape (n_states, n_features_out)
        Of the dtype of X, or float64 if ``exact``.

    Raises
    ------
    ValueError
        If a weight is NaN or infinite, or a statistic is larger than the dtype of the result holds.
    """
    percentiles = _PRESETS[preset].percentiles
    tensors = described_tensors(layout, preset)
    dtype = np.dtype(np.float64) if exact else X.dtype
    result = np.empty((len(X), len(tensors), 2 + len(percentiles)), dtype=dtype)
    places = [_places(tensor.size, percentiles, dtype) for tensor in tensors]
    small = [i for i, tensor in enumerate(tensors) if tensor.size <= _NETWORK_SIZE and not exact]
    large = [i for i in range(len(tensors)) if i not in small]
    # Of a state whose large tensors are sorted, only some numbers are needed: two ranks a percentile, and all of the
    # small tensors.
    nearer = [tensors[i].start + rank for i in large for rank in places[i].nearer]
    farther = [tensors[i].start + rank for i in large for rank in places[i].farther]
    columns = nearer + farther + [column for i in small for column in range(tensors[i].start, tensors[i].slice.stop)]
    weights = np.concatenate([np.empty(0, dtype), *(places[i].weight for i in large)])[:, None]

    def describe(start: int) -> None:
        chunk = X[start : start + _CHUNK_STATES]
        # One statistic a row while it is computed: operations on whole columns of the result would stride over memory.
        table = np.empty((len(tensors), 2 + len(percentiles), len(chunk)), dtype=dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            numbers, moments = _sort_states(chunk, [tensors[i] for i in large], np.asarray(columns, np.intp), exact)
            near, far, few = np.split(numbers, [len(nearer), 2 * len(nearer)])
            quantiles = (far - near) * weights
            quantiles += near
            table[large, :2], table[large, 2:] = moments, quantiles.reshape(len(large), len(percentiles), len(chunk))
            for i in small:
                _describe_few(few[: tensors[i].size], places[i], out=table[i])
                few = few[tensors[i].size :]
        beyond = np.flatnonzero(~np.isfinite(table).all(axis=(0, 1)))
        if beyond.size:
            states, found = chunk[beyond], table[:, :, beyond]
            with np.errstate(over="ignore", invalid="ignore"):
                assert_all_finite(states, estimator_name="WeightStatistics", input_name="X")
                scaled = huge_statistics(states, tensors, percentiles).astype(dtype)
            table[:, :, beyond] = np.where(np.isfinite(found), found, scaled)
            refuse_overflow(table.transpose(2, 0, 1), [tensor.name for tensor in tensors], dtype, start)
        result[start : start + len(chunk)] = table.transpose(2, 0, 1)

    # Sorting lets other threads run. What a chunk is does not depend on their number, so neither does the result.
    starts = range(0, len(X), _CHUNK_STATES)
    with ThreadPoolExecutor(max(1, min(len(starts), _n_threads()))) as threads:
        list(threads.map(describe, starts))
    return result.reshape(len(X), -1)


def _n_threads() -> int:
    """As many threads as cores that are this thread's to use."""
    backend, _ = get_active_backend()
    # Worker processes that share cores are told how many by joblib, in OMP_NUM_THREADS. Threads and daemons are not.
    is_main = threading.current_thread() is threading.main_thread() and not multiprocessing.current_process().daemon
    return int(_openmp_effective_n_threads()) if is_main or not backend.nesting_level else 1


class _Places(NamedTuple):
    """Between which two ranks of sorted numbers each percentile lies, and how far from the nearer one."""

    nearer: np.ndarray
    farther: np.ndarray
    weight: np.ndarray


def _places(size: int, percentiles: tuple[int, ...], dtype: np.dtype) -> _Places:
    exact = np.asarray(percentiles) / 100 * (size - 1)
    lower = np.floor(exact).astype(np.intp)
    upper, fraction = np.minimum(lower + 1, size - 1), exact - lower
    # From the nearer rank, as numpy.percentile does: it differs in the last digit.
    up = fraction >= 0.5
    weight = np.where(up, 1 - fraction, fraction).astype(dtype)
    return _Places(np.where(up, upper, lower), np.where(up, lower, upper), weight)


def _sort_states(
    chunk: np.ndarray, tensors: list[TensorSpec], columns: np.ndarray, exact: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Some columns of the states after each tensor was sorted, as rows, and each tensor's means and variances."""
    n_states, n_weights = chunk.shape
    numbers = np.empty((n_states, len(columns)), dtype=chunk.dtype)
    moments = np.empty((len(tensors), 2, n_states), dtype=chunk.dtype)
    ones = np.ones(max((tensor.size for tensor in tensors), default=0), dtype=chunk.dtype)
    step = max(1, _CACHE_BYTES // (n_weights * chunk.itemsize))
    scratch = np.empty((min(step, n_states), n_weights), dtype=chunk.dtype)
    for start in range(0, n_states, step):
        stop = min(start + step, n_states)
        states = scratch[: stop - start]
        np.copyto(states, chunk[start:stop])
        for tensor, (first, second) in zip(tensors, moments[:, :, start:stop], strict=True):
            values = states[:, tensor.slice]
            if exact:
                values.mean(axis=1, out=first)
                values.var(axis=1, out=second)
            else:
                np.matmul(values, ones[: tensor.size], out=first)
                np.vecdot(values, values, out=second)
            values.sort(axis=1)
        np.take(states, columns, axis=1, out=numbers[start:stop], mode="clip")
    if not exact:
        _sums_to_moments(chunk, tensors, moments)
    return np.ascontiguousarray(numbers.T), moments


def _sums_to_moments(chunk: np.ndarray, tensors: list[TensorSpec], moments: np.ndarray) -> None:
    """Mean and variance from the sums of numbers and of squares, in place."""
    for tensor, (mean, variance) in zip(tensors, moments, strict=True):
        mean /= tensor.size
        variance /= tensor.size
        square = variance.copy()
        variance -= mean * mean
        # Where the mean is far from zero, that difference has lost digits: a second pass over those states.
        lost = np.flatnonzero(~(2 * variance > square))
        if lost.size:
            centred = chunk[lost, tensor.slice] - mean[lost, None]
            variance[lost] = np.vecdot(centred, centred) / tensor.size


def _describe_few(numbers: np.ndarray, place: _Places, out: np.ndarray) -> None:
    """Statistics of a few numbers, one state a column, by comparing whole rows in the order of a sorting network."""
    np.divide(numbers.sum(axis=0), len(numbers), out=out[0])
    centred = numbers - out[0]
    np.divide((centred * centred).sum(axis=0), len(numbers), out=out[1])
    rows, spare = list(numbers), np.empty_like(numbers[0])
    for i, j in _sorting_network(len(rows)):
        np.minimum(rows[i], rows[j], out=spare)
        np.maximum(rows[i], rows[j], out=rows[j])
        rows[i], spare = spare, rows[i]
    for quantile, near, far, weight in zip(out[2:], *place, strict=True):
        np.subtract(rows[far], rows[near], out=quantile)
        quantile *= weight
        quantile += rows[near]


@cache
def _sorting_network(size: int) -> tuple[tuple[int, int], ...]:
    """Which pairs to compare, in order, to sort that many numbers: Batcher's merge exchange (Knuth, vol. 3, 5.2.2)."""
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (size - 1).bit_length() - 1)
    p = top if size > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(size - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return tuple(pairs)
