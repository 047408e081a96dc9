"""How alike models are, pair by pair: predictions, weights and representations, without a loop over pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

#: Rows of a block of pairs: two blocks and what is between them take tens of megabytes.
_ROWS = 1024

#: Entries of one operand of a product, 8 bytes each at most.
_ENTRIES = 4_000_000


class Spread(NamedTuple):
    """Mean and standard deviation over pairs, and how many pairs there are.

    Attributes
    ----------
    mean, std : float
        NaN where there is no pair. The standard deviation is that of the population of pairs.
    n : int
        Pairs that have a value.
    """

    mean: float
    std: float
    n: int


def agreement(predictions: np.ndarray) -> Spread:
    """Share of images on which two models choose the same class, over all pairs of models.

    Parameters
    ----------
    predictions : ndarray of shape (n_models, n_images), integer
        Classes from 0.

    Returns
    -------
    Spread

    Notes
    -----
    With classes written as vectors of zeros and a one, the number of images that two models agree on is a scalar
    product, and that of all pairs a matrix product.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.similarity import agreement
    >>> agreement(np.array([[0, 1, 2, 2], [0, 1, 2, 0], [0, 1, 1, 1]])).mean
    0.5833333333333334
    """
    n_models, n_images = predictions.shape
    n_classes = int(predictions.max()) + 1 if predictions.size else 1
    at_once = max(1, _ENTRIES // (min(n_models, _ROWS) * n_classes))
    moments = _Moments()
    for rows, columns, upper in _blocks(n_models):
        same = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
        for start in range(0, n_images, at_once):
            images = slice(start, start + at_once)
            # Counts below 2**24 are exact in float32.
            same += _one_hot(predictions[rows, images], n_classes) @ _one_hot(predictions[columns, images], n_classes).T
        moments.add(same[upper] / n_images)
    return moments.spread()


def weight_distances(weights: np.ndarray, columns: np.ndarray | slice = slice(None)) -> tuple[Spread, Spread]:
    """Distances between weight vectors, over all pairs of models.

    Parameters
    ----------
    weights : ndarray of shape (n_models, n_weights)
        May be a memory map.
    columns : ndarray of bool of shape (n_weights,), or slice
        Which weights count; all by default.

    Returns
    -------
    l2 : Spread
        ``||w_i - w_j||`` divided by the mean over all models of ``||w_i||``.
    cosine : Spread
        ``1 - w_i . w_j / (||w_i|| ||w_j||)``; pairs with a vector of zeros have none.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.similarity import weight_distances
    >>> l2, cosine = weight_distances(np.array([[1.0, 0.0], [0.0, 1.0]]))
    >>> round(l2.mean, 4), cosine.mean
    (1.4142, 1.0)
    """
    n_models, n_weights = weights.shape
    chosen = np.ones(n_weights, dtype=bool) if isinstance(columns, slice) else columns
    squares = np.zeros(n_models)
    for rows, part in _tiles(n_models, n_weights):
        block = np.asarray(weights[rows, part], dtype=np.float64)[:, chosen[part]]
        squares[rows] += np.vecdot(block, block)
    norms = np.sqrt(squares)
    mean_norm = float(norms.mean())
    distances, cosines = _Moments(), _Moments()
    for rows, others, upper in _blocks(n_models):
        # In float64: a distance that is small beside the norms loses its digits in float32.
        product = np.zeros((rows.stop - rows.start, others.stop - others.start))
        for _, part in _tiles(1, n_weights):
            left = np.asarray(weights[rows, part], dtype=np.float64)[:, chosen[part]]
            right = left if rows == others else np.asarray(weights[others, part], dtype=np.float64)[:, chosen[part]]
            product += left @ right.T
        squared = squares[rows, None] + squares[None, others] - 2 * product
        scale = norms[rows, None] * norms[None, others]
        with np.errstate(invalid="ignore", divide="ignore"):
            distances.add((np.sqrt(np.maximum(squared, 0)) / mean_norm)[upper])
            cosines.add(np.maximum(1 - product / scale, 0)[upper])
    return distances.spread(), cosines.spread()


def linear_cka(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Linear centred kernel alignment of pairs of representations of the same images.

    Parameters
    ----------
    first, second : ndarray of shape (n_pairs, n_images, n_features)
        One representation of each pair. Their numbers of features may differ.

    Returns
    -------
    ndarray of shape (n_pairs,), float64
        From 0 to 1, ``||B'A||^2 / (||A'A|| ||B'B||)`` with Frobenius norms, of features less their mean over the
        images [1]_. NaN where a representation is the same for all images.

    References
    ----------
    .. [1] Kornblith, S., Norouzi, M., Lee, H. and Hinton, G., "Similarity of Neural Network Representations Revisited",
       ICML 2019, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.similarity import linear_cka
    >>> A = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 5.0]])
    >>> turned = A @ np.array([[0.0, -3.0], [3.0, 0.0]])
    >>> linear_cka(A[None], turned[None]).round(6).tolist()
    [1.0]
    """
    a, b = (_centred(np.asarray(values, dtype=np.float64)) for values in (first, second))

    def squared_norm(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.square(left.swapaxes(1, 2) @ right).sum((1, 2))

    own_a, own_b = squared_norm(a, a), squared_norm(b, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((own_a > 0) & (own_b > 0), squared_norm(b, a) / np.sqrt(own_a * own_b), np.nan)


def draw_pairs(n_models: int, n_pairs: int, random_state: int | np.random.RandomState | None) -> np.ndarray:
    """Some pairs of different models, each at most once.

    Parameters
    ----------
    n_models : int
        Models to choose from.
    n_pairs : int
        Pairs to draw; all of them where there are no more.
    random_state : int, RandomState instance or None
        What draws.

    Returns
    -------
    ndarray of shape (n, 2), intp
        In ascending order, the smaller number first.

    Examples
    --------
    >>> from zoobench.benchmark.similarity import draw_pairs
    >>> draw_pairs(3, 10, 0).tolist()
    [[0, 1], [0, 2], [1, 2]]
    """
    from sklearn.utils.random import sample_without_replacement

    n_all = n_models * (n_models - 1) // 2
    if n_all <= n_pairs:
        return np.stack(np.triu_indices(n_models, 1), axis=1)
    drawn = np.sort(sample_without_replacement(n_all, n_pairs, random_state=random_state)).astype(np.intp)
    # Where each model's pairs with later ones begin, in the order of the upper triangle.
    starts = np.cumsum(np.arange(n_models - 1, 0, -1)) - np.arange(n_models - 1, 0, -1)
    first = np.searchsorted(starts, drawn, side="right") - 1
    return np.stack([first, first + 1 + drawn - starts[first]], axis=1)


def _one_hot(classes: np.ndarray, n_classes: int) -> np.ndarray:
    return (classes[:, :, None] == np.arange(n_classes)).reshape(len(classes), -1).astype(np.float32)


def _centred(values: np.ndarray) -> np.ndarray:
    # Less the first image before the mean, so that what is constant becomes exactly zero.
    moved = values - values[:, :1]
    return moved - moved.mean(1, keepdims=True)


def _blocks(n_models: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Blocks that hold each pair once: rows, columns, and which entries of the block are pairs."""
    starts = range(0, n_models, _ROWS)
    for i in starts:
        rows = slice(i, min(i + _ROWS, n_models))
        for j in starts:
            if j < i:
                continue
            columns = slice(j, min(j + _ROWS, n_models))
            yield rows, columns, np.arange(rows.start, rows.stop)[:, None] < np.arange(columns.start, columns.stop)


def _tiles(n_models: int, n_weights: int) -> Iterator[tuple[slice, slice]]:
    width = _ENTRIES // _ROWS
    for i in range(0, n_models, _ROWS):
        for j in range(0, n_weights, width):
            yield slice(i, min(i + _ROWS, n_models)), slice(j, min(j + width, n_weights))


class _Moments:
    """Running mean and sum of squared deviations, merged block by block (Chan, Golub and LeVeque, 1983)."""

    def __init__(self) -> None:
        self.n, self.mean, self.deviation = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        values = values[~np.isnan(values)]
        if not len(values):
            return
        mean = float(values.mean())
        shift, total = mean - self.mean, self.n + len(values)
        self.deviation += float(np.square(values - mean).sum()) + shift * shift * self.n * len(values) / total
        self.mean += shift * len(values) / total
        self.n = total

    def spread(self) -> Spread:
        if not self.n:
            return Spread(float("nan"), float("nan"), 0)
        return Spread(self.mean, float(np.sqrt(self.deviation / self.n)), self.n)


def spread_of(values: np.ndarray) -> Spread:
    """Mean and standard deviation of the values that are not NaN."""
    moments = _Moments()
    moments.add(values)
    return moments.spread()
