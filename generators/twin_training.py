"""Training of sparsified twins: the models of a chunk step together, each with random numbers of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from zoobench.generators.augmentation import augment
from zoobench.generators.chains import losses_and_hits
from zoobench.generators.images import ImageData
from zoobench.generators.training import one_thread
from zoobench.generators.twin_modules import ModuleNetwork
from zoobench.generators.twin_networks import ChainNetwork, Noise, TwinChunk, TwinNetwork

#: Adam's, as everywhere.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Watch(Protocol):
    """What is told of a training under way."""

    def __call__(self, n_models: int, epoch: int, accuracy: float, *, sparsity: float) -> None:
        """So many models have ended an epoch; what was last measured of them are medians, on the test images."""


@dataclass(frozen=True)
class TrainedTwins:
    """What sparsifying a chunk yields.

    Attributes
    ----------
    weights : ndarray of shape (n_models, n_checkpoints, n_weights), float32
        Of the networks that were evaluated: what is dropped is zero.
    metrics : ndarray of shape (n_models, n_checkpoints, 7), float64
        Losses and accuracies in the order of ``training.METRICS``, and the share of weights that are zero.
    """

    weights: np.ndarray
    metrics: np.ndarray


class Sparsifier(Protocol):
    """A method of sparsification: what it does to the parameters of many models, one row each.

    Attributes
    ----------
    network : TwinNetwork
        What is sparsified.
    decayed : Tensor of shape (n_parameters,), bool
        Which of the parameters weight decay acts on.
    """

    network: TwinNetwork
    decayed: torch.Tensor

    def start(self, weights: torch.Tensor) -> torch.Tensor:
        """Parameters of networks with these weights, which are the first columns."""

    def begin_epoch(self, parameters: torch.Tensor, epoch: int) -> None:
        """What happens before an epoch, from 1; in place."""

    def training(
        self, parameters: torch.Tensor, images: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and what is added to each model's loss."""

    def after_step(self, parameters: torch.Tensor) -> None:
        """What happens after each step of the optimizer, in place."""

    def evaluated(self, parameters: torch.Tensor) -> torch.Tensor:
        """The weights of the networks that are evaluated."""


def twin_seed(name: str, purpose: str, random_state: int) -> int:
    """Seed of a twin's stream of random numbers for ``"batches"``, ``"noise"``, ``"dropout"`` or ``"augmentation"``."""
    digest = hashlib.blake2b(f"{random_state}/{purpose}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def network_of(chunk: TwinChunk, random_state: int, device: str) -> TwinNetwork:
    """The networks of a chunk: all at once if they are chains of layers, else the one that there is."""
    seeds = [twin_seed(name, "dropout", random_state) for name in chunk.names]
    return ChainNetwork(chunk, seeds) if chunk.is_chain else ModuleNetwork(chunk, seeds[0], device)


def train_twins(
    chunk: TwinChunk,
    sparsifier: Sparsifier,
    images: ImageData,
    *,
    epochs: Sequence[int],
    random_state: int,
    device: str,
    watch: Watch | None = None,
) -> TrainedTwins:
    """Sparsify the models of a chunk.

    Parameters
    ----------
    chunk : TwinChunk
        The models.
    sparsifier : Sparsifier
        The method, of the chunk's :func:`network_of`.
    images : ImageData
        What to train on and to evaluate.
    epochs : sequence of int
        Ascending: after which epochs a state is kept; 0 is the start as it is.
    random_state : int
        Sets the random numbers of one run apart from another's.
    device : str
        Where to train.
    watch : callable, optional
        Called after each epoch: see :class:`Watch`.

    Returns
    -------
    TrainedTwins
    """
    # Networks this small gain nothing from more threads, and sums would depend on their number.
    with one_thread(), sparsifier.network.randomness():
        return _Run(chunk, sparsifier, images.to(device), random_state, device).train(epochs, watch)


class _Run:
    def __init__(
        self, chunk: TwinChunk, sparsifier: Sparsifier, images: ImageData, random_state: int, device: str
    ) -> None:
        self.chunk, self.sparsifier, self.images, self.device = chunk, sparsifier, images, device
        self.n_models, self.n_weights = chunk.weights.shape
        self.network = sparsifier.network
        self.weights = torch.from_numpy(np.array(chunk.weights)).to(device)  # of their own: they may be mapped
        self.parameters = sparsifier.start(self.weights)
        self.optimizer = _Optimizer(chunk, self.parameters, sparsifier.decayed.to(device))
        seeds = {
            purpose: [twin_seed(name, purpose, random_state) for name in chunk.names]
            for purpose in ("batches", "noise", "augmentation")
        }
        self.orders = [torch.Generator().manual_seed(seed) for seed in seeds["batches"]]
        self.augmenting = [torch.Generator().manual_seed(seed) for seed in seeds["augmentation"]]
        self.noises = [torch.Generator(device).manual_seed(seed) for seed in seeds["noise"]]
        weighty = [layer.weight.slice for layer in self.network.layers]
        self.prunable = torch.cat([torch.arange(place.start, place.stop) for place in weighty]).to(device)

    def train(self, epochs: Sequence[int], watch: Watch | None) -> TrainedTwins:
        kept: list[np.ndarray] = []
        measured: list[np.ndarray] = []
        running = self._evaluate(self.weights, "train")
        finite = self.parameters.isfinite().all(1)
        for epoch in range(epochs[-1] + 1):
            if epoch and bool(finite.any()):
                before = self.parameters.clone()
                with torch.no_grad():
                    self.sparsifier.begin_epoch(self.parameters, epoch)
                trained = self._train_epoch()
                self.network.after_epoch(self.parameters[:, : self.n_weights])
                # A model that has diverged stays as it was.
                running = torch.where(finite, trained, running)
                self.parameters = torch.where(finite[:, None], self.parameters, before)
                finite = finite & self.parameters.isfinite().all(1)
            if epoch in epochs:
                with torch.no_grad():
                    weights = self.sparsifier.evaluated(self.parameters) if epoch else self.weights
                    zero = (weights[:, self.prunable] == 0).double().mean(1)
                rows = [running, self._evaluate(weights, "val"), self._evaluate(weights, "test"), zero[None]]
                kept.append(weights.cpu().numpy().copy())
                measured.append(torch.cat(rows).T.cpu().numpy())
            if watch is not None:
                *_, accuracy, sparsity = np.median(measured[-1], axis=0) if measured else [float("nan")] * 2
                watch(self.n_models, epoch, float(accuracy), sparsity=float(sparsity))
        return TrainedTwins(np.stack(kept, axis=1), np.stack(measured, axis=1))

    def _train_epoch(self) -> torch.Tensor:
        """Running means of loss (without the penalty) and accuracy of each model."""
        n_images = len(self.images.train_labels)
        order = torch.stack([torch.randperm(n_images, generator=generator) for generator in self.orders])
        loss_sum = torch.zeros(self.n_models, dtype=torch.float64, device=self.device)
        n_right = torch.zeros(self.n_models, dtype=torch.int64, device=self.device)
        for chosen in order.to(self.device).split(self.chunk.shared["batch_size"], dim=1):
            labels = self.images.train_labels[chosen]
            self.parameters.requires_grad_()
            logits, penalty = self.sparsifier.training(self.parameters, self._batches(chosen), self._noise)
            losses, hits = losses_and_hits(logits, labels)
            # Of the sum, because no model's loss depends on another's parameters.
            (gradient,) = torch.autograd.grad((losses.mean(1) + penalty).sum(), self.parameters)
            self.parameters = self.parameters.detach()
            self.optimizer.step(self.parameters, gradient)
            self.sparsifier.after_step(self.parameters)
            self.network.after_step(labels.shape[1])
            loss_sum += losses.detach().double().sum(1)
            n_right += hits.sum(1)
        return torch.stack([loss_sum, n_right.double()]) / n_images

    def _noise(self, shape: torch.Size) -> torch.Tensor:
        noise = torch.empty(shape, device=self.device)
        for of_model, generator in zip(noise, self.noises, strict=True):
            of_model.normal_(generator=generator)
        return noise

    def _batches(self, chosen: torch.Tensor) -> torch.Tensor:
        """A batch for each model, augmented as the image set says."""
        batches, kind = self.images.train[chosen], self.images.augmentation
        if kind is None:
            return batches
        return torch.stack(
            [
                augment(batch, kind, generator, black=self.images.black)
                for batch, generator in zip(batches, self.augmenting, strict=True)
            ]
        )

    @torch.no_grad()
    def _evaluate(self, weights: torch.Tensor, part: str) -> torch.Tensor:
        """Loss and accuracy of each model, of shape (2, n_models)."""
        inputs, labels = getattr(self.images, part), getattr(self.images, f"{part}_labels")
        loss = torch.zeros(self.n_models, dtype=torch.float64, device=self.device)
        n_right = torch.zeros(self.n_models, dtype=torch.int64, device=self.device)
        at_once = self.network.images_a_call(inputs[0])
        for some, wanted in zip(inputs.split(at_once), labels.split(at_once), strict=True):
            losses, hits = losses_and_hits(self.network.logits(weights, some[None]), wanted.expand(self.n_models, -1))
            loss += losses.double().sum(1)
            n_right += hits.sum(1)
        return torch.stack([loss, n_right.double()]) / len(labels)


class _Optimizer:
    """Adam, AdamW or SGD with momentum, as torch defines them, with settings of each model's own."""

    def __init__(self, chunk: TwinChunk, parameters: torch.Tensor, decayed: torch.Tensor) -> None:
        def column(name: str) -> torch.Tensor:
            return torch.tensor(chunk.own[name], dtype=torch.float32, device=parameters.device)[:, None]

        self.name = chunk.shared["optimizer"]
        self.lr, self.momentum = column("lr"), column("momentum")
        self.weight_decay = column("weight_decay") * decayed
        self.first, self.second = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.n_steps = 0

    def step(self, parameters: torch.Tensor, gradient: torch.Tensor) -> None:
        """One step, in place."""
        self.n_steps += 1
        if self.name == "adamw":
            parameters.mul_(1 - self.lr * self.weight_decay)
        else:
            gradient = gradient + self.weight_decay * parameters
        if self.name == "sgd":
            self.first.mul_(self.momentum).add_(gradient)
            parameters.sub_(self.lr * self.first)
            return
        self.first.lerp_(gradient, 1 - _BETA1)
        self.second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        root = self.second.sqrt().div_((1 - _BETA2**self.n_steps) ** 0.5).add_(_EPSILON)
        parameters.sub_(self.lr / (1 - _BETA1**self.n_steps) * self.first / root)
