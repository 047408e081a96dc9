"""Networks that are a chain of layers, as operations on many weight vectors at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from zoobench.generators.architectures import FOLLOWERS, STRIDES
from zoobench.generators.stacked_ops import conv2d, linear, max_pool2d
from zoobench.layout import WeightLayout

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "gelu": functional.gelu,
}


class Chain:
    """The forward pass of many models of one architecture and activation.

    Parameters
    ----------
    layout : WeightLayout
        Of an architecture that :func:`is_chain` admits.
    activation : str
        The non-linearity of all models.

    Raises
    ------
    ValueError
        If the activation is unknown.
    """

    def __init__(self, layout: WeightLayout, activation: str) -> None:
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is unknown; known: {', '.join(ACTIVATIONS)}")
        architecture = str(layout.architecture)
        self.layout = layout
        self.activation = ACTIVATIONS[activation]
        self.followers = FOLLOWERS[architecture]
        self.stride = STRIDES.get(architecture, 1)

    def tensors(self, vectors: torch.Tensor) -> list[list[torch.Tensor]]:
        """Weight and bias of each layer, each with a leading axis of models; views of (n_models, n_weights)."""
        return [
            [vectors[:, tensor.slice].unflatten(1, tensor.shape) for tensor in layer.tensors]
            for layer in self.layout.layers
        ]

    def multiply(
        self, number: int, values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What the ``number``-th layer computes, with any weight and bias of its shapes."""
        if self.layout.layers[number].kind == "conv2d":
            return conv2d(values, weight, bias, stride=self.stride)
        return linear(values, weight, bias)

    def run(
        self,
        images: torch.Tensor,
        layer: Callable[[int, torch.Tensor], torch.Tensor],
        drop: Callable[[int, torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The chain with layers of the caller's own.

        Parameters
        ----------
        images : Tensor of shape (n_models, n_images, channels, height, width)
            A batch for each model; with a first axis of 1, the same batch for all.
        layer : callable
            Takes the layer's number and its input, and returns its output.
        drop : callable, optional
            What dropout does: takes the layer's number and the values behind it. Default: nothing.

        Returns
        -------
        Tensor of shape (n_models, n_images, n_classes)
            Logits.
        """
        values = images
        for number, roles in enumerate(self.followers):
            values = layer(number, values)
            for role in roles:
                if role == "pool":
                    values = max_pool2d(values)
                elif role == "activation":
                    values = self.activation(values)
                elif role == "flatten":
                    values = values.flatten(2)
                elif role == "average":
                    values = values.mean((3, 4))
                elif drop is not None:
                    values = drop(number, values)
        return values

    def layer_of(self, vectors: torch.Tensor) -> Callable[[int, torch.Tensor], torch.Tensor]:
        """What the layers of the networks with these weights compute, for :meth:`run`; the fastest way to evaluate."""
        tensors = self.tensors(vectors)

        def layer(number: int, values: torch.Tensor) -> torch.Tensor:
            weight, bias = tensors[number]
            if values.device.type != "cpu" or weight.ndim < 5:
                return self.multiply(number, values, weight, bias)
            # On the CPU torch's own convolution, model by model, is faster than one product for all.
            values = values.expand(len(weight), *values.shape[1:])
            of_models = zip(values, weight, bias, strict=True)
            return torch.stack([functional.conv2d(*of_model, stride=self.stride) for of_model in of_models])

        return layer

    def logits(self, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits of the networks with these weights, in evaluation mode."""
        return self.run(images, self.layer_of(vectors))


def is_chain(architecture: str | None) -> bool:
    """Whether the architecture is one of those which :class:`Chain` computes."""
    return architecture in FOLLOWERS


def losses_and_hits(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each image, and whether the model is right, both of shape (n_models, n_images)."""
    losses = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    return losses, logits.argmax(2) == labels
