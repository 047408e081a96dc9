"""What autoencoders of weights share: units of the weights, validation data, training, and running the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import nn

from zoobench.estimators.held_out import check_groups
from zoobench.estimators.tokens import WeightTokens
from zoobench.estimators.torch_training import Loss, load_arrays, resolve_device, seed_of, seeded, to_arrays, train
from zoobench.layout import WeightLayout, resolve_layout
from zoobench.warning import warn_user

#: Rows that go through a network at a time, and numbers: memory does not grow beyond that.
_BLOCK_ROWS, _BLOCK_NUMBERS = 256, 1 << 22

#: A state whose largest weight is that many times the usual one is no network that was trained to an end.
_OUTLIER = 1e3

#: Loss of some rows of weights, which are in the networks' units: (n_rows, n_weights) and a generator for noise.
ViewLoss = Callable[[torch.Tensor, torch.Generator], Loss]


#: Of the parameters that all autoencoders have.
TRAINING_CONSTRAINTS: dict[str, list[Any]] = {
    "layout": [WeightLayout, str, None],
    "latent_dim": [Interval(Integral, 1, None, closed="left")],
    "layer_norm_loss": ["boolean"],
    "max_epochs": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "lr": [Interval(Real, 0, None, closed="neither")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions({"onecycle", "cosine"}), None],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), None],
    "device": [str],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


class BaseAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """An encoder and a decoder that are trained together, and see weights in units of their layer's spread.

    A subclass has the parameters that are read here, and says which networks there are and what they minimise.
    """

    layout: WeightLayout | str | None
    latent_dim: int
    layer_norm_loss: bool
    max_epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    schedule: str | None
    validation_fraction: float
    n_iter_no_change: int | None
    device: str
    random_state: Any
    verbose: int

    weights_: dict[str, np.ndarray]

    def _networks(self, layout: WeightLayout) -> nn.ModuleDict:
        """New networks ``"encoder"`` and ``"decoder"``, and what else is trained with them."""
        raise NotImplementedError

    def _loss(self, networks: nn.ModuleDict, layout: WeightLayout, device: str) -> ViewLoss:
        """What is minimised."""
        raise NotImplementedError

    @property
    def _reconstructs(self) -> bool:
        """Whether reconstruction has a part in the loss, and so can say when to stop."""
        return True

    def _fit(self, X: Any, groups: Any, X_val: Any) -> None:
        # Whoever interrupts a fit is left with an estimator that is not fitted, never with parts of two fits.
        if hasattr(self, "weights_"):
            del self.weights_
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        _warn_of_outliers(X)
        layout = resolve_layout(self.layout, X.shape[1])
        device, seed = resolve_device(self.device), seed_of(self.random_state)
        if X_val is not None:
            X_val = validate_data(self, X_val, dtype=[np.float64, np.float32], reset=False)
        elif self.n_iter_no_change is not None and self._reconstructs:
            X, X_val = held_out(X, check_groups(groups, len(X)), self.validation_fraction, seed)
        self.layout_ = layout
        self.mean_ = np.asarray(X.mean(axis=0, dtype=np.float64))
        self.shift_, self.scale_ = _units(X, self.mean_, layout, by_layer=self.layer_norm_loss)
        networks = seeded(lambda: self._networks(layout), seed).to(device)
        loss = self._loss(networks, layout, device)
        weights = self._in_units(X, device)
        # A decoder that is not trained tells nothing about when to stop.
        watched = None if X_val is None or not self._reconstructs else self._in_units(X_val, device)
        self.history_ = train(
            networks,
            lambda rows, generator: loss(weights[rows], generator),
            len(weights),
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
            seed=seed,
            device=device,
            schedule=self.schedule,
            validation_loss=None if watched is None else lambda: _reconstruction_loss(networks, watched),
            n_iter_no_change=self.n_iter_no_change,
            verbose=self.verbose,
            description=type(self).__name__,
        )
        self.n_iter_ = len(self.history_["loss"])
        self.weights_ = to_arrays(nn.ModuleDict({name: networks[name] for name in ("encoder", "decoder")}))

    def transform(self, X: Any) -> np.ndarray:
        """Latent vectors.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states, latent_dim), of the dtype of X

        Raises
        ------
        ValueError
            If a state's weights are so large that the networks' numbers overflow.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        encode = self._run("encoder", X.dtype)
        latents = np.concatenate([encode((X[rows] - self.shift_) / self.scale_) for rows in _blocks(X.shape)])
        _require_finite(latents, X, "latent vector")
        return latents

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Weight vectors of latent vectors.

        Parameters
        ----------
        X : array-like of shape (n_states, latent_dim)
            Latent vectors, such as those of :meth:`transform`.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X

        Raises
        ------
        ValueError
            If the length is wrong, or a latent vector is so large that the networks' numbers overflow.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32])
        if X.shape[1] != self._n_features_out:
            raise ValueError(f"X has {X.shape[1]} columns, but latent vectors have {self._n_features_out} numbers")
        decode = self._run("decoder", X.dtype)
        found = np.empty((len(X), len(self.scale_)), dtype=X.dtype)
        for rows in _blocks(found.shape):
            found[rows] = decode(X[rows]) * self.scale_ + self.shift_
        _require_finite(found, X, "weight vector")
        return found

    def score(self, X: Any, y: Any = None) -> float:
        """R2 of the reconstruction, over all weights at once.

        Errors, and distances from the mean of the training zoo, are in the units of the loss: with
        ``layer_norm_loss`` each layer counts by its own spread.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        float
            1 for a perfect reconstruction, 0 for one that is as far off as the training zoo's mean.

        Raises
        ------
        ValueError
            If a state's weights are so large that the networks' numbers overflow.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        residual = total = 0.0
        encode, decode = self._run("encoder", X.dtype), self._run("decoder", X.dtype)
        for rows in _blocks(X.shape):
            seen = (X[rows] - self.shift_) / self.scale_
            again = decode(encode(seen))
            _require_finite(again, X[rows], "reconstruction")
            residual += np.square(seen - again).sum()
            total += np.square((X[rows] - self.mean_) / self.scale_).sum()
        return float(1 - residual / total) if total else float(residual == 0)

    def _run(self, part: str, dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
        """One of the fitted networks as a function of arrays, which computes in a dtype."""
        device = resolve_device(self.device)
        # New networks draw their first weights, whatever becomes of them.
        whole = seeded(lambda: self._networks(self.layout_), 0)
        kept = nn.ModuleDict({name: whole[name] for name in ("encoder", "decoder")})
        network = load_arrays(kept, self.weights_)[part].to(device, torch.from_numpy(np.empty(0, dtype)).dtype)

        def run(values: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                found = network(torch.from_numpy(values.astype(dtype, copy=False)).to(device))
            return np.asarray(found.cpu().numpy())

        return run

    def _in_units(self, X: np.ndarray, device: str) -> torch.Tensor:
        """The weights as the networks see them while they are trained: float32, on the device."""
        found = np.empty(X.shape, dtype=np.float32)
        for rows in _blocks(X.shape):
            found[rows] = (X[rows] - self.shift_) / self.scale_
        return torch.from_numpy(found).to(device)

    @property
    def _n_features_out(self) -> int:
        return self.latent_dim

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    step = min(_BLOCK_ROWS, max(1, _BLOCK_NUMBERS // shape[1]))
    return (slice(start, start + step) for start in range(0, shape[0], step))


def _units(X: np.ndarray, mean: np.ndarray, layout: WeightLayout, *, by_layer: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each layer's weights over all states, or of all weights, one number a column."""
    groups = [group.columns.ravel() for group in WeightTokens(layout).groups]
    if not by_layer:
        groups = [np.concatenate(groups)]
    shift, square = np.empty_like(mean), np.zeros_like(mean)
    for columns in groups:
        shift[columns] = mean[columns].mean()
    for rows in _blocks(X.shape):
        square += np.square(X[rows] - shift).sum(axis=0)
    scale = np.empty_like(mean)
    for columns in groups:
        scale[columns] = np.sqrt(square[columns].mean() / len(X))
    # What never varies, such as a count of batches, is right as soon as its mean is.
    return shift, np.where(scale > 0, scale, 1.0)


def held_out(X: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation rows: whole groups are held out, or rows where there are no groups.

    Parameters
    ----------
    X : ndarray of shape (n_states, n_weights)
        All rows.
    groups : ndarray of shape (n_states,) or None
        Group of each row.
    fraction : float
        Share of the groups that are held out, rounded up.
    seed : int
        Which ones.

    Returns
    -------
    training, validation : ndarray
        Copies of the rows, in their order.
    """
    groups = np.arange(len(X)) if groups is None else groups
    splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    train_rows, held_rows = next(splitter.split(X, groups=groups))
    return X[train_rows], X[held_rows]


def _reconstruction_loss(networks: nn.ModuleDict, weights: torch.Tensor) -> float:
    """Mean squared error of unchanged weights."""
    total = 0.0
    for block in weights.split(_BLOCK_ROWS):
        total += float((networks["decoder"](networks["encoder"](block)) - block).square().sum())
    return total / weights.numel()


def _require_finite(found: np.ndarray, X: np.ndarray, what: str) -> None:
    """Name the first row whose numbers are too large for the networks, which would otherwise become NaN unsaid."""
    lost = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(lost):
        peak = float(np.abs(X[lost[0]]).max())
        raise ValueError(
            f"the {what} of {len(lost)} of the rows of X is not finite in {found.dtype}: the first has numbers up to "
            f"{peak:.3g}, too large for the networks. Leave such rows out, as fetch_zoo and load_zoo leave out states "
            "by max_abs_weight"
        )


def _warn_of_outliers(X: np.ndarray) -> None:
    """Networks that diverged, but not to infinity, take over the units in which all others are measured."""
    peaks = np.maximum(X.max(axis=1), -X.min(axis=1))
    far = int((peaks > _OUTLIER * np.median(peaks)).sum())
    if far:
        warn_user(
            f"{far} of {len(X)} states have weights more than {_OUTLIER:g} times as large as is usual among them: what "
            "is learnt would be about these alone. fetch_zoo and load_zoo leave them out by max_abs_weight"
        )
