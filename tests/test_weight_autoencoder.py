"""The perceptron autoencoder of weight vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from zoobench import WeightLayout
from zoobench.estimators import WeightAutoencoder

LAYOUT = WeightLayout([("a.weight", (4, 3), "linear"), ("a.bias", (4,), "linear"), ("b.weight", (2, 4), "linear")])

#: As small and short as shows what is to be shown.
QUICK: dict[str, Any] = {"latent_dim": 4, "hidden_layer_sizes": (32,), "max_epochs": 5, "batch_size": 16}


def weights(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, LAYOUT.n_weights)).astype(np.float32)


def curved(n: int, seed: int = 0) -> np.ndarray:
    """Weights on a curve that no plane of two dimensions comes close to."""
    t = np.random.default_rng(seed).uniform(0, 2 * np.pi, size=(n, 1))
    return np.cos(t * np.repeat([1, 2, 3], 8) + np.arange(24))


def test_it_bends_where_components_are_straight() -> None:
    """Held-out weights on a curve come back from two numbers better than from two principal components."""
    X, held = curved(400), curved(100, seed=1)
    settings = {"latent_dim": 2, "hidden_layer_sizes": (64, 64), "max_epochs": 40, "lr": 1e-2}
    model = WeightAutoencoder(LAYOUT, **settings).fit(X, X_val=curved(50, seed=2))
    pca = PCA(2).fit(X)
    missed = np.square(held - pca.inverse_transform(pca.transform(held))).sum() / np.square(held - X.mean(axis=0)).sum()
    assert model.score(held) > 0.9 > 1 - missed + 0.2


def test_the_decoder_mirrors_the_encoder() -> None:
    """The layers of the decoder have the sizes of the encoder's in reverse."""
    model = WeightAutoencoder(LAYOUT, **{**QUICK, "hidden_layer_sizes": (16, 8), "max_epochs": 1}).fit(weights(10))
    shapes = {name: value.shape for name, value in model.weights_.items() if name.endswith("weight")}
    encoder = [shape for name, shape in shapes.items() if name.startswith("encoder")]
    decoder = [shape for name, shape in shapes.items() if name.startswith("decoder")]
    assert encoder == [(16, 24), (8, 16), (4, 8)]
    assert decoder == [shape[::-1] for shape in encoder[::-1]]


def test_units_are_those_of_the_layers() -> None:
    """Each layer is measured by its own mean and standard deviation over the training rows, or all by the same."""
    X = weights(50) * np.repeat([1.0, 100.0], [16, 8])
    by_layer = WeightAutoencoder(LAYOUT, n_iter_no_change=None, **QUICK).fit(X)
    for layer in LAYOUT.layers:
        assert np.unique(by_layer.scale_[layer.slice]) == pytest.approx(X[:, layer.slice].std())
        assert np.unique(by_layer.shift_[layer.slice]) == pytest.approx(X[:, layer.slice].mean())
    common = WeightAutoencoder(LAYOUT, n_iter_no_change=None, layer_norm_loss=False, **QUICK).fit(X)
    assert np.unique(common.scale_) == pytest.approx(X.std())


def test_training_without_early_stopping_uses_every_row() -> None:
    """With `n_iter_no_change=None` nothing is held out, unless validation data is given."""
    X = weights(20)
    model = WeightAutoencoder(LAYOUT, n_iter_no_change=None, **QUICK).fit(X)
    assert set(model.history_) == {"loss"} and model.n_iter_ == QUICK["max_epochs"]
    np.testing.assert_allclose(model.mean_, X.mean(axis=0), atol=1e-6)
    assert "validation_loss" in model.fit(X, X_val=weights(5, seed=1)).history_
    assert "validation_loss" in WeightAutoencoder(LAYOUT, **QUICK).fit(X).history_


def test_early_stopping_ends_training() -> None:
    """Noise cannot be compressed: training stops long before its last epoch."""
    settings = {**QUICK, "max_epochs": 500, "n_iter_no_change": 5, "lr": 0.01, "schedule": None}
    model = WeightAutoencoder(LAYOUT, **settings).fit(weights(40), X_val=weights(40, seed=1))
    assert model.n_iter_ < 200
    assert int(np.argmin(model.history_["validation_loss"])) == model.n_iter_ - 6


def test_validation_data_comes_through_a_pipeline() -> None:
    """In a pipeline, X_val goes through the steps before and reaches the autoencoder."""
    X, held = weights(20), weights(9, seed=1)
    halve = FunctionTransformer(lambda values: values / 2)
    with sklearn.config_context(enable_metadata_routing=True):
        model = WeightAutoencoder(LAYOUT, **QUICK).set_fit_request(X_val=True)
        pipeline = Pipeline([("halve", halve), ("model", model)], transform_input=["X_val"]).fit(X, X_val=held)
    direct = WeightAutoencoder(LAYOUT, **QUICK).fit(X / 2, X_val=held / 2)
    assert pipeline["model"].history_ == direct.history_


def test_what_cannot_be_fitted_is_said() -> None:
    """Sizes that are no sizes are named; data on which training diverges gives an error, not numbers."""
    with pytest.raises(ValueError, match=r"hidden_layer_sizes must be positive integers, not \(8, 0\)"):
        WeightAutoencoder(LAYOUT, hidden_layer_sizes=(8, 0)).fit(weights(10))
    with pytest.raises(ValueError, match="smaller lr than 1e\\+30"):
        WeightAutoencoder(LAYOUT, **{**QUICK, "lr": 1e30, "schedule": None, "n_iter_no_change": None}).fit(weights(40))
