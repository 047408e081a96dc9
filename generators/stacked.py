"""Training of many models at once, as torch operations on any device: the plain loop's models, up to rounding.

All models step together: their weights are the rows of one matrix, and a layer of all of them is one operation.
Nothing is read back from the device within an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from zoobench.generators.architectures import first_unit
from zoobench.generators.chains import Chain, losses_and_hits
from zoobench.generators.dropout import BITS, GOLDEN, MULTIPLIERS, DropoutMasks, dropout_scale, dropout_threshold
from zoobench.generators.images import ImageData
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.generators.training import (
    BETAS,
    TrainedModel,
    Watch,
    batch_orders,
    initial_weights,
    one_thread,
    rates_of,
    stream_seed,
)

#: What models that are trained together have in common.
SHARED_AXES = ("activation", "optimizer", "batch_size")

#: Images of all models together that one call evaluates: about as much memory as a training step of a full chunk.
_IMAGES_A_CALL = {"cpu": 2_000, "cuda": 20_000}

#: Adam's, which no recipe varies.
_BETA2, _EPSILON = BETAS[1], 1e-8


def train_stacked(
    recipe: Recipe,
    models: Sequence[ModelSettings],
    images: ImageData,
    device: str = "cpu",
    watch: Watch | None = None,
) -> list[TrainedModel]:
    """Train models of a recipe together.

    Parameters
    ----------
    recipe : Recipe
        One that :func:`zoobench.generators.engine.can_train` admits.
    models : sequence of ModelSettings
        Some of ``recipe.models()``, with one activation, optimizer and batch size. How many there are may change the
        last bits of batched products on some devices: who wants the same bits gives the same number. A model may be
        named more than once.
    images : ImageData
        The recipe's images. They lie on the device once.
    device : str, default="cpu"
        Where to train.
    watch : callable, optional
        Called after each epoch: see :data:`zoobench.generators.training.Watch`.

    Returns
    -------
    list of TrainedModel
        In the order of the models; what :func:`train_model` gives, up to rounding.

    Raises
    ------
    ValueError
        If the models differ in what they must have in common.
    """
    values = [recipe.training_values(model) for model in models]
    for axis in SHARED_AXES:
        if len({of_model[axis] for of_model in values}) > 1:
            raise ValueError(f"models that are trained together must have one {axis}")
    with one_thread():
        return _Population(recipe, models, values, images, torch.device(device)).train(watch)


class _Population:
    """The models' state on the device."""

    def __init__(
        self,
        recipe: Recipe,
        models: Sequence[ModelSettings],
        values: list[dict[str, Any]],
        images: ImageData,
        device: torch.device,
    ) -> None:
        self.recipe, self.models, self.values, self.device = recipe, models, values, device
        self.images = images.to(device)
        self.chain = Chain(recipe.layout, values[0]["activation"])
        self.optimizer, self.batch_size = str(values[0]["optimizer"]), int(values[0]["batch_size"])
        initial = np.stack([initial_weights(recipe, model, images.channels) for model in models])
        self.weights = torch.from_numpy(initial).to(device).requires_grad_()
        # Adam's two running means; SGD needs the first alone.
        self.first = torch.zeros_like(self.weights, requires_grad=False)
        self.second = self.first if self.optimizer == "sgd" else torch.zeros_like(self.first)
        self.weight_decay = self._moved(np.array([[of_model["weight_decay"]] for of_model in values]))
        self.dropout = _StackedMasks(models, values, device) if any(v["dropout"] for v in values) else None
        self.n_steps = 0
        self._rates: dict[tuple[Any, ...], tuple[np.ndarray, np.ndarray]] = {}

    def train(self, watch: Watch | None) -> list[TrainedModel]:
        """All epochs of all models."""
        n_images = len(self.images.train_labels)
        orders = [batch_orders(model, n_images) for model in self.models]
        running = torch.full((2, len(self.models)), float("nan"), dtype=torch.float64, device=self.device)
        finite = torch.ones(len(self.models), dtype=torch.bool, device=self.device)
        going_on = True
        checkpoints: list[np.ndarray] = []
        metrics: list[np.ndarray] = []
        for epoch in range(self.recipe.epochs[-1] + 1):
            if epoch and going_on:
                order = np.empty((len(orders), n_images), dtype=np.int32)
                for row, of_model in zip(order, orders, strict=True):
                    row[:] = next(of_model).numpy()
                before = self.weights.detach().clone()
                trained = self._train_epoch(torch.from_numpy(order).to(self.device))
                running = torch.where(finite, trained, running)
                with torch.no_grad():
                    # A model that has diverged stays as it was.
                    self.weights.copy_(torch.where(finite[:, None], self.weights, before))
                    finite = finite & self.weights.isfinite().all(dim=1)
                going_on = bool(finite.any())
            if epoch in self.recipe.epochs:
                if epoch == 0:
                    running = self._evaluate(self.images.train, self.images.train_labels)
                checkpoints.append(self.weights.detach().cpu().numpy().copy())
                measured = (
                    running,
                    self._evaluate(self.images.val, self.images.val_labels),
                    self._evaluate(self.images.test, self.images.test_labels),
                )
                metrics.append(torch.cat(measured).cpu().numpy())
            if watch is not None:
                watch(len(self.models), epoch, float(np.median(metrics[-1][-1])) if metrics else float("nan"))
        weights, table = np.stack(checkpoints, axis=1), np.stack(metrics).transpose(2, 0, 1)
        return [TrainedModel(weights[i], np.ascontiguousarray(table[i])) for i in range(len(self.models))]

    def _train_epoch(self, order: torch.Tensor) -> torch.Tensor:
        """Running means of loss and accuracy of each model."""
        n_models, n_images = order.shape
        loss_sum = torch.zeros(n_models, dtype=torch.float64, device=self.device)
        n_right = torch.zeros(n_models, dtype=torch.int64, device=self.device)
        batches = order.split(self.batch_size, dim=1)
        rates, momenta = self._steps(len(batches))
        for step, batch in enumerate(batches):
            chosen = batch.long()
            labels = self.images.train_labels[chosen]
            logits = self._logits(self.weights, self.images.train[chosen], training=True)
            losses, hits = losses_and_hits(logits, labels)
            of_models = losses.mean(1)
            # Of the sum, because no model's loss depends on another's weights: each row is a model's own gradient.
            (gradient,) = torch.autograd.grad(of_models.sum(), self.weights)
            with torch.no_grad():
                self._update(gradient, rates[step, :, None], momenta[step, :, None])
                loss_sum += of_models.detach() * batch.shape[1]
                n_right += hits.sum(1)
            if self.dropout is not None:
                self.dropout.n_seen += batch.shape[1]
        return torch.stack([loss_sum, n_right.double()]) / n_images

    def _update(self, gradient: torch.Tensor, rate: torch.Tensor, momentum: torch.Tensor) -> None:
        """One step of the optimizer, as torch defines it. Of Adam, ``rate`` is corrected for the first mean's bias."""
        self.n_steps += 1
        if self.optimizer != "adamw":
            gradient = gradient + self.weight_decay * self.weights
        if self.optimizer == "sgd":
            self.first.mul_(momentum).add_(gradient)
            self.weights -= rate * self.first
            return
        if self.optimizer == "adamw":
            # The rate as it was before the correction: torch shrinks the weights by that.
            self.weights *= 1 - rate * (1 - momentum**self.n_steps) * self.weight_decay
        self.first.lerp_(gradient, 1 - momentum)
        self.second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        root = self.second.sqrt().div_((1 - _BETA2**self.n_steps) ** 0.5).add_(_EPSILON)
        self.weights -= rate * self.first / root

    def _steps(self, n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Learning rate and momentum of each model in the steps of the coming epoch, of shape (n_steps, n_models)."""
        coming = slice(self.n_steps, self.n_steps + n_steps)
        columns = []
        for model, of_model in zip(self.models, self.values, strict=True):
            key = tuple(of_model[axis] for axis in ("schedule", "lr", "momentum"))
            if key not in self._rates:
                self._rates[key] = rates_of(self.recipe, model, len(self.images.train_labels))
            columns.append([table[coming] for table in self._rates[key]])
        rates, momenta = np.array(columns).transpose(1, 2, 0)
        if self.optimizer != "sgd":
            # In float64, before it is rounded: 1 - .9 in float32 would be off by a part in ten million.
            rates = rates / (1 - momenta ** (1 + np.arange(coming.start, coming.stop)[:, None]))
        return self._moved(rates), self._moved(momenta)

    @torch.no_grad()
    def _evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss and accuracy of each model."""
        loss_sum = torch.zeros(len(self.models), dtype=torch.float64, device=self.device)
        n_right = torch.zeros(len(self.models), dtype=torch.int64, device=self.device)
        n_at_once = max(1, _IMAGES_A_CALL[self.device.type] // len(self.models))
        for batch, wanted in zip(images.split(n_at_once), labels.split(n_at_once), strict=True):
            logits = self._logits(self.weights, batch[None], training=False)
            losses, hits = losses_and_hits(logits, wanted.expand(len(self.models), -1))
            loss_sum += losses.double().sum(1)
            n_right += hits.sum(1)
        return torch.stack([loss_sum, n_right.double()]) / len(labels)

    def _logits(self, weights: torch.Tensor, images: torch.Tensor, *, training: bool) -> torch.Tensor:
        """Of shape (n_models, n_images, n_classes), from a batch for each model, or one for all (a first axis of 1)."""
        layers = self.chain.layout.layers
        # Split at once: the gradients of slices would each be as large as all weights.
        pieces = iter(weights.split([tensor.size for layer in layers for tensor in layer.tensors], dim=1))
        tensors = [[next(pieces).unflatten(1, tensor.shape) for tensor in layer.tensors] for layer in layers]

        def layer(number: int, values: torch.Tensor) -> torch.Tensor:
            return self.chain.multiply(number, values, *tensors[number])

        return self.chain.run(images, layer, self._drop if training and self.dropout is not None else None)

    def _drop(self, number: int, values: torch.Tensor) -> torch.Tensor:
        assert self.dropout is not None
        return values * self.dropout.draw(first_unit(number), values.shape)

    def _moved(self, table: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(table.astype(np.float32)).to(self.device)


class _StackedMasks:
    """:class:`DropoutMasks` of many models, computed where they train: the same bits in integers of 64."""

    def __init__(self, models: Sequence[ModelSettings], values: list[dict[str, Any]], device: torch.device) -> None:
        keys = np.stack([DropoutMasks(stream_seed(model.seed, "dropout")).key for model in models]).astype(np.int64)
        self.key = torch.from_numpy(keys).to(device)
        self.threshold = torch.tensor([dropout_threshold(v["dropout"]) for v in values], device=device)[:, None, None]
        scales = np.array([dropout_scale(v["dropout"]) for v in values], dtype=np.float32)
        self.scale = torch.from_numpy(scales).to(device)[:, None, None]
        self.n_seen = 0

    def draw(self, first: int, shape: Sequence[int]) -> torch.Tensor:
        """Masks of a layer's units, of the shape (n_models, n_images, ...)."""
        _, n_images, *units = shape
        device = self.key.device
        images = torch.arange(self.n_seen, self.n_seen + n_images, device=device)
        images = _mixed(_mixed(images + self.key[:, :1]) + self.key[:, 1:])
        numbers = torch.arange(first, first + int(np.prod(units)), device=device) * GOLDEN
        kept = _mixed(images[:, :, None] + numbers) >> (32 - BITS) >= self.threshold
        return (kept * self.scale).unflatten(2, units)


def _mixed(h: torch.Tensor) -> torch.Tensor:
    """The hash of :mod:`zoobench.generators.dropout`."""
    h = h & 0xFFFFFFFF
    h = h ^ (h >> 16)
    h = (h * MULTIPLIERS[0]) & 0xFFFFFFFF
    h = h ^ (h >> 15)
    h = (h * MULTIPLIERS[1]) & 0xFFFFFFFF
    return h ^ (h >> 15)
