"""The ``index_dict.json`` beside the published zoos: where each layer lies in their weight vectors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoobench.errors import ZooFormatError

if TYPE_CHECKING:
    from zoobench.layers import LayerSpec

_KEYS = ("layer", "idx_start", "idx_length", "kernel_no", "kernel_size", "channels_in")

#: Our kind of a layer -> the kind that the format writes.
_KINDS = {"conv2d": "conv2d", "linear": "fc"}


def read_index_dict(index_dict: Mapping[str, Any]) -> list[tuple[str, Sequence[int], str]]:
    """Name, shape and kind of every tensor that an index_dict describes, in order.

    Parameters
    ----------
    index_dict : mapping
        See :meth:`zoobench.WeightLayout.from_index_dict`.

    Returns
    -------
    list of (str, tuple of int, str)

    Raises
    ------
    ZooFormatError
        If a key is missing, or the entries of a layer contradict each other.
    """
    missing = [key for key in _KEYS if key not in index_dict]
    if missing:
        raise ZooFormatError(f"the index_dict lacks {', '.join(missing)}; it needs {', '.join(_KEYS)}")
    columns = [index_dict[key] for key in _KEYS]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise ZooFormatError(f"{', '.join(_KEYS)} of the index_dict must be lists with one entry a layer")
    tensors: list[tuple[str, Sequence[int], str]] = []
    position = 0
    for layer, start, length, out, taps, channels in zip(*columns, strict=True):
        try:
            index, kind = layer
            counts = [int(start), int(length), int(out), int(taps), int(channels)]
        except (TypeError, ValueError) as error:
            raise ZooFormatError(f"layer {layer!r} of the index_dict is not [number, kind] with counts") from error
        if min(counts) < 0 or start != position or length != out * (channels * taps + 1):
            raise ZooFormatError(
                f"layer {index} of the index_dict starts at {start} with {length} weights, but {out} x {channels} x "
                f"{taps} weights and {out} biases from {position} were expected"
            )
        side = math.isqrt(taps)
        if kind == "conv2d" and side * side != taps:
            raise ZooFormatError(f"layer {index} of the index_dict has {taps} taps, which is no square kernel")
        shape = (out, channels, side, side) if kind == "conv2d" else (out, channels * taps)
        ours = "conv2d" if kind == "conv2d" else "linear"
        tensors += [(f"module_list.{index}.weight", shape, ours), (f"module_list.{index}.bias", (out,), ours)]
        position += length
    return tensors


def write_index_dict(layers: Iterable[LayerSpec]) -> dict[str, list[Any]]:
    """Layers in the form of an index_dict.

    Parameters
    ----------
    layers : iterable of LayerSpec
        In the order of the weight vector.

    Returns
    -------
    dict of str to list
        A linear layer behind a convolution is written as positions x channels, as the authors do.

    Raises
    ------
    ValueError
        If a layer is neither convolution nor linear with weight and bias, which the format cannot express.
    """
    result: dict[str, list[Any]] = {key: [] for key in _KEYS}
    channels_before = 0
    for position, layer in enumerate(layers):
        weight, bias = layer.weight, layer.bias
        square = layer.kind != "conv2d" or (weight is not None and weight.shape[2] == weight.shape[3])
        if layer.kind not in _KINDS or weight is None or bias is None or not square:
            raise ValueError(f"an index_dict cannot express layer {layer.name!r} of kind {layer.kind!r}")
        out, inputs = weight.shape[0], weight.size // weight.shape[0]
        if layer.kind == "conv2d":
            channels, channels_before = weight.shape[1], out
        else:
            flattened = channels_before > 0 and inputs % channels_before == 0
            channels, channels_before = channels_before if flattened else inputs, 0
        tail = layer.name.rpartition(".")[2]
        entry = ([int(tail) if tail.isdigit() else position, _KINDS[layer.kind]], layer.slice.start)
        for key, value in zip(_KEYS, (*entry, layer.size, out, inputs // channels, channels), strict=True):
            result[key].append(value)
    return result
