"""How the layers of a layout are connected, as far as shapes and names tell."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple, NoReturn

from zoobench.layers import LayerSpec, TensorSpec
from zoobench.layout import WeightLayout

#: A layer of a residual block, under torchvision's names or those of other common code.
_MAIN = re.compile(r"(.*layer\d+\.\d+)\.(conv|bn)\d+")
_SHORTCUT = re.compile(r"(.*layer\d+\.\d+)\.(?:downsample|shortcut)\.\d+")
_BLOCK = re.compile(r"(.*layer\d+\.\d+)\..+")

_REMEDY = (
    "networks are understood that are chains of conv2d, linear and batch_norm layers in their order, or residual ones "
    "with torchvision's names; layout=None takes all weights as one layer, of which nothing is permuted"
)


class Axis(NamedTuple):
    """One side of a tensor: whose neurons it runs over, and how many there are."""

    space: str | None
    size: int


class _Space(NamedTuple):
    """The neurons or channels that a layer gives out."""

    name: str | None
    size: int
    is_map: bool


#: What the network takes in. It is never permuted, so nobody needs to know its size.
_INPUT = _Space(None, 0, False)

_ONE = Axis(None, 1)


def wire(layout: WeightLayout) -> dict[TensorSpec, tuple[Axis, Axis]]:
    """Over whose neurons the rows and the columns of each tensor run.

    Parameters
    ----------
    layout : WeightLayout
        Of a chain of layers or of a residual network.

    Returns
    -------
    dict of TensorSpec to (Axis, Axis)
        In the order of the layers; tensors without a permuted side may be missing. The space of an axis is None where
        it is not to be permuted.

    Raises
    ------
    ValueError
        If the layout cannot be understood; the message names the layer.
    """
    # Published checkpoints of one architecture differ in their names; shapes tell it where it is complete.
    named = layout.canonical()
    layers = _layers(named)
    walk = _Walk()
    for block, members in groupby(layers, key=_block_of):
        if block is None:
            for layer in members:
                walk.read(layer)
        else:
            walk.read_block(block, list(members))
    # What the last layer gives out is the network's output.
    output = walk.current.name
    own = dict(zip(named.tensors, layout.tensors, strict=True))
    return {own[tensor]: (_unless(row, output), _unless(column, output)) for tensor, (row, column) in walk.axes.items()}


def _unless(axis: Axis, output: str | None) -> Axis:
    return Axis(None, axis.size) if axis.space == output else axis


def _layers(layout: WeightLayout) -> list[LayerSpec]:
    """Tensors by layer, in the order of their first tensors: a layer's tensors need not be neighbours here."""
    owned: dict[str, list[TensorSpec]] = {}
    for tensor in layout.tensors:
        owned.setdefault(tensor.layer, []).append(tensor)
    return [LayerSpec(name, tensors[0].kind, tuple(tensors)) for name, tensors in owned.items()]


def _block_of(layer: LayerSpec) -> str | None:
    match = _BLOCK.fullmatch(layer.name)
    return match[1] if match else None


def _fail(layer: LayerSpec, found: str) -> NoReturn:
    raise ValueError(f"cannot tell which neurons of layer {layer.name!r} may be permuted: {found}; {_REMEDY}")


class _Walk:
    """Reads layers one after the other and keeps whose neurons come out of the last."""

    def __init__(self) -> None:
        self.current = _INPUT
        self.axes: dict[TensorSpec, tuple[Axis, Axis]] = {}

    def read(self, layer: LayerSpec, out: _Space | None = None) -> None:
        """Go through one layer; ``out`` are the neurons that it has to share with others, if it has to."""
        if layer.kind == "batch_norm":
            self._read_normalisation(layer)
        elif layer.kind in ("conv2d", "linear"):
            self._read_weights(layer, out)
        elif layer.kind == "norm":
            _fail(
                layer,
                "a normalisation without running statistics may work on groups of channels. If it does not, "
                "give its tensors the kind 'batch_norm' in the layout",
            )
        else:
            _fail(layer, f"it is of kind {layer.kind!r}")

    def read_block(self, block: str, layers: list[LayerSpec]) -> None:
        """Go through a residual block: what it adds to has the same order of neurons as what it adds."""
        stream = self.current
        main = [layer for layer in layers if _MAIN.fullmatch(layer.name)]
        shortcut = [layer for layer in layers if _SHORTCUT.fullmatch(layer.name)]
        strange = [layer for layer in layers if layer not in main + shortcut]
        if strange:
            _fail(strange[0], "a residual block of convN, bnN and downsample or shortcut has no place for it")
        convolutions = [layer for layer in main if layer.kind == "conv2d"]
        if len(convolutions) < 2:
            _fail(layers[0], f"{block!r} has {len(convolutions)} convolutions beside its shortcut, not 2 or more")
        # Without a convolution in the shortcut, the sum goes over the very neurons that came in.
        end = None if shortcut else stream
        for layer in main:
            self.read(layer, out=end if layer == convolutions[-1] else None)
        for layer in shortcut:
            if layer.kind == "conv2d":
                after, self.current = self.current, stream
                self.read(layer, out=after)
            else:
                self.read(layer)

    def _read_weights(self, layer: LayerSpec, out: _Space | None) -> None:
        strange = [tensor for tensor in layer.tensors if tensor.role not in ("weight", "bias")]
        if strange:
            _fail(layer, f"it has a tensor {strange[0].name!r}, where weight and bias were expected")
        weight, is_map = layer.weight, layer.kind == "conv2d"
        if weight is None or len(weight.shape) != (4 if is_map else 2):
            _fail(layer, f"it has {'no weight' if weight is None else f'a weight of shape {weight.shape}'}")
        n_out, n_in = weight.shape[:2]
        if out is not None and out.size != n_out and out is not _INPUT:
            _fail(layer, f"its {n_out} outputs are added to {out.size} others")
        source = self.current
        if source is not _INPUT:
            flattened = source.is_map and not is_map and source.size > 0 and n_in % source.size == 0
            if (n_in != source.size and not flattened) or (is_map and not source.is_map):
                _fail(layer, f"it takes {n_in} inputs, but the layer before gives {source.size}")
        made = _Space(layer.name, n_out, is_map) if out is None else out
        rows = Axis(made.name, n_out)
        self.axes[weight] = (rows, _ONE if source is _INPUT else Axis(source.name, source.size))
        if layer.bias is not None:
            if layer.bias.shape != (n_out,):
                _fail(layer, f"its bias has shape {layer.bias.shape}, not {(n_out,)}")
            self.axes[layer.bias] = (rows, _ONE)
        self.current = made

    def _read_normalisation(self, layer: LayerSpec) -> None:
        source = self.current
        if source is _INPUT:
            return
        for tensor in layer.tensors:
            if tensor.shape == ():
                continue  # the count of batches
            flattened = source.is_map and source.size > 0 and tensor.size % source.size == 0
            if len(tensor.shape) != 1 or (tensor.size != source.size and not flattened):
                _fail(layer, f"it normalises {tensor.size} values, but the layer before gives {source.size}")
            self.axes[tensor] = (Axis(source.name, source.size), _ONE)
