"""Training of one model of a zoo: weights and measurements at each checkpoint, from its settings and seed alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from zoobench.generators.architectures import Dropout, build_module, initialise
from zoobench.generators.augmentation import augment
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.images import ImageData
from zoobench.generators.recipe_checks import DEFAULT_MOMENTUM
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.generators.registration import global_generator_seeded, registered
from zoobench.generators.schedules import schedule

#: Columns of :attr:`TrainedModel.metrics`.
METRICS = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")

#: What is told of a training under way: how many models have ended which epoch, with the median test accuracy that was
#: last measured of them.
Watch = Callable[[int, int, float], None]

#: Of Adam and AdamW, as in torch.
BETAS = (0.9, 0.999)

#: Each purpose draws from its own stream of a model's seed, so that none shifts another.
_STREAMS = {"init": 0, "batches": 1, "dropout": 2, "augmentation": 3}

#: Numbers in the images that are evaluated at once; a network's activations take a hundred times as many, and more.
_EVALUATED_AT_ONCE = 2**20


@dataclass(frozen=True)
class TrainedModel:
    """What training one model yields.

    Attributes
    ----------
    weights : ndarray of shape (n_checkpoints, n_weights), float32
        The network's state_dict after each checkpoint epoch, in its order, buffers of batch normalisation included.
    metrics : ndarray of shape (n_checkpoints, 6), float64
        Columns as in ``METRICS``: losses (negative log-likelihood a image) and accuracies (from 0 to 1).
    """

    weights: np.ndarray
    metrics: np.ndarray


def stream_seed(seed: int, purpose: str) -> int:
    """Seed of a model's stream of random numbers for ``"init"``, ``"batches"``, ``"dropout"`` or ``"augmentation"``."""
    return int(np.random.SeedSequence([seed, _STREAMS[purpose]]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def initial_module(recipe: Recipe, settings: ModelSettings, channels: int) -> nn.Module:
    """The untrained network of a model of a recipe."""
    values = settings.hyperparameters
    module = build_module(
        recipe.architecture,
        channels=channels,
        n_classes=recipe.n_classes,
        activation=values["activation"],
        dropout=values["dropout"],
    )
    initialise(module, values["init"], torch.Generator().manual_seed(stream_seed(settings.seed, "init")))
    return module


def initial_weights(recipe: Recipe, settings: ModelSettings, channels: int) -> np.ndarray:
    """The weight vector of the untrained network of a model of a recipe, float32."""
    return weight_vector(initial_module(recipe, settings, channels))


def weight_vector(module: nn.Module) -> np.ndarray:
    """The network's state_dict as one vector in its order, float32."""
    tensors = [value.detach().reshape(-1).float() for value in module.state_dict().values()]
    return np.asarray(torch.cat(tensors).cpu().numpy())


def batch_orders(settings: ModelSettings, n_images: int) -> Iterator[torch.Tensor]:
    """The order of the training images in epoch 1, 2, ...: endless."""
    generator = torch.Generator().manual_seed(stream_seed(settings.seed, "batches"))
    while True:
        yield torch.randperm(n_images, generator=generator)


def train_model(
    recipe: Recipe,
    settings: ModelSettings,
    images: ImageData,
    *,
    device: str = "cpu",
    watch: Watch | None = None,
) -> TrainedModel:
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
    watch : callable, optional
        Called after each epoch: see :data:`Watch`.

    Returns
    -------
    TrainedModel
    """
    images = images.to(device)
    checkpoints: list[np.ndarray] = []
    metrics: list[list[float]] = []
    with one_thread(), _own_randomness(recipe, settings, device):
        module = initial_module(recipe, settings, images.channels).to(device)
        run = _Run(recipe, settings, module, images)
        trained = (float("nan"), float("nan"))
        finite = True
        for epoch in range(recipe.epochs[-1] + 1):
            if epoch and finite:
                trained = run.train_epoch()
                finite = all(bool(value.isfinite().all()) for value in module.state_dict().values())
            if epoch in recipe.epochs:
                if epoch == 0:
                    trained = _evaluate(module, images.train, images.train_labels)
                checkpoints.append(weight_vector(module))
                validation = _evaluate(module, images.val, images.val_labels)
                metrics.append([*trained, *validation, *_evaluate(module, images.test, images.test_labels)])
            if watch is not None:
                watch(1, epoch, metrics[-1][-1] if metrics else float("nan"))
    return TrainedModel(np.stack(checkpoints), np.array(metrics, dtype=np.float64))


def rates_of(recipe: Recipe, settings: ModelSettings, n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Learning rate and momentum (for Adam and AdamW, beta1) of a model at each step of the whole training.

    Parameters
    ----------
    recipe : Recipe
        Epochs, and the batch size where the grid does not name it.
    settings : ModelSettings
        One of ``recipe.models()``.
    n_images : int
        Training images.

    Returns
    -------
    lr, momentum : ndarray of shape (n_steps,), float64
    """
    values = recipe.training_values(settings)
    n_steps = recipe.n_epochs * -(-n_images // values["batch_size"])
    momentum = values["momentum"] if values["optimizer"] == "sgd" else BETAS[0]
    return schedule(values["schedule"], lr=values["lr"], momentum=momentum, n_steps=n_steps)


class _Run:
    """The training of one model: what its steps need and leave behind."""

    def __init__(self, recipe: Recipe, settings: ModelSettings, module: nn.Module, images: ImageData) -> None:
        self.module, self.images = module, images
        self.batch_size: int = recipe.training_values(settings)["batch_size"]
        self.optimizer = _optimizer(settings, module)
        n_images = len(images.train_labels)
        self.steps = zip(*rates_of(recipe, settings, n_images), strict=True)
        self.orders = batch_orders(settings, n_images)
        self.masks = _give_dropout_masks(module, settings)
        self.augmenting = torch.Generator().manual_seed(stream_seed(settings.seed, "augmentation"))

    def train_epoch(self) -> tuple[float, float]:
        """One pass over the training images; running means of loss and accuracy."""
        self.module.train()
        order = next(self.orders).to(self.images.train.device)
        # Summed as tensors: reading a number after each step would wait for the device.
        loss_sum = torch.zeros((), dtype=torch.float64, device=order.device)
        n_right = torch.zeros((), dtype=torch.int64, device=order.device)
        for chosen in order.split(self.batch_size):
            batch, wanted = self.images.train[chosen], self.images.train_labels[chosen]
            if self.images.augmentation is not None:
                batch = augment(batch, self.images.augmentation, self.augmenting, black=self.images.black)
            _set_rates(self.optimizer, *next(self.steps))
            self.optimizer.zero_grad()
            logits = self.module(batch)
            loss = functional.cross_entropy(logits, wanted)
            loss.backward()
            self.optimizer.step()
            self.masks.n_seen += len(wanted)
            loss_sum += loss.detach() * len(wanted)
            n_right += (logits.argmax(1) == wanted).sum()
        return float(loss_sum) / len(order), float(n_right) / len(order)


def _optimizer(settings: ModelSettings, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer, whose learning rate and momentum are set anew at each step."""
    values = settings.hyperparameters
    parameters, lr, decay = list(module.parameters()), values["lr"], values["weight_decay"]
    if values["optimizer"] == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=DEFAULT_MOMENTUM, weight_decay=decay, fused=True)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[values["optimizer"]]
    return adam(parameters, lr=lr, betas=BETAS, weight_decay=decay, fused=True)


def _set_rates(optimizer: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    (group,) = optimizer.param_groups
    group["lr"] = float(lr)
    if "betas" in group:
        group["betas"] = (float(momentum), group["betas"][1])
    else:
        group["momentum"] = float(momentum)


@torch.inference_mode()
def _evaluate(module: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Mean loss and accuracy."""
    module.eval()
    loss, n_right = 0.0, 0
    at_once = max(1, _EVALUATED_AT_ONCE // inputs[0].numel())
    for some, wanted in zip(inputs.split(at_once), labels.split(at_once), strict=True):
        logits = module(some)
        loss += float(functional.cross_entropy(logits, wanted)) * (len(wanted) / len(labels))
        n_right += int((logits.argmax(1) == wanted).sum())
    return loss, n_right / len(labels)


def _own_randomness(recipe: Recipe, settings: ModelSettings, device: str) -> contextlib.AbstractContextManager[None]:
    """For networks that were registered and may draw from torch's global generator."""
    if registered(recipe.architecture) is None:
        return contextlib.nullcontext()
    return global_generator_seeded(stream_seed(settings.seed, "dropout"), device)


class _OneThread:
    """How many are in the midst of it, and torch's number of threads before the first."""

    lock, depth, before = threading.Lock(), 0, 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, on which a model's bits may depend; afterwards on as many as before.

    Several threads of Python may be in it at a time: torch sets the number for the one that asks, and for those to
    come, so that the last to leave has to put back what the first has found.
    """
    with _OneThread.lock:
        if not _OneThread.depth:
            _OneThread.before = torch.get_num_threads()
        _OneThread.depth += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _OneThread.lock:
            _OneThread.depth -= 1
            torch.set_num_threads(_OneThread.before)


def _give_dropout_masks(module: nn.Module, settings: ModelSettings) -> DropoutMasks:
    masks = DropoutMasks(stream_seed(settings.seed, "dropout"))
    for part in module.modules():
        if isinstance(part, Dropout):
            part.masks = masks
    return masks
