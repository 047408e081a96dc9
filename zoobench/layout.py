"""Which part of a weight vector belongs to which layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zoobench.errors import ZooFormatError

#: Roles of tensors that an optimizer trains; everything else is a buffer.
PARAMETER_ROLES = ("weight", "bias")

#: The named architectures as plain data: layer name, kind, and shape of the weight. Every layer has a bias of
#: ``shape[0]``. ``C`` stands for the number of image channels. Model Zoos (NeurIPS 2022), section 3 and appendix.
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "cnn_s": {
        "channels": (1, 3),
        "layers": (
            ("module_list.0", "conv2d", (8, "C", 5, 5)),
            ("module_list.3", "conv2d", (6, 8, 5, 5)),
            ("module_list.6", "conv2d", (4, 6, 2, 2)),
            ("module_list.9", "linear", (20, 36)),
            ("module_list.11", "linear", (10, 20)),
        ),
    },
    "cnn_l": {
        "channels": (3,),
        "layers": (
            ("module_list.0", "conv2d", (16, "C", 3, 3)),
            ("module_list.4", "conv2d", (32, 16, 3, 3)),
            ("module_list.8", "conv2d", (15, 32, 3, 3)),
            ("module_list.13", "linear", (20, 60)),
            ("module_list.16", "linear", (10, 20)),
        ),
    },
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a network and its place in the weight vector.

    Attributes
    ----------
    name : str
        Key in the state_dict, such as ``"module_list.0.weight"``.
    shape : tuple of int
        Shape of the tensor.
    kind : str
        Kind of the layer that owns it: ``"conv2d"``, ``"linear"``, ``"batch_norm"``, ``"norm"`` or ``"other"``.
    start : int
        Position of its first number in the weight vector.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    start: int

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def slice(self) -> slice:
        """Its part of the weight vector."""
        return slice(self.start, self.start + self.size)

    @property
    def layer(self) -> str:
        """Name of the layer that owns it."""
        return self.name.rpartition(".")[0]

    @property
    def role(self) -> str:
        """What it is to its layer: ``"weight"``, ``"bias"``, ``"running_mean"``, ..."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class LayerSpec:
    """One layer: neighbouring tensors of one module.

    Attributes
    ----------
    name : str
        The module's name, such as ``"module_list.0"``.
    kind : str
        ``"conv2d"``, ``"linear"``, ``"batch_norm"``, ``"norm"`` or ``"other"``.
    tensors : tuple of TensorSpec
        Its tensors, in the order of the weight vector.
    """

    name: str
    kind: str
    tensors: tuple[TensorSpec, ...]

    @property
    def slice(self) -> slice:
        """The layer's part of the weight vector."""
        return slice(self.tensors[0].start, self.tensors[-1].slice.stop)

    def part(self, role: str) -> TensorSpec | None:
        """The tensor of that role, or None if the layer has none."""
        return next((tensor for tensor in self.tensors if tensor.role == role), None)

    @property
    def weight(self) -> TensorSpec | None:
        """The layer's weight tensor, if it has one."""
        return self.part("weight")

    @property
    def bias(self) -> TensorSpec | None:
        """The layer's bias tensor, if it has one."""
        return self.part("bias")


class WeightLayout:
    """Which part of a weight vector belongs to which layer.

    A weight vector is a network's tensors, flattened in row-major order and joined in the order of its
    state_dict. A layout turns such vectors into named tensors and back.

    Parameters
    ----------
    tensors : iterable of (name, shape, kind)
        The tensors in order. ``kind`` is the kind of the layer that owns the tensor.

    Attributes
    ----------
    tensors : tuple of TensorSpec
        Every tensor with its place in the vector.
    layers : tuple of LayerSpec
        The tensors grouped by the module that owns them.
    n_weights : int
        Length of the weight vector.

    Examples
    --------
    >>> from zoobench import WeightLayout
    >>> layout = WeightLayout.from_architecture("cnn_s")
    >>> layout
    WeightLayout(cnn_s, 5 layers, 2464 weights)
    >>> [(layer.name, layer.kind, layer.slice) for layer in layout.layers][:2]
    [('module_list.0', 'conv2d', slice(0, 208, None)), ('module_list.3', 'conv2d', slice(208, 1414, None))]
    >>> layout.layers[0].bias.slice
    slice(200, 208, None)
    """

    def __init__(self, tensors: Iterable[tuple[str, Sequence[int], str]]) -> None:
        specs: list[TensorSpec] = []
        start = 0
        for name, shape, kind in tensors:
            spec = TensorSpec(str(name), tuple(int(n) for n in shape), str(kind), start)
            if any(n < 0 for n in spec.shape):
                raise ValueError(f"the shape of tensor {name!r} is {list(shape)}, but no side can be negative")
            specs.append(spec)
            start += spec.size
        if not specs:
            raise ValueError("a weight layout needs at least one tensor, and none was given")
        names = [spec.name for spec in specs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"tensor {twice!r} appears more than once in the layout; names must be unique")
        self.tensors = tuple(specs)
        self.n_weights = start

    # -- where layouts come from ---------------------------------------------------------------------------------

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> WeightLayout:
        """Layout of a state_dict, in its order.

        Parameters
        ----------
        state_dict : mapping of str to array or tensor
            Anything whose values have a ``shape``. A ``module.`` prefix (data parallel) is taken off the names.

        Returns
        -------
        WeightLayout
        """
        shapes = [(name.removeprefix("module."), tuple(value.shape)) for name, value in state_dict.items()]
        return cls.from_shapes(shapes)

    @classmethod
    def from_shapes(cls, shapes: Iterable[tuple[str, Sequence[int]]]) -> WeightLayout:
        """Layout of named shapes, the kind of each layer told from the tensors it owns.

        Parameters
        ----------
        shapes : iterable of (name, shape)
            In the order of the weight vector.

        Returns
        -------
        WeightLayout
        """
        shapes = list(shapes)
        owned: dict[str, dict[str, int]] = {}
        for name, shape in shapes:
            layer, _, role = name.rpartition(".")
            owned.setdefault(layer, {})[role] = len(shape)
        kinds = {layer: _kind_of(roles) for layer, roles in owned.items()}
        return cls((name, shape, kinds[name.rpartition(".")[0]]) for name, shape in shapes)

    @classmethod
    def from_architecture(
        cls, name: str, *, channels: int | None = None, n_weights: int | None = None
    ) -> WeightLayout:
        """Layout of a named architecture.

        Parameters
        ----------
        name : {"cnn_s", "cnn_l"}
            The architecture.
        channels : int, optional
            Image channels. By default the architecture's first: 1 for ``"cnn_s"``, 3 for ``"cnn_l"``.
        n_weights : int, optional
            Choose the number of channels by the length of the weight vector instead.

        Returns
        -------
        WeightLayout

        Raises
        ------
        ValueError
            For an unknown name, or where no variant has that many channels or weights.
        """
        if name not in _ARCHITECTURES:
            raise ValueError(f"unknown architecture {name!r}; known are {', '.join(sorted(_ARCHITECTURES))}")
        variants = {c: cls(_architecture_tensors(name, c)) for c in _ARCHITECTURES[name]["channels"]}
        if n_weights is not None:
            for layout in variants.values():
                if layout.n_weights == n_weights:
                    return layout
            sizes = " or ".join(f"{v.n_weights} ({c} channels)" for c, v in variants.items())
            raise ValueError(f"architecture {name!r} has {sizes} weights, but {n_weights} were given")
        if channels is None:
            return next(iter(variants.values()))
        if channels not in variants:
            known = " or ".join(str(c) for c in variants)
            raise ValueError(f"architecture {name!r} takes {known} image channels, not {channels!r}")
        return variants[channels]

    @classmethod
    def from_index_dict(cls, index_dict: Mapping[str, Any]) -> WeightLayout:
        """Layout from the ``index_dict.json`` that lies beside the published zoos.

        Parameters
        ----------
        index_dict : mapping
            Keys ``layer``, ``idx_start``, ``idx_length``, ``kernel_no``, ``kernel_size`` and ``channels_in``, each a
            list with an entry a layer.

        Returns
        -------
        WeightLayout

        Raises
        ------
        ZooFormatError
            If a key is missing, or the entries of a layer contradict each other.
        """
        keys = ("layer", "idx_start", "idx_length", "kernel_no", "kernel_size", "channels_in")
        missing = [key for key in keys if key not in index_dict]
        if missing:
            raise ZooFormatError(f"the index_dict lacks {', '.join(missing)}; it needs {', '.join(keys)}")
        if len({len(index_dict[key]) for key in keys}) != 1:
            raise ZooFormatError("the lists of the index_dict differ in length; each needs one entry a layer")
        tensors: list[tuple[str, Sequence[int], str]] = []
        position = 0
        for (index, kind), start, length, out, taps, channels in zip(
            *(index_dict[key] for key in keys), strict=True
        ):
            if start != position or length != out * (channels * taps + 1):
                raise ZooFormatError(
                    f"layer {index} of the index_dict starts at {start} with {length} weights, but "
                    f"{out} x {channels} x {taps} weights and {out} biases from {position} were expected"
                )
            side = math.isqrt(taps)
            if kind == "conv2d" and side * side != taps:
                raise ZooFormatError(f"layer {index} of the index_dict has {taps} taps, which is no square kernel")
            shape = (out, channels, side, side) if kind == "conv2d" else (out, channels * taps)
            name = f"module_list.{index}"
            kind = "conv2d" if kind == "conv2d" else "linear"
            tensors += [(f"{name}.weight", shape, kind), (f"{name}.bias", (out,), kind)]
            position += length
        return cls(tensors)

    def to_index_dict(self) -> dict[str, list[Any]]:
        """The layout in the form of a published ``index_dict.json``.

        Returns
        -------
        dict
            See :meth:`from_index_dict`. A linear layer behind a convolution is written as positions x channels.

        Raises
        ------
        ValueError
            If a layer is neither convolution nor linear with weight and bias, which that format cannot express.
        """
        result: dict[str, list[Any]] = {
            key: [] for key in ("layer", "idx_start", "idx_length", "kernel_no", "kernel_size", "channels_in")
        }
        channels_before: int | None = None
        for position, layer in enumerate(self.layers):
            weight, bias = layer.weight, layer.bias
            if layer.kind not in ("conv2d", "linear") or weight is None or bias is None:
                raise ValueError(f"an index_dict cannot express layer {layer.name!r} of kind {layer.kind!r}")
            tail = layer.name.rpartition(".")[2]
            out, inputs = weight.shape[0], weight.size // weight.shape[0]
            if layer.kind == "conv2d":
                channels, channels_before = weight.shape[1], out
            else:
                flattened = channels_before is not None and inputs % channels_before == 0
                channels = channels_before if flattened and channels_before else inputs
                channels_before = None
            result["layer"].append([int(tail) if tail.isdigit() else position, _INDEX_KINDS[layer.kind]])
            result["idx_start"].append(layer.slice.start)
            result["idx_length"].append(layer.slice.stop - layer.slice.start)
            result["kernel_no"].append(out)
            result["kernel_size"].append(inputs // channels)
            result["channels_in"].append(channels)
        return result

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WeightLayout:
        """Layout from :meth:`to_dict`'s form, which is what ``zoo.json`` holds."""
        try:
            return cls((name, shape, kind) for name, shape, kind in data["tensors"])
        except (KeyError, TypeError, ValueError) as error:
            raise ZooFormatError(f"not a weight layout: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The layout as plain data: ``{"tensors": [[name, shape, kind], ...]}``."""
        return {"tensors": [[t.name, list(t.shape), t.kind] for t in self.tensors]}

    # -- what it tells ---------------------------------------------------------------------------------------------

    @cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The tensors grouped by the module that owns them, in the order of the vector."""
        groups: list[list[TensorSpec]] = []
        for tensor in self.tensors:
            if groups and groups[-1][0].layer == tensor.layer:
                groups[-1].append(tensor)
            else:
                groups.append([tensor])
        return tuple(LayerSpec(group[0].layer, group[0].kind, tuple(group)) for group in groups)

    @cached_property
    def architecture(self) -> str | None:
        """Name of the architecture that has these shapes, whatever its tensors are called; None if none has."""
        match = self._recognised()
        return match[0] if match else None

    def canonical(self) -> WeightLayout:
        """The same shapes under the published names, where a named architecture has them; else itself."""
        match = self._recognised()
        return match[1] if match else self

    def _recognised(self) -> tuple[str, WeightLayout] | None:
        for name in _ARCHITECTURES:
            try:
                layout = WeightLayout.from_architecture(name, n_weights=self.n_weights)
            except ValueError:
                continue
            if [t.shape for t in layout.tensors] == [t.shape for t in self.tensors]:
                return name, layout
        return None

    def feature_names(self) -> list[str]:
        """One name a weight, such as ``"module_list.0.weight[0,0,4,4]"``. Built anew at each call: may be long."""
        names: list[str] = []
        for tensor in self.tensors:
            indices = np.ndindex(*tensor.shape)
            names += [f"{tensor.name}[{','.join(map(str, index))}]" for index in indices]
        return names

    # -- vectors to tensors and back ---------------------------------------------------------------------------------

    def flatten(self, state_dict: Mapping[str, Any]) -> np.ndarray:
        """Weight vector of a state_dict, taken by order, not by name.

        Parameters
        ----------
        state_dict : mapping of str to array or tensor
            One value a tensor of the layout, in its order and with its shapes; the names do not matter, because
            published checkpoints of one architecture differ in them.

        Returns
        -------
        ndarray of shape (n_weights,), float32

        Raises
        ------
        ValueError
            If the shapes are not those of the layout.
        """
        values = [np.asarray(value) for value in state_dict.values()]
        found = [value.shape for value in values]
        wanted = [tensor.shape for tensor in self.tensors]
        if found != wanted:
            raise ValueError(f"the tensors have shapes {found}, but the layout expects {wanted}")
        return np.concatenate([np.ravel(value) for value in values]).astype(np.float32, copy=False)

    def unflatten(self, vector: Any) -> dict[str, np.ndarray]:
        """Named tensors of a weight vector: views of it where that is possible.

        Parameters
        ----------
        vector : array-like of shape (n_weights,) or (n_states, n_weights)
            Several vectors at once yield tensors with a leading axis.

        Returns
        -------
        dict of str to ndarray

        Raises
        ------
        ValueError
            If the last axis is not ``n_weights`` long.
        """
        vector = np.asarray(vector)
        if vector.ndim not in (1, 2) or vector.shape[-1] != self.n_weights:
            raise ValueError(f"expected weight vectors of length {self.n_weights}, found shape {vector.shape}")
        lead = vector.shape[:-1]
        return {t.name: vector[..., t.slice].reshape(lead + t.shape) for t in self.tensors}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightLayout) and self.tensors == other.tensors

    def __hash__(self) -> int:
        return hash(self.tensors)

    def __repr__(self) -> str:
        name = f"{self.architecture}, " if self.architecture else ""
        return f"WeightLayout({name}{len(self.layers)} layers, {self.n_weights} weights)"


def resolve_layout(layout: WeightLayout | str | None, n_features: int) -> WeightLayout:
    """The layout that an estimator's ``layout`` parameter stands for.

    Parameters
    ----------
    layout : WeightLayout, str or None
        An architecture's name is resolved by the number of features; None means one layer that is all weight.
    n_features : int
        Columns of X.

    Returns
    -------
    WeightLayout

    Raises
    ------
    ValueError
        If the layout does not have that many weights.
    """
    if layout is None:
        return WeightLayout([("all.weight", (n_features,), "other")])
    if isinstance(layout, str):
        return WeightLayout.from_architecture(layout, n_weights=n_features)
    if not isinstance(layout, WeightLayout):
        raise TypeError(f"layout must be a WeightLayout, an architecture's name or None, not {layout!r}")
    if layout.n_weights != n_features:
        raise ValueError(f"the layout has {layout.n_weights} weights, but X has {n_features} features")
    return layout


_INDEX_KINDS = {"conv2d": "conv2d", "linear": "fc"}


def _kind_of(roles: Mapping[str, int]) -> str:
    if "running_mean" in roles:
        return "batch_norm"
    return {4: "conv2d", 2: "linear", 1: "norm"}.get(roles.get("weight", -1), "other")


def _architecture_tensors(name: str, channels: int) -> list[tuple[str, tuple[int, ...], str]]:
    tensors: list[tuple[str, tuple[int, ...], str]] = []
    for layer, kind, shape in _ARCHITECTURES[name]["layers"]:
        sizes = tuple(channels if side == "C" else side for side in shape)
        tensors += [(f"{layer}.weight", sizes, kind), (f"{layer}.bias", sizes[:1], kind)]
    return tensors
