"""Tensors and layers of a network, and their places in its weight vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Roles of the tensors of a batch normalisation that an optimizer trains; its others are buffers.
PARAMETER_ROLES = ("weight", "bias")


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

    @property
    def is_buffer(self) -> bool:
        """Whether it was counted in training, not trained: the running statistics of batch normalisation."""
        return self.kind == "batch_norm" and self.role not in PARAMETER_ROLES


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

    @property
    def size(self) -> int:
        """How many numbers the layer holds."""
        return sum(tensor.size for tensor in self.tensors)

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


def choose_tensors(
    tensors: Sequence[TensorSpec], kinds: Sequence[str] | None, roles: Sequence[str] | None
) -> list[TensorSpec]:
    """Those tensors that are of some kinds and roles; None stands for all.

    Raises
    ------
    ValueError
        If there is no tensor of a kind or role that is asked for.
    """
    chosen = list(tensors)
    for name, wanted in (("kind", kinds), ("role", roles)):
        if wanted is None:
            continue
        if isinstance(wanted, str):
            raise ValueError(f"{name}s must be a sequence such as [{wanted!r}], not {wanted!r}")
        known = dict.fromkeys(getattr(tensor, name) for tensor in tensors)
        unknown = [value for value in wanted if value not in known]
        if unknown:
            raise ValueError(f"the layout has no {name} {unknown[0]!r}; it has {', '.join(known)}")
        chosen = [tensor for tensor in chosen if getattr(tensor, name) in wanted]
    return chosen
