"""Linear classification as the Model Zoos' benchmark trains it: one layer, Adam, small batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8  # the defaults of torch.optim.Adam

#: Every bias of the benchmark starts at this value.
_INITIAL_BIAS = 0.01


@dataclass(frozen=True)
class AdamSettings:
    """How a layer is trained; the defaults are those of the benchmark.

    Attributes
    ----------
    lr : float
        Learning rate.
    weight_decay : float
        Added to the gradient, as torch does.
    batch_size : int
        Rows a step.
    max_epochs : int
        Passes over the rows.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-6
    batch_size: int = 10
    max_epochs: int = 50


def train_linear_layers(
    X: np.ndarray, targets: Sequence[np.ndarray], n_classes: Sequence[int], seed: int, settings: AdamSettings
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train one linear layer a target on the same rows.

    The layers are trained side by side because their steps are small: together they cost little more than one. Each
    draws from a generator of its own, seeded alike, so none depends on the others. The draws are those of the
    benchmark: a torch layer's default initialisation, its weights anew (kaiming_normal), and an order of the rows for
    each epoch.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Features.
    targets : sequence of ndarray of shape (n_samples,), int
        Class of each row, one array a layer.
    n_classes : sequence of int
        Classes of each layer.
    seed : int
        Seed of each layer's generator.
    settings : AdamSettings
        How to train.

    Returns
    -------
    list of (weight, bias)
        Arrays of shape (n_classes, n_features) and (n_classes,), float32, one pair a layer.
    """
    n_samples, n_features = X.shape
    starts = np.cumsum([0, *n_classes])
    # Weights of all layers below each other, the bias as last column: one update serves them all.
    weight = np.empty((starts[-1], n_features + 1), dtype=np.float32)
    generators = []
    for start, classes in zip(starts, n_classes, strict=False):
        generator, weight[start : start + classes] = _initial(classes, n_features, seed)
        generators.append(generator)
    state = _AdamState(weight, settings)
    rows = np.ones((settings.batch_size, n_features + 1), dtype=np.float32)
    for _ in range(settings.max_epochs):
        orders = [_permutation(generator, n_samples) for generator in generators]
        for begin in range(0, n_samples, settings.batch_size):
            for layer, (order, target) in enumerate(zip(orders, targets, strict=True)):
                batch = order[begin : begin + settings.batch_size]
                inputs, part = rows[: len(batch)], slice(starts[layer], starts[layer + 1])
                inputs[:, :-1] = X[batch]
                error = _softmax(inputs @ weight[part].T)
                error[np.arange(len(batch)), target[batch]] -= 1.0
                error /= len(batch)
                np.dot(error.T, inputs, out=state.gradient[part])
            state.step()
    parts = [weight[start:stop] for start, stop in itertools.pairwise(starts)]
    return [(part[:, :-1].copy(), part[:, -1].copy()) for part in parts]


class _AdamState:
    """Moments of Adam, and its step in place.

    The moments lack their factors (1 - beta), which are applied at the end: fewer passes over the arrays.
    """

    def __init__(self, weight: np.ndarray, settings: AdamSettings) -> None:
        self._weight, self._settings = weight, settings
        self.gradient = np.zeros_like(weight)
        self._first, self._second, self._scratch = (np.zeros_like(weight) for _ in range(3))
        self._n_steps = 0

    @np.errstate(over="ignore", invalid="ignore")  # features of diverged models overflow, and then say nothing
    def step(self) -> None:
        gradient, first, second, scratch = self.gradient, self._first, self._second, self._scratch
        self._n_steps += 1
        np.multiply(self._weight, np.float32(self._settings.weight_decay), out=scratch)
        gradient += scratch
        first *= np.float32(_BETA1)
        first += gradient
        second *= np.float32(_BETA2)
        gradient *= gradient
        second += gradient
        # lr * m / (sqrt(v) + eps) with both moments corrected, the constants drawn out of the arrays.
        root = math.sqrt((1 - _BETA2) / (1 - _BETA2**self._n_steps))
        rate = self._settings.lr * (1 - _BETA1) / (1 - _BETA1**self._n_steps)
        np.sqrt(second, out=scratch)
        scratch += np.float32(_EPS / root)
        np.divide(first, scratch, out=scratch)
        scratch *= np.float32(rate / root)
        self._weight -= scratch


def _softmax(logits: np.ndarray) -> np.ndarray:
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def _initial(n_classes: int, n_features: int, seed: int) -> tuple[torch.Generator, np.ndarray]:
    """A layer's generator, behind its initialisation, and its weights with the bias as last column."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weight, bias = torch.empty(n_classes, n_features), torch.empty(n_classes)
    # What torch draws when it makes the layer; drawn for the order of draws alone.
    for parameter in (weight, bias):
        parameter.uniform_(-1.0, 1.0, generator=generator)
    weight.normal_(0.0, math.sqrt(2.0 / n_features), generator=generator)
    return generator, np.hstack([weight.numpy(), np.full((n_classes, 1), _INITIAL_BIAS, dtype=np.float32)])


def _permutation(generator: torch.Generator, n: int) -> np.ndarray:
    import torch

    order: np.ndarray = torch.randperm(n, generator=generator).numpy()
    return order
