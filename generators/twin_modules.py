"""Any torch module as a network that is sparsified, one model at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from zoobench.generators.architectures import Dropout
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.registration import global_generator_seeded, registered
from zoobench.generators.twin_networks import TINY, Noise, PrunableLayer, TwinChunk, Variances, pieces_of
from zoobench.network import build_network, state_tensors

#: Layers whose weights may become zero, and what they compute.
_PRUNABLE: dict[type[nn.Module], str] = {nn.Conv1d: "conv", nn.Conv2d: "conv", nn.Conv3d: "conv", nn.Linear: "linear"}

#: Numbers in the images that are evaluated at once; activations take a hundred times as many, and more.
_EVALUATED_AT_ONCE = 2**20


class ModuleNetwork:
    """A network of any architecture; its convolutions and linear layers are what may become sparse.

    Each of these computes its output itself, and a hook adds the noise. All else, such as batch normalisation,
    residual sums and activations, is as the module has it.

    Parameters
    ----------
    chunk : TwinChunk
        One model.
    seed : int
        Of the model's stream of dropout.
    device : str
        Where it is computed.

    Raises
    ------
    ValueError
        If the network cannot be built, or has weights that are not those of a convolution or of a linear layer.
    """

    def __init__(self, chunk: TwinChunk, seed: int, device: str) -> None:
        (name,), self.layout, self.architecture = chunk.names, chunk.layout, chunk.architecture
        values = {"activation": chunk.shared["activation"], "dropout": chunk.own["dropout"][0]}
        state = state_tensors(chunk.layout, chunk.weights[0])
        self.module = build_network(name, chunk.layout, values, state, chunk.origin).to(device)
        self._check_tensors()
        kinds = self._prunable()
        places = {tensor.name: tensor for tensor in self.layout.tensors}
        self.layers = tuple(
            PrunableLayer(kind, places[_joined(layer, "weight")], places.get(_joined(layer, "bias")))
            for layer, kind in kinds.items()
        )
        self._types = {name: value.dtype for name, value in self.module.state_dict().items()}
        # What was frozen in the model's own training stays frozen.
        self._parameters = {name for name, value in self.module.named_parameters() if value.requires_grad}
        self.trained = torch.cat([torch.full((t.size,), t.name in self._parameters) for t in self.layout.tensors])
        self._seed, self._device = seed, device
        self._masks = DropoutMasks(seed)
        for part in self.module.modules():
            if isinstance(part, Dropout):
                part.masks = self._masks
        self._noise: Noise | None = None
        self._variances: Sequence[Variances] = ()
        #: Names of the layers that noise was added to.
        self.noisy: set[str] = set()
        for number, layer in enumerate(kinds):
            add_noise = partial(self._add_noise, number, layer)
            self.module.get_submodule(layer).register_forward_hook(add_noise, with_kwargs=True)

    def randomness(self) -> contextlib.AbstractContextManager[None]:
        """For networks that were registered and may draw from torch's global generator."""
        if registered(self.architecture) is None:
            return contextlib.nullcontext()
        return global_generator_seeded(self._seed, self._device)

    def training(
        self,
        vectors: torch.Tensor,
        images: torch.Tensor,
        variances: Sequence[Variances] | None = None,
        noise: Noise | None = None,
    ) -> torch.Tensor:
        """Logits in training mode; the running statistics of the module itself go on."""
        self._variances, self._noise = variances or (), noise
        tensors = {name: tensor for name, tensor in self._tensors(vectors).items() if name in self._parameters}
        logits: torch.Tensor = functional_call(self.module.train(), tensors, (images[0],))
        return logits[None]

    def logits(self, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits in evaluation mode, of the statistics in the vectors."""
        self._noise = None
        tensors = {name: tensor.to(self._types[name]) for name, tensor in self._tensors(vectors).items()}
        logits: torch.Tensor = functional_call(self.module.eval(), tensors, (images[0],))
        return logits[None]

    def after_step(self, n_images: int) -> None:
        """Dropout goes on to the next images."""
        self._masks.n_seen += n_images

    def after_epoch(self, vectors: torch.Tensor) -> None:
        """The running statistics come into the vectors."""
        buffers = dict(self.module.named_buffers())
        for tensor in self.layout.tensors:
            if tensor.name not in self._parameters:
                vectors[0, tensor.slice] = buffers[tensor.name].reshape(-1).float()

    def images_a_call(self, image: torch.Tensor) -> int:
        """How many such images are evaluated at once."""
        return max(1, _EVALUATED_AT_ONCE // image.numel())

    def check(self, images: torch.Tensor, batch_size: int, *, with_noise: bool) -> None:
        """Refuse, before the training, what would end in an error or leave a layer without noise.

        The network's statistics go on in it: it is not to be trained afterwards.

        Parameters
        ----------
        images : Tensor of shape (n_images, channels, height, width)
            Those that are trained on.
        batch_size : int
            Images of a step.
        with_noise : bool
            Whether noise is added to the layers' outputs.

        Raises
        ------
        ValueError
            If a step cannot be computed, or a layer's weights are used without calling it.
        """
        n_images = 1 if len(images) % batch_size == 1 or batch_size == 1 else 2
        vectors = torch.zeros(1, self.layout.n_weights, device=self._device)
        variances = [[layer.weight_of(vectors)] for layer in self.layers] if with_noise else None
        try:
            with self.randomness(), torch.no_grad():
                noise = partial(torch.zeros, device=self._device)
                self.training(vectors, images[None, :n_images].to(self._device), variances, noise)
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            remedy = "; a batch of one image is what the batch size leaves: give another, as in "
            remedy = f"{remedy}hyperparameters={{'batch_size': {batch_size + 1}}}" if n_images == 1 else ""
            raise ValueError(f"architecture {self.architecture!r} cannot be trained: {reason}{remedy}") from None
        silent = [name for name in self._prunable() if name not in self.noisy] if with_noise else []
        if silent:
            raise self._refusal(silent[0], "its weights are used without calling it, so that no noise can be added")

    def _tensors(self, vectors: torch.Tensor) -> dict[str, torch.Tensor]:
        pieces = pieces_of(self.layout, vectors)
        return {t.name: piece.view(t.shape) for t, piece in zip(self.layout.tensors, pieces, strict=True)}

    def _add_noise(
        self,
        number: int,
        name: str,
        layer: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        mean: torch.Tensor,
    ) -> torch.Tensor | None:
        """What a forward hook does: the layer's output with noise on it, while there is any."""
        if self._noise is None or not self._variances:
            return None
        self.noisy.add(name)
        values = args[0] if args else kwargs["input"]
        of_weight, *of_bias = (variance[0] for variance in self._variances[number])
        if isinstance(layer, nn.Linear):
            squares = functional.linear(values * values, of_weight)
        else:
            assert isinstance(layer, nn.modules.conv._ConvNd)
            squares = layer._conv_forward(values * values, of_weight, None)  # with the layer's stride, padding, groups
            of_bias = [extra.view(-1, *[1] * (of_weight.ndim - 2)) for extra in of_bias]
        squares = squares.clamp_min(0) + sum(of_bias, torch.tensor(TINY, device=squares.device))
        return torch.addcmul(mean, squares.sqrt(), self._noise(torch.Size((1, *mean.shape)))[0])

    # -- what the module is made of ------------------------------------------------------------------------------------

    def _check_tensors(self) -> None:
        """The module's tensors are the zoo's, each of them once."""
        names = [tensor.name for tensor in self.layout.tensors]
        other = sorted(set(self.module.state_dict()) ^ set(names))
        if other:
            raise ValueError(
                f"architecture {self.architecture!r} builds networks of other tensors than the zoo's, the first of "
                f"them {other[0]!r}; register what the zoo was trained with"
            )
        first: dict[int, str] = {}
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            if id(parameter) in first:
                raise self._refusal(name.rpartition(".")[0], f"it shares {name!r} with {first[id(parameter)]!r}")
            first[id(parameter)] = name

    def _prunable(self) -> dict[str, str]:
        """Name and kind of each layer whose weights may become zero; the others have none, or no more than a norm."""
        found: dict[str, str] = {}
        for name, layer in self.module.named_modules():
            owned = dict(layer.named_parameters(recurse=False))
            # A forward of its own may do anything with the weights.
            kinds = [kind for known, kind in _PRUNABLE.items() if type(layer).forward is known.forward]
            if not any(parameter.requires_grad for parameter in owned.values()):
                continue  # what was frozen in the model's own training stays as it is
            if kinds and "weight" in owned and set(owned) <= {"weight", "bias"}:
                found[name] = kinds[0]
            elif any(parameter.ndim > 1 for parameter in owned.values()) and not isinstance(layer, nn.LayerNorm):
                known = ", ".join(known.__name__ for known in _PRUNABLE)
                raise self._refusal(name, f"it is {type(layer).__name__}, and weights are those of {known}")
        if not found:
            raise ValueError(f"architecture {self.architecture!r} has no convolution or linear layer to sparsify")
        return found

    def _refusal(self, layer: str, reason: str) -> ValueError:
        return ValueError(f"layer {layer!r} of architecture {self.architecture!r} cannot be sparsified: {reason}")


def _joined(layer: str, role: str) -> str:
    return f"{layer}.{role}" if layer else role
