"""The networks that are sparsified: chains of layers, many of them at once, and any others as torch modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from zoobench.generators.architectures import first_unit
from zoobench.generators.chains import Chain, is_chain
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.noisy_ops import conv2d_moments
from zoobench.generators.stacked_ops import linear
from zoobench.layers import TensorSpec
from zoobench.layout import WeightLayout

#: Gives standard normal noise of a shape, whose first axis is that of the models.
Noise = Callable[[torch.Size], torch.Tensor]

#: Keeps the square root of a variance of zero differentiable.
TINY = 1e-15

#: Images of all models of a chain together that are evaluated at once.
_IMAGES_A_CALL = 5_000


@dataclass(frozen=True)
class TwinChunk:
    """Models that are sparsified together.

    Attributes
    ----------
    names : tuple of str
        The models' names: their random numbers come from them.
    weights : ndarray of shape (n_models, n_weights), float32
        Where they start.
    layout : WeightLayout
        Of the weights.
    shared : dict
        What they have in common: ``activation``, ``optimizer``, ``batch_size``.
    own : dict of str to tuple of float
        A value for each model: ``lr``, ``weight_decay``, ``dropout``, ``momentum``.
    origin : dict
        Of a registered architecture: its name as ``architecture``, and the zoo's ``dataset``.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    layout: WeightLayout
    shared: dict[str, Any]
    own: dict[str, tuple[float, ...]]
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """Name of the networks' architecture."""
        return str(self.origin.get("architecture", self.layout.architecture))

    @property
    def is_chain(self) -> bool:
        """Whether :class:`ChainNetwork` computes the networks."""
        return is_chain(self.architecture)


@dataclass(frozen=True)
class PrunableLayer:
    """A layer whose weights may become zero.

    Attributes
    ----------
    kind : {"conv", "linear"}
        What it computes.
    weight : TensorSpec
        Its weights, among all those of the network.
    bias : TensorSpec or None
        Its bias, which is not pruned, unless a method says so.
    """

    kind: str
    weight: TensorSpec
    bias: TensorSpec | None

    def weight_of(self, vectors: torch.Tensor) -> torch.Tensor:
        """The weights among those of (n_models, n_weights), with a leading axis of models."""
        return vectors[:, self.weight.slice].unflatten(1, self.weight.shape)


#: Variances of a layer's weight and, where it is noisy too, of its bias, each with a leading axis of models.
Variances = Sequence[torch.Tensor]


def pieces_of(layout: WeightLayout, vectors: torch.Tensor) -> list[torch.Tensor]:
    """The tensors of a layout in vectors of shape (n_models, n_weights), each of shape (n_models, size)."""
    # Split at once: the gradients of slices would each be as large as all weights.
    return list(vectors.split([tensor.size for tensor in layout.tensors], dim=1))


class TwinNetwork(Protocol):
    """The networks of a chunk, as functions of their weights.

    Attributes
    ----------
    layout : WeightLayout
        Of the weights.
    layers : tuple of PrunableLayer
        What may become zero.
    trained : Tensor of shape (n_weights,), bool
        Which weights an optimizer trains: all but the running statistics of normalisations.
    """

    layout: WeightLayout
    layers: tuple[PrunableLayer, ...]
    trained: torch.Tensor

    def randomness(self) -> AbstractContextManager[None]:
        """What training has to take place in."""

    def training(
        self,
        vectors: torch.Tensor,
        images: torch.Tensor,
        variances: Sequence[Variances] | None = None,
        noise: Noise | None = None,
    ) -> torch.Tensor:
        """Logits of a batch for each model, in training mode; with noise on each layer's output if there are any
        variances of the weights (local reparametrisation).
        """

    def logits(self, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits of images of shape (1, n_images, ...), the same for all models, in evaluation mode."""

    def after_step(self, n_images: int) -> None:
        """A step on so many images is done."""

    def after_epoch(self, vectors: torch.Tensor) -> None:
        """What training has changed besides the trained weights comes into the vectors, in place."""

    def images_a_call(self, image: torch.Tensor) -> int:
        """How many such images are evaluated at once."""


class ChainNetwork:
    """Chains of layers, all models of a chunk at once.

    Parameters
    ----------
    chunk : TwinChunk
        Networks that :class:`Chain` computes.
    seeds : sequence of int
        Of each model's stream of dropout.
    """

    def __init__(self, chunk: TwinChunk, seeds: Sequence[int]) -> None:
        self.chain = Chain(chunk.layout, chunk.shared["activation"])
        self.layout = chunk.layout
        self.layers = tuple(
            PrunableLayer("conv" if layer.kind == "conv2d" else "linear", layer.tensors[0], layer.tensors[1])
            for layer in chunk.layout.layers
        )
        self.trained = torch.ones(chunk.layout.n_weights, dtype=torch.bool)
        self._probabilities = chunk.own["dropout"]
        self._masks = [DropoutMasks(seed) for seed in seeds]

    def randomness(self) -> AbstractContextManager[None]:
        """Nothing: each model draws from streams of its own."""
        return nullcontext()

    def training(
        self,
        vectors: torch.Tensor,
        images: torch.Tensor,
        variances: Sequence[Variances] | None = None,
        noise: Noise | None = None,
    ) -> torch.Tensor:
        """Logits in training mode: see :class:`TwinNetwork`."""
        pieces = iter(pieces_of(self.layout, vectors))
        tensors = [[next(pieces).unflatten(1, t.shape) for t in layer.tensors] for layer in self.layout.layers]

        def plain(number: int, values: torch.Tensor) -> torch.Tensor:
            return self.chain.multiply(number, values, *tensors[number])

        def noisy(number: int, values: torch.Tensor) -> torch.Tensor:
            assert variances is not None
            assert noise is not None
            weight, bias = tensors[number]
            of_weight, *of_bias = variances[number]
            if weight.ndim == 5:
                mean, squares = conv2d_moments(values, weight, of_weight, stride=self.chain.stride)
                bias, of_bias = bias[:, None, :, None, None], [extra[:, None, :, None, None] for extra in of_bias]
            else:
                mean, squares = linear(values, weight), linear(values * values, of_weight)
                bias = bias[:, None]
            squares = squares + sum(of_bias, torch.tensor(TINY, device=squares.device))
            return torch.addcmul(mean + bias, squares.sqrt(), noise(mean.shape))

        drop = self._drop if any(self._probabilities) else None
        return self.chain.run(images, plain if variances is None else noisy, drop)

    def logits(self, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits in evaluation mode."""
        return self.chain.logits(vectors, images)

    def after_step(self, n_images: int) -> None:
        """Dropout goes on to the next images."""
        for masks in self._masks:
            masks.n_seen += n_images

    def after_epoch(self, vectors: torch.Tensor) -> None:
        """Nothing: all weights are trained."""

    def images_a_call(self, image: torch.Tensor) -> int:
        """How many images are evaluated at once."""
        return max(1, _IMAGES_A_CALL // len(self._masks))

    def _drop(self, number: int, values: torch.Tensor) -> torch.Tensor:
        first, n_units = first_unit(number), values[0, 0].numel()
        drawn = [
            masks.draw(p, values.shape[1], range(first, first + n_units))
            for masks, p in zip(self._masks, self._probabilities, strict=True)
        ]
        return values * torch.from_numpy(np.stack(drawn)).view(values.shape).to(values.device)
