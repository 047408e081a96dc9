"""Which part of a weight vector belongs to which layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoobench.architecture_shapes import VARIANTS, find_form, tensors_of
from zoobench.errors import ZooFormatError
from zoobench.index_dict import read_index_dict, write_index_dict
from zoobench.layers import LayerSpec, TensorSpec, choose_tensors


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
        cls,
        name: str,
        *,
        channels: int | None = None,
        n_classes: int | None = None,
        buffers: bool | None = None,
        n_weights: int | None = None,
    ) -> WeightLayout:
        """Layout of a named architecture.

        Parameters
        ----------
        name : {"cnn_s", "cnn_l", "resnet18", "small_cnn"}
            The architecture.
        channels : int, optional
            Image channels. By default the architecture's first: 1 for ``"cnn_s"`` and ``"small_cnn"``, 3 for the
            others.
        n_classes : int, optional
            Outputs: 10 by default; ``"resnet18"`` has 100 and 200 as well.
        buffers : bool, optional
            Whether the running statistics of batch normalisation are in the vector, as in a state_dict, which is the
            default. The architectures without batch normalisation have none either way.
        n_weights : int, optional
            Choose among the forms by the length of the weight vector instead.

        Returns
        -------
        WeightLayout

        Raises
        ------
        ValueError
            For an unknown name, or where no form of the architecture is as asked for.

        Examples
        --------
        >>> from zoobench import WeightLayout
        >>> WeightLayout.from_architecture("resnet18", n_weights=11_220_132).layers[-1].weight.shape
        (100, 512)
        """
        form = find_form(name, channels=channels, n_classes=n_classes, buffers=buffers, n_weights=n_weights)
        return cls(tensors_of(name, form))

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
        return cls(read_index_dict(index_dict))

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
        return write_index_dict(self.layers)

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
        shapes = [tensor.shape for tensor in self.tensors]
        for name, forms in VARIANTS.items():
            for form in forms:
                tensors = tensors_of(name, form)
                if [shape for _, shape, _ in tensors] == shapes:
                    return name, WeightLayout(tensors)
        return None

    @property
    def n_parameters(self) -> int:
        """How many of the numbers were trained: all but the buffers of batch normalisation."""
        return sum(tensor.size for tensor in self.tensors if not tensor.is_buffer)

    def mask(self, *, kinds: Sequence[str] | None = None, roles: Sequence[str] | None = None) -> np.ndarray:
        """Which columns of the weight matrix belong to tensors of some kinds and roles.

        Parameters
        ----------
        kinds : sequence of str, optional
            Kinds of layers, such as ``["conv2d", "linear"]``; all by default.
        roles : sequence of str, optional
            Roles of tensors, such as ``["weight", "bias"]``, which leaves out buffers; all by default.

        Returns
        -------
        ndarray of shape (n_weights,), bool

        Raises
        ------
        ValueError
            If the layout has no layer of a kind, or no tensor of a role, that is asked for.

        Examples
        --------
        >>> from zoobench import WeightLayout
        >>> layout = WeightLayout.from_architecture("resnet18")
        >>> int(layout.mask(roles=["weight", "bias"]).sum()), layout.n_weights
        (11173962, 11183582)
        """
        chosen = set(choose_tensors(self.tensors, kinds, roles))
        return np.repeat([tensor in chosen for tensor in self.tensors], [tensor.size for tensor in self.tensors])

    def restricted(self, *, kinds: Sequence[str] | None = None, roles: Sequence[str] | None = None) -> WeightLayout:
        """The layout of the columns that :meth:`mask` chooses.

        Parameters
        ----------
        kinds, roles : sequence of str, optional
            See :meth:`mask`.

        Returns
        -------
        WeightLayout

        Raises
        ------
        ValueError
            As :meth:`mask`, and where no tensor is of both.

        Examples
        --------
        >>> from zoobench import WeightLayout
        >>> WeightLayout.from_architecture("resnet18").restricted(roles=["weight", "bias"])
        WeightLayout(resnet18, 41 layers, 11173962 weights)
        """
        return WeightLayout(
            (tensor.name, tensor.shape, tensor.kind) for tensor in choose_tensors(self.tensors, kinds, roles)
        )

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


def _kind_of(roles: Mapping[str, int]) -> str:
    if "running_mean" in roles:
        return "batch_norm"
    return {4: "conv2d", 2: "linear", 1: "norm"}.get(roles.get("weight", -1), "other")
