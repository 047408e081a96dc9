"""Statistics of states whose weights are so large that sums of their squares overflow."""

from __future__ import annotations

import numpy as np

from zoobench.layers import TensorSpec


def huge_statistics(states: np.ndarray, tensors: list[TensorSpec], percentiles: tuple[int, ...]) -> np.ndarray:
    """Mean, variance and percentiles of each tensor, in float64 and in units in which nothing overflows on the way.

    Parameters
    ----------
    states : ndarray of shape (n_states, n_weights)
        Finite weights; few states, of which all is copied.
    tensors : list of TensorSpec
        What is described.
    percentiles : tuple of int
        In percent.

    Returns
    -------
    ndarray of shape (n_tensors, 2 + n_percentiles, n_states), float64
        Infinite only where the statistic itself is more than float64 holds.
    """
    table = np.empty((len(tensors), 2 + len(percentiles), len(states)))
    for row, tensor in zip(table, tensors, strict=True):
        values = states[:, tensor.slice].astype(np.float64)
        unit = np.ldexp(0.5, np.frexp(np.abs(values).max(axis=1))[1])
        values /= unit[:, None]
        row[0], row[1] = values.mean(axis=1), values.var(axis=1) * unit
        row[2:] = np.percentile(values, percentiles, axis=1)
        row *= unit
    return table


def refuse_overflow(table: np.ndarray, owners: list[str], dtype: np.dtype, start: int) -> None:
    """Refuse statistics that the dtype cannot hold.

    Parameters
    ----------
    table : ndarray of shape (n_states, n_owners, n_statistics)
        Statistics of finite weights.
    owners : list of str
        Names of the tensors or layers.
    dtype : dtype
        Of the result.
    start : int
        Row of X of the first state.

    Raises
    ------
    ValueError
        If a number is not finite; the message names tensor, row and remedy.
    """
    beyond = np.argwhere(~np.isfinite(table).all(axis=2))
    if len(beyond):
        state, owner = beyond[0]
        larger = "give X as float64, or " if dtype == np.float32 else ""
        raise ValueError(
            f"the variance of {owners[owner]!r} in row {start + state} of X is more than {dtype} holds "
            f"({np.finfo(dtype).max:.1e}); {larger}leave such models out, as max_abs_weight of fetch_zoo does"
        )
