"""Kendall's tau of many resamples at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Rows that others are compared with at a time: what is looked at stays in the cache.
_COLUMNS = 16_384

#: Numbers that are held at once, of each of a few arrays: 16 MB.
_VALUES = 2_000_000


def resampled_tau(truth: np.ndarray, predicted: np.ndarray, model: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each resample, in which the rows of a model occur as often as it was drawn.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n_rows,)
        What is compared.
    model : ndarray of int, shape (n_rows,)
        Number of each row's model.
    counts : ndarray of shape (n_resamples, n_models)
        How often each model was drawn.

    Returns
    -------
    ndarray of shape (n_resamples,)
        NaN where one of the two does not vary.

    Notes
    -----
    Tau is the number of pairs in the right order, less those in the wrong order, by the number of pairs that are no
    ties. How many more pairs of rows of two models are in the right order than in the wrong one is counted once; a
    resample then is a quadratic form in the counts. The time goes with the square of the rows, but comparing two of
    them takes a fraction of a nanosecond, and nothing is sorted for a resample.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.kendall import resampled_tau
    >>> resampled_tau(np.arange(3), np.array([0, 2, 1]), np.arange(3), np.array([[1, 1, 1], [2, 2, 0]])).round(3)
    array([0.333, 1.   ])
    """
    order = np.argsort(model, kind="stable")
    present, model = np.unique(model[order], return_inverse=True)
    counts = np.ascontiguousarray(counts[:, present], dtype=np.float64)
    x, y = (np.unique(values[order], return_inverse=True)[1].astype(np.int32) for values in (truth, predicted))
    n_rows = np.bincount(model)
    n_drawn = counts @ n_rows
    # What is added up below are whole numbers up to this: single precision is exact, and twice as fast.
    single = n_rows.max() * n_drawn.max() < 1 << 24
    times = counts.astype(np.float32) if single else counts
    right_less_wrong = np.zeros(len(counts))
    for first, block in _agreements(x, y, model):
        # Of models that come later each pair was counted once, of the same model twice.
        n = np.arange(len(block))
        block[n, first + n] /= 2
        of_each = times[:, first:] @ block[:, first:].T.astype(times.dtype)
        right_less_wrong += 2 * np.einsum("ij,ij->i", counts[:, first : first + len(block)], of_each, dtype=np.float64)
    x_differs, y_differs = (n_drawn**2 - _squares(ranks, model, counts) for ranks in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        result = right_less_wrong / np.sqrt(x_differs * y_differs)
    return np.where(np.isfinite(result), result, np.nan)


def _agreements(x: np.ndarray, y: np.ndarray, model: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """For some models at a time: pairs in the right order less pairs in the wrong order, with each later model."""
    starts = np.flatnonzero(np.r_[True, model[1:] != model[:-1]])
    ends = np.r_[starts[1:], len(model)]
    n_at_once = max(1, _VALUES // len(starts))
    for first in range(0, len(starts), n_at_once):
        block = np.zeros((min(n_at_once, len(starts) - first), len(starts)))
        for i, number in enumerate(range(first, first + len(block))):
            for left in range(starts[number], len(model), _COLUMNS):
                part = slice(left, left + _COLUMNS)
                sums = _compared(x[starts[number] : ends[number]], y[starts[number] : ends[number]], x[part], y[part])
                inside = np.unique(model[part], return_index=True)
                block[i, inside[0]] += np.add.reduceat(sums, inside[1])
        yield first, block


def _compared(x: np.ndarray, y: np.ndarray, other_x: np.ndarray, other_y: np.ndarray) -> np.ndarray:
    """For each of the others: how many rows it is in the right order with, less those in the wrong one."""
    total, part = np.zeros(len(other_x), dtype=np.int64), np.zeros(len(other_x), dtype=np.int8)
    higher, lower, sign = (np.empty(len(other_x), dtype=np.int8) for _ in range(3))
    for i in range(len(x)):
        np.greater(other_x, x[i], out=higher.view(bool))
        np.less(other_x, x[i], out=lower.view(bool))
        np.subtract(higher, lower, out=sign)
        np.greater(other_y, y[i], out=higher.view(bool))
        np.less(other_y, y[i], out=lower.view(bool))
        np.subtract(higher, lower, out=higher)
        np.multiply(sign, higher, out=sign)
        np.add(part, sign, out=part)
        if i % 127 == 126 or i == len(x) - 1:  # before a sum could leave what fits into a byte
            total += part
            part[:] = 0
    return total


def _squares(ranks: np.ndarray, model: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of each resample, the number of ordered pairs of rows with the same rank, each row with itself included."""
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.diff(ranks[order], prepend=-1))
    result = np.empty(len(counts))
    step = max(1, _VALUES // len(model))
    for start in range(0, len(counts), step):
        together = np.add.reduceat(counts[start : start + step, model[order]], starts, axis=1)
        result[start : start + step] = np.einsum("ij,ij->i", together, together)
    return result
