"""The network that predicts properties from features: its presets, its training, its output."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from zoobench.estimators.held_out import check_groups
from zoobench.estimators.ridge import row_blocks
from zoobench.estimators.statistics import layer_statistics
from zoobench.estimators.torch_training import SeededDropout, seeded, to_arrays, train
from zoobench.layout import WeightLayout, resolve_layout


class MlpPreset(NamedTuple):
    """Settings that an estimator's parameters replace where they are not None."""

    hidden_layer_sizes: tuple[int, ...]
    dropout: float
    lr: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    schedule: str | None
    sigmoid: bool
    on_statistics: bool


#: One cycle of learning rates reaches in forty epochs what a constant rate takes hundreds for.
_OURS = MlpPreset((256, 256), 0.1, 3e-3, 1e-4, 128, 40, "onecycle", sigmoid=False, on_statistics=False)

PRESETS = {
    "mlp": _OURS,
    "statnn": _OURS._replace(on_statistics=True),
    "unterthiner": MlpPreset((301,) * 4, 0.107, 2.33e-3, 0.0, 512, 300, None, sigmoid=True, on_statistics=False),
}

#: What StatNN describes layers by: mean, variance, and percentiles 0, 25, 50, 75 and 100 of weights and biases.
_STATISTICS = "unterthiner"

#: In units of a feature's interquartile range. Of Holzmueller et al., arXiv:2407.04491, like the way to scale.
_CLIP = 3.0

#: Loss of some rows, given what the network says about them.
OutputLoss = Callable[[Tensor, Tensor], Tensor]


class BasePropertyNetwork(BaseEstimator):
    """A multi-layer perceptron on scaled features; a subclass says what its outputs mean."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "preset": [StrOptions(set(PRESETS))],
        "layout": [WeightLayout, str, None],
        "hidden_layer_sizes": ["array-like", None],
        "dropout": [Interval(Real, 0, 1, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    preset: str
    layout: WeightLayout | str | None
    hidden_layer_sizes: Any
    max_epochs: int | None
    validation_fraction: float
    n_iter_no_change: int | None
    device: str
    random_state: Any
    verbose: int

    def _setting(self, name: str) -> Any:
        """A parameter, or what the preset says where it is None."""
        value = getattr(self, name)
        return getattr(PRESETS[self.preset], name) if value is None else value

    def _features(self, X: np.ndarray) -> np.ndarray:
        """What the network sees of X, before they are scaled."""
        return X if self.layout_ is None else layer_statistics(X, self.layout_, _STATISTICS)

    def _split(self, rows: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Which rows to train on and which to hold out: whole groups, or rows where there are no groups."""
        if self.n_iter_no_change is None:
            return rows, rows[:0]
        units = rows if groups is None else check_groups(groups[rows], len(rows))
        splitter = GroupShuffleSplit(1, test_size=self.validation_fraction, random_state=seed)
        kept, held = next(splitter.split(rows, groups=units))
        return rows[kept], rows[held]

    def _train(
        self,
        X: np.ndarray,
        n_outputs: int,
        rows: tuple[np.ndarray, np.ndarray],
        loss: OutputLoss,
        validation: tuple[np.ndarray, OutputLoss] | None = None,
        *,
        seed: int,
        device: str,
    ) -> None:
        """Scale by the training rows, train, and keep the weights.

        ``loss(outputs, numbers)`` is that of rows by their number in X; of them ``rows`` are to be trained on and to be
        held out. ``validation`` is other data to hold out instead, and the loss of its rows.
        """
        # Whoever interrupts a fit is left with an estimator that is not fitted, never with parts of two fits.
        if hasattr(self, "coefs_"):
            delattr(self, "coefs_")
        self.layout_ = resolve_layout(self.layout, X.shape[1]) if PRESETS[self.preset].on_statistics else None
        features = self._features(X)
        kept, held = rows
        self.feature_centre_, self.feature_scale_ = _centre_and_scale(features, kept)
        sizes = (features.shape[1], *self._setting("hidden_layer_sizes"), n_outputs)
        if not all(isinstance(size, Integral) and int(size) > 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be positive integers, not {self.hidden_layer_sizes!r}")
        network = seeded(lambda: _perceptron(sizes, self._setting("dropout")), seed)
        inputs = self._inputs(features).to(device)
        numbers = torch.from_numpy(kept).to(device)

        def batch_loss(batch: Tensor, generator: torch.Generator) -> Tensor:
            chosen = numbers[batch]
            return loss(network(inputs[chosen]), chosen)

        if validation is not None:
            watched, watched_loss = self._inputs(self._features(validation[0])), validation[1]
            held = np.arange(len(watched))
        else:
            watched, watched_loss = inputs[torch.from_numpy(held)], loss
        watched, held_numbers = watched.to(device), torch.from_numpy(held).to(device)
        self.history_ = train(
            network,
            batch_loss,
            len(kept),
            max_epochs=self._setting("max_epochs"),
            batch_size=self._setting("batch_size"),
            lr=self._setting("lr"),
            weight_decay=self._setting("weight_decay"),
            seed=seed,
            device=device,
            optimizer="adamw",
            schedule=PRESETS[self.preset].schedule,
            validation_loss=(lambda: watched_loss(network(watched), held_numbers)) if len(held) else None,
            n_iter_no_change=self.n_iter_no_change,
            n_threads=1,  # so small a network trains faster so, and equally on any machine
            verbose=self.verbose,
            description=type(self).__name__,
        )
        self.n_iter_ = len(self.history_["loss"])
        arrays = list(to_arrays(network).values())
        self.coefs_, self.intercepts_ = [array.T.copy() for array in arrays[::2]], arrays[1::2]

    def _scaled(self, features: np.ndarray) -> np.ndarray:
        """In units of their spread, and clipped smoothly at three of them."""
        values = (features - self.feature_centre_) / self.feature_scale_
        return values / np.sqrt(1 + np.square(values / _CLIP))

    def _inputs(self, features: np.ndarray) -> Tensor:
        """In float32, as they are trained on."""
        result = np.empty(features.shape, dtype=np.float32)
        for rows in row_blocks(len(features), features.shape[1]):
            result[rows] = self._scaled(features[rows])
        return torch.from_numpy(result)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the network says, in float64: shape (n_samples, n_outputs)."""
        check_is_fitted(self, "coefs_")
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        features = self._features(X)
        weights = [(coef.astype(np.float64), bias) for coef, bias in zip(self.coefs_, self.intercepts_, strict=True)]
        result = np.empty((len(features), len(self.intercepts_[-1])))
        for rows in row_blocks(len(features), max(coef.shape[0] for coef in self.coefs_)):
            values = self._scaled(features[rows])
            for number, (coef, bias) in enumerate(weights):
                values = (np.maximum(values, 0) if number else values) @ coef + bias
            result[rows] = values
        return result


def _perceptron(sizes: tuple[int, ...], dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU(), SeededDropout(dropout)]
    return nn.Sequential(*layers[:-2])


def _centre_and_scale(features: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and interquartile range of each feature over some rows.

    Diverged models have weights of any size: they would decide about a mean and a variance, and nothing else.
    """
    centre, scale = np.empty(features.shape[1]), np.empty(features.shape[1])
    for columns in row_blocks(features.shape[1], len(kept)):
        values = features[kept, columns].astype(np.float64)
        low, centre[columns], high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        spread, span = high - low, np.ptp(values, axis=0)
        # Half the span where most rows agree. A constant is itself but for rounding, which is not to be blown up.
        scale[columns] = np.where(spread > 0, spread, np.where(span > 1e-7 * np.abs(high), span / 2, 1.0))
    return centre, scale
