"""Training of one model of a zoo: weights and measurements at each checkpoint, from its settings and seed alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from zoobench.generators.architectures import Dropout, build_module, initialise
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.images import ImageData
from zoobench.generators.recipes import ModelSettings, Recipe

#: Columns of :attr:`TrainedModel.metrics`.
METRICS = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")

#: Each purpose draws from its own stream of a model's seed, so that none shifts another.
_STREAMS = {"init": 0, "batches": 1, "dropout": 2}


@dataclass(frozen=True)
class TrainedModel:
    """What training one model yields.

    Attributes
    ----------
    weights : ndarray of shape (n_checkpoints, n_weights), float32
        The network's parameters after each checkpoint epoch, in the order of its state_dict.
    metrics : ndarray of shape (n_checkpoints, 6), float64
        Columns as in ``METRICS``: losses (negative log-likelihood a image) and accuracies (from 0 to 1).
    """

    weights: np.ndarray
    metrics: np.ndarray


def stream_seed(seed: int, purpose: str) -> int:
    """Seed of one of a model's streams of random numbers: ``"init"``, ``"batches"`` or ``"dropout"``."""
    return int(np.random.SeedSequence([seed, _STREAMS[purpose]]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def initial_module(recipe: Recipe, settings: ModelSettings, channels: int) -> nn.Module:
    """The untrained network of a model of a recipe."""
    values = settings.hyperparameters
    module = build_module(
        recipe.architecture, channels=channels, activation=values["activation"], dropout=values["dropout"]
    )
    initialise(module, values["init"], torch.Generator().manual_seed(stream_seed(settings.seed, "init")))
    return module


def initial_weights(recipe: Recipe, settings: ModelSettings, channels: int) -> np.ndarray:
    """The weight vector of the untrained network of a model of a recipe, float32."""
    module = initial_module(recipe, settings, channels)
    return np.asarray(nn.utils.parameters_to_vector(module.parameters()).detach().numpy())


def batch_orders(settings: ModelSettings, n_images: int) -> Iterator[torch.Tensor]:
    """The order of the training images in epoch 1, 2, ...: endless."""
    generator = torch.Generator().manual_seed(stream_seed(settings.seed, "batches"))
    while True:
        yield torch.randperm(n_images, generator=generator)


def train_model(recipe: Recipe, settings: ModelSettings, images: ImageData, *, device: str = "cpu") -> TrainedModel:
    """Train one model of a recipe.

    The result depends on the settings alone: not on other models, on the global random state (which is left as it
    was) or on torch's number of threads (one is used, since small networks gain nothing from more).

    The loss is the negative log-likelihood of the log-softmax. Training loss and accuracy are running means over the
    epoch's minibatches while the network changes, as in the Model Zoos, except before the first epoch, where they are
    evaluated; validation and test are evaluated after the epoch. A model whose weights are no longer finite after an
    epoch is not trained on: it stays as it is.

    Parameters
    ----------
    recipe : Recipe
        Architecture, epochs, batch size, checkpoints.
    settings : ModelSettings
        One of ``recipe.models()``.
    images : ImageData
        The recipe's images.
    device : str, default="cpu"
        Where to train.

    Returns
    -------
    TrainedModel
    """
    images = images.to(device)
    checkpoints: list[np.ndarray] = []
    metrics: list[list[float]] = []
    with _one_thread():
        module = initial_module(recipe, settings, images.channels).to(device)
        masks = _give_dropout_masks(module, settings)
        optimizer = _optimizer(settings, module)
        orders = batch_orders(settings, len(images.train_labels))
        trained = (float("nan"), float("nan"))
        finite = True
        for epoch in range(recipe.epochs[-1] + 1):
            if epoch and finite:
                trained = _train_epoch(module, optimizer, images, next(orders).to(device), recipe.batch_size, masks)
                finite = all(bool(parameter.isfinite().all()) for parameter in module.parameters())
            if epoch in recipe.epochs:
                if epoch == 0:
                    trained = _evaluate(module, images.train, images.train_labels)
                checkpoints.append(nn.utils.parameters_to_vector(module.parameters()).detach().cpu().numpy())
                validation = _evaluate(module, images.val, images.val_labels)
                metrics.append([*trained, *validation, *_evaluate(module, images.test, images.test_labels)])
    return TrainedModel(np.stack(checkpoints).astype(np.float32, copy=False), np.array(metrics, dtype=np.float64))


def _optimizer(settings: ModelSettings, module: nn.Module) -> torch.optim.Optimizer:
    values = settings.hyperparameters
    parameters = list(module.parameters())
    if values["optimizer"] == "adam":
        return torch.optim.Adam(parameters, lr=values["lr"], weight_decay=values["weight_decay"], fused=True)
    return torch.optim.SGD(parameters, lr=values["lr"], momentum=0.9, weight_decay=values["weight_decay"], fused=True)


def _train_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: ImageData,
    order: torch.Tensor,
    batch_size: int,
    masks: DropoutMasks,
) -> tuple[float, float]:
    """One pass over the training images; running means of loss and accuracy."""
    module.train()
    batches = images.train[order].split(batch_size)
    labels = images.train_labels[order].split(batch_size)
    # Summed as tensors: reading a number after each step would wait for the device.
    loss_sum = torch.zeros((), dtype=torch.float64, device=order.device)
    n_right = torch.zeros((), dtype=torch.int64, device=order.device)
    for batch, wanted in zip(batches, labels, strict=True):
        optimizer.zero_grad()
        logits = module(batch)
        loss = functional.cross_entropy(logits, wanted)
        loss.backward()
        optimizer.step()
        masks.n_seen += len(wanted)
        loss_sum += loss.detach() * len(wanted)
        n_right += (logits.argmax(1) == wanted).sum()
    return float(loss_sum) / len(order), float(n_right) / len(order)


@torch.inference_mode()
def _evaluate(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    module.eval()
    logits = module(inputs)
    return float(functional.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).double().mean())


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _give_dropout_masks(module: nn.Module, settings: ModelSettings) -> DropoutMasks:
    masks = DropoutMasks(stream_seed(settings.seed, "dropout"))
    for part in module.modules():
        if isinstance(part, Dropout):
            part.masks = masks
    return masks
