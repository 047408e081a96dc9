"""Statistics of layers that are cut into tokens of one size and padded with zeros, as SANE's baseline has them."""

from __future__ import annotations

import numpy as np

from zoobench.layers import LayerSpec
from zoobench.layout import WeightLayout

PERCENTILES = (1, 25, 50, 75, 99)

#: States are copied and sorted in chunks of this many bytes.
_CHUNK_BYTES = 1 << 22


def token_layers(layout: WeightLayout) -> list[LayerSpec]:
    """The layers that become tokens: those with a weight, batch normalisation aside."""
    return [layer for layer in layout.layers if layer.weight and layer.weight.size and layer.kind != "batch_norm"]


def padding_of(layout: WeightLayout, token_size: int | None = None) -> dict[str, int]:
    """How many zeros each layer is padded with.

    Parameters
    ----------
    layout : WeightLayout
        Which columns belong to which layer.
    token_size : int, optional
        Numbers in a token. A row of a layer, the weights into one neuron and its bias, fills as many tokens as it
        needs, and zeros fill the last one. By default the longest row is one token.

    Returns
    -------
    dict of str to int
        For each layer that becomes tokens.

    Examples
    --------
    >>> from zoobench.estimators.padded_statistics import padding_of
    >>> from zoobench.layout import WeightLayout
    >>> tensors = [("a.weight", (4, 2), "linear"), ("a.bias", (4,), "linear"), ("b.weight", (2, 4), "linear")]
    >>> padding_of(WeightLayout(tensors))
    {'a': 4, 'b': 0}
    """
    layers = token_layers(layout)
    n_rows = {layer.name: layer.weight.shape[0] if layer.weight and layer.weight.shape else 1 for layer in layers}
    lengths = {layer.name: _size(layer) // n_rows[layer.name] for layer in layers}
    size = token_size or max(lengths.values())
    return {name: n_rows[name] * (-length % size) for name, length in lengths.items()}


def padded_statistics(X: np.ndarray, layout: WeightLayout, token_size: int | None = None) -> np.ndarray:
    """Mean, variance and percentiles of each layer's tokens, the zeros among them.

    Parameters
    ----------
    X : ndarray of shape (n_states, n_weights), float32 or float64
        Weight vectors; a memory map is read in chunks of states.
    layout : WeightLayout
        Which columns belong to which layer.
    token_size : int, optional
        See :func:`padding_of`.

    Returns
    -------
    ndarray of shape (n_states, 7 * n_layers), of the dtype of X
    """
    layers, padding = token_layers(layout), padding_of(layout, token_size)
    result = np.empty((len(X), len(layers), 2 + len(PERCENTILES)), dtype=X.dtype)
    for number, layer in enumerate(layers):
        step = max(1, _CHUNK_BYTES // (_size(layer) * X.itemsize))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            values = np.concatenate([X[rows, tensor.slice] for tensor in (layer.weight, layer.bias) if tensor], axis=1)
            result[rows, number] = _describe(values, padding[layer.name])
    return result.reshape(len(X), -1)


def _size(layer: LayerSpec) -> int:
    return sum(tensor.size for tensor in (layer.weight, layer.bias) if tensor)


def _describe(values: np.ndarray, n_zeros: int) -> np.ndarray:
    """Statistics of each row's numbers and as many more zeros, which are counted, not made."""
    n_all = values.shape[1] + n_zeros
    mean = values.sum(axis=1, dtype=np.float64) / n_all
    with np.errstate(invalid="ignore"):  # of infinite weights, which the caller refuses
        centred = values - mean[:, None]
        variance = (np.vecdot(centred, centred) + n_zeros * mean**2) / n_all
    ordered = np.sort(values, axis=1)
    n_negative = (ordered < 0).sum(axis=1)
    places = np.asarray(PERCENTILES) / 100 * (n_all - 1)
    lower = np.floor(places).astype(np.intp)
    below = _at_rank(ordered, lower, n_negative, n_zeros)
    above = _at_rank(ordered, np.minimum(lower + 1, n_all - 1), n_negative, n_zeros)
    with np.errstate(invalid="ignore"):
        quantiles = below + (above - below) * (places - lower)
    return np.concatenate([mean[:, None], variance[:, None], quantiles], axis=1)


def _at_rank(ordered: np.ndarray, ranks: np.ndarray, n_negative: np.ndarray, n_zeros: int) -> np.ndarray:
    """The numbers of some ranks in rows into which zeros were put behind the negative numbers."""
    behind = ranks >= n_negative[:, None] + n_zeros
    before = ranks < n_negative[:, None]
    places = np.select([before, behind], [ranks, ranks - n_zeros], default=0)
    return np.where(before | behind, np.take_along_axis(ordered, places, axis=1), 0)
