"""Networks that predict properties, their presets and early stopping; unknown and bounded targets, also of probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from zoobench.estimators import (
    LinearProbeClassifier,
    LinearProbeRegressor,
    PropertyClassifier,
    PropertyRegressor,
    WeightStatistics,
)
from zoobench.estimators.targets import Bounds

SMALL: dict[str, Any] = {"hidden_layer_sizes": (16,), "dropout": 0.0, "lr": 0.02, "batch_size": 32, "max_epochs": 40}


def problem(n: int = 160, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    return X, np.column_stack([X[:, 0] - X[:, 1], 1000 + 5 * np.abs(X[:, 2])])


# -- unknown targets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("penalize_intercept", [True, False])
def test_a_probe_leaves_unknown_targets_out_one_by_one(penalize_intercept: bool) -> None:
    """With NaN in several targets, each is fitted, penalty included, as it is alone on the rows that are known."""
    X, Y = problem(60)
    Y = np.column_stack([Y, Y[:, 0] ** 2, Y[:, 1]])
    Y[:20, 0] = Y[:20, 3] = Y[50:, 2] = np.nan
    groups = np.repeat(np.arange(20), 3)
    probe = LinearProbeRegressor(penalize_intercept=penalize_intercept).fit(X, Y, groups=groups)
    for i in range(4):
        rows = ~np.isnan(Y[:, i])
        alone = sklearn.clone(probe).fit(X[rows], Y[rows, i], groups=groups[rows])
        assert probe.alpha_[i] == alone.alpha_
        np.testing.assert_allclose(probe.alpha_scores_[:, i], alone.alpha_scores_, atol=1e-9)
        np.testing.assert_allclose(probe.coef_[i], alone.coef_, atol=1e-9)
        np.testing.assert_allclose(probe.predict(X)[:, i], alone.predict(X), rtol=1e-9)


def test_unknown_validation_targets_are_left_out_too() -> None:
    """NaN among the validation targets changes nothing but which rows a penalty is judged by."""
    X, Y = problem(80)
    held_out = Y[60:].copy()
    held_out[::2, 1] = np.nan
    probe = LinearProbeRegressor().fit(X[:60], Y[:60], X_val=X[60:], y_val=held_out)
    alone = LinearProbeRegressor().fit(X[:60], Y[:60, 1], X_val=X[61::2], y_val=Y[61::2, 1])
    np.testing.assert_allclose(probe.alpha_scores_[:, 1], alone.alpha_scores_, atol=1e-9)
    assert probe.alpha_[1] == alone.alpha_


def test_a_network_does_not_see_unknown_targets() -> None:
    """Rows without any target change nothing, and a target's gaps do not spoil the other target."""
    X, Y = problem()
    gaps = Y.copy()
    gaps[::4, 1] = np.nan
    model = PropertyRegressor(**SMALL, n_iter_no_change=None).fit(X, gaps)
    assert model.score(X, Y) > 0.9
    assert model.score(X, gaps) > 0.9
    half, doubled = Y[::2], np.full_like(Y, np.nan)
    doubled[::2] = half
    same = [
        PropertyRegressor(**SMALL, n_iter_no_change=None).fit(*data).predict(X)
        for data in ((X[::2], half), (X, doubled))
    ]
    np.testing.assert_allclose(same[0], same[1], rtol=1e-9)


@pytest.mark.parametrize("model", [LinearProbeRegressor(), PropertyRegressor(**SMALL)], ids=lambda m: type(m).__name__)
def test_a_target_that_is_never_known_is_an_error(model: Any) -> None:
    """The error says which target lacks values, and that unknown rows would be left out."""
    X, Y = problem(30)
    frame = pd.DataFrame(Y, columns=["test_acc", "ggap"]).assign(ggap=np.nan)
    with pytest.raises(ValueError, match="Input y contains NaN.*0 of 30 values of target 'ggap' are known"):
        model.fit(X, frame)
    with pytest.raises(ValueError, match="Input y contains NaN.*1 of 30 values are known"):
        model.fit(X, np.where(np.arange(30) == 3, 1.0, np.nan))
    with pytest.raises(ValueError, match="Input y_val contains NaN"):
        model.fit(X, Y, X_val=X, y_val=frame)
    with pytest.raises(ValueError, match="y_val has 1 targets, but y has 2"):
        model.fit(X, Y, X_val=X, y_val=Y[:, 0])


def test_the_score_is_that_of_known_targets() -> None:
    """With NaN in y, R2 is the mean over the targets of each one's own R2."""
    X, Y = problem(50)
    probe = LinearProbeRegressor().fit(X, Y)
    gaps = Y.copy()
    gaps[:10, 0] = np.nan
    parts = [LinearProbeRegressor().fit(X, Y[:, i]) for i in (0, 1)]
    expected = (parts[0].score(X[10:], Y[10:, 0]) + parts[1].score(X, Y[:, 1])) / 2
    assert probe.score(X, gaps) == pytest.approx(expected, abs=1e-9)
    assert probe.score(X, gaps, np.ones(50)) == pytest.approx(expected, abs=1e-9)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_bounded_probe_is_ridge_on_logits() -> None:
    """Coefficients are those of the logit; predictions lie between the bounds; R2 of the target chooses."""
    X, Y = problem(60)
    y = 2 + 3 * expit(Y[:, 0] + 0.1 * X[:, 5])
    probe = LinearProbeRegressor(bounds=(2, 5)).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    ridge = Ridge(probe.alpha_).fit(X[:40], logit((y[:40] - 2) / 3))
    np.testing.assert_allclose(probe.coef_, ridge.coef_, atol=1e-9)
    np.testing.assert_allclose(probe.predict(X), 2 + 3 * expit(ridge.predict(X)), atol=1e-9)
    assert probe.alpha_scores_[probe.alphas.index(probe.alpha_)] == pytest.approx(probe.score(X[40:], y[40:]))
    assert probe.alpha_scores_.max() == pytest.approx(probe.score(X[40:], y[40:]))
    far = probe.predict(100 * X)
    assert 2 <= far.min() < far.max() <= 5


def test_bounded_networks_stay_inside_and_take_targets_at_the_bound() -> None:
    """A sigmoid output predicts between the bounds, one target bounded and the other not."""
    X, Y = problem()
    Y[:, 0] = np.clip(Y[:, 0], 0, 1)
    model = PropertyRegressor(**SMALL, bounds=[(0, 1), None], n_iter_no_change=None).fit(X, Y)
    predicted = model.predict(10 * X)
    assert 0 <= predicted[:, 0].min() < predicted[:, 0].max() <= 1
    assert predicted[:, 1].max() > 1000
    assert model.score(X, Y) > 0.85


@given(low=st.floats(-5, 5), width=st.floats(0.1, 10), share=st.floats(0.001, 0.999))
@settings(max_examples=50)
def test_logits_lead_back(low: float, width: float, share: float) -> None:
    """To a logit and back is where one was, and the unbounded target stays untouched."""
    values = np.array([[low + share * width, 7.0]])
    bounds = Bounds([(low, low + width), None], values)
    np.testing.assert_allclose(bounds.narrow(bounds.widen(values)), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bounds", [(1, 0), (0, 1, 2), [(0, 1), None, None], 3, [None], (0, np.inf), "ab"])
def test_bounds_must_fit_the_targets(bounds: Any) -> None:
    """What is no pair of growing numbers, or not one a target, is refused."""
    X, Y = problem(10)
    with pytest.raises(ValueError, match="bounds"):
        LinearProbeRegressor(bounds=bounds).fit(X, Y)


def test_targets_outside_their_bounds_are_refused() -> None:
    """The value and the bounds are named; the published net has bounds of its own."""
    X, Y = problem(20)
    with pytest.raises(ValueError, match=r"y has the value 100\d.*, which is outside its bounds \(0, 1\)"):
        PropertyRegressor("unterthiner").fit(X, Y[:, 1])


# -- the networks ------------------------------------------------------------------------------------------------------


def test_the_published_net_is_as_published() -> None:
    """Four hidden layers of 301 units and a sigmoid; parameters that are given replace the preset's."""
    X, _ = problem(40)
    y = expit(X[:, 0])
    model = PropertyRegressor("unterthiner", max_epochs=2).fit(X, y)
    assert [coef.shape for coef in model.coefs_] == [(6, 301), (301, 301), (301, 301), (301, 301), (301, 1)]
    assert all(coef.dtype == np.float32 for coef in model.coefs_)
    far = model.predict(1e6 * X)
    assert 0 <= far.min() <= far.max() <= 1
    other = PropertyRegressor("unterthiner", hidden_layer_sizes=(5,), bounds=(-1, 3), max_epochs=1).fit(X, 3 * y - 1)
    assert [coef.shape for coef in other.coefs_] == [(6, 5), (5, 1)]


def test_statnn_is_the_network_on_layer_statistics() -> None:
    """The preset computes the statistics with minimum and maximum itself, in prediction as in training."""
    rng = np.random.default_rng(0)
    spread = rng.uniform(0.2, 1, 40)
    X = (rng.normal(size=(40, 2464)) * spread[:, None]).astype(np.float32)
    features = WeightStatistics("cnn_s", preset="unterthiner").fit_transform(X)
    for cls, y in ((PropertyRegressor, spread), (PropertyClassifier, np.where(spread > 0.6, "wide", "narrow"))):
        statnn = cls("statnn", layout="cnn_s", max_epochs=3).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
        mlp = cls(max_epochs=3).fit(features[:30], y[:30], X_val=features[30:], y_val=y[30:])
        assert statnn.history_["validation_loss"] == pytest.approx(mlp.history_["validation_loss"], rel=1e-4)
        found, expected = (model.predict(inputs) for model, inputs in ((statnn, X), (mlp, features)))
        if cls is PropertyRegressor:
            np.testing.assert_allclose(found, expected, rtol=1e-4)
        else:
            assert found.tolist() == expected.tolist()
        assert statnn.layout_.n_weights == 2464


def test_predictions_are_those_of_the_network_that_was_trained() -> None:
    """The float64 forward pass agrees with the loss that training has seen."""
    X, Y = problem()
    model = PropertyRegressor(**SMALL).fit(X[:100], Y[:100], X_val=X[100:], y_val=Y[100:])
    errors = (model.predict(X[100:]) - Y[100:]) / Y[:100].std(axis=0)
    assert np.mean(errors**2) == pytest.approx(min(model.history_["validation_loss"]), rel=1e-4)
    classes = np.where(Y[:, 0] > 0, "tanh", "relu")
    classifier = PropertyClassifier(**SMALL | {"lr": 0.05})
    classifier.fit(X[:100], classes[:100], X_val=X[100:], y_val=classes[100:])
    probabilities = classifier.predict_proba(X[100:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    right = probabilities[np.arange(60), np.searchsorted(classifier.classes_, classes[100:])]
    assert -np.log(right).mean() == pytest.approx(min(classifier.history_["validation_loss"]), rel=1e-4)
    assert classifier.score(X[100:], classes[100:]) > 0.9


def test_diverged_models_do_not_spoil_the_features() -> None:
    """A few rows of absurd size leave the others as predictable as before, and are predicted by finite numbers."""
    X, Y = problem()
    wild = X.copy()
    wild[::40] *= 1e12
    model = PropertyRegressor(**SMALL, n_iter_no_change=None).fit(wild, Y)
    tame = np.arange(len(X)) % 40 != 0
    assert model.score(wild[tame], Y[tame]) > 0.85
    assert np.abs(model.predict(wild)).max() < 2000


def test_groups_are_held_out_as_a_whole() -> None:
    """The validation loss with groups is that of networks that were not trained on: larger than for rows."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 6)
    X = rng.normal(size=(30, 20))[groups] + 0.01 * rng.normal(size=(180, 20))
    y = rng.normal(size=30)[groups]  # nothing to learn about other networks
    by_group = PropertyRegressor(**SMALL).fit(X, y, groups=groups)
    by_row = PropertyRegressor(**SMALL).fit(X, y)
    assert min(by_row.history_["validation_loss"]) < 0.3 < min(by_group.history_["validation_loss"])
    with pytest.raises(ValueError, match="at least 2"):
        PropertyRegressor(**SMALL).fit(X, y, groups=np.zeros(180))


def test_a_pipeline_passes_validation_data_through_its_transformers() -> None:
    """With metadata routing X_val reaches the network transformed: the result is that of doing so by hand."""
    X, Y = problem(80)
    with sklearn.config_context(enable_metadata_routing=True):
        network = PropertyRegressor(**SMALL | {"max_epochs": 3}).set_fit_request(X_val=True, y_val=True, groups=True)
        steps = [("scale", StandardScaler()), ("network", network)]
        pipeline = Pipeline(steps, transform_input=["X_val"]).fit(X[:60], Y[:60], X_val=X[60:], y_val=Y[60:])
    scaler = StandardScaler().fit(X[:60])
    by_hand = PropertyRegressor(**SMALL | {"max_epochs": 3})
    by_hand.fit(scaler.transform(X[:60]), Y[:60], X_val=scaler.transform(X[60:]), y_val=Y[60:])
    np.testing.assert_array_equal(pipeline.predict(X), by_hand.predict(scaler.transform(X)))


def test_classes_that_training_lacks_are_not_looked_at() -> None:
    """A class that only validation data have does not stop the training, and is never predicted."""
    X, Y = problem(80)
    y = np.where(Y[:, 0] > 0, "tanh", "relu").astype(object)
    y[70:] = "gelu"
    model = PropertyClassifier(**SMALL).fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    assert model.classes_.tolist() == ["relu", "tanh"]
    assert np.isfinite(model.history_["validation_loss"]).all()
    with pytest.raises(ValueError, match=r"only one class \(tanh\)"):
        PropertyClassifier(**SMALL).fit(X[:5], ["tanh"] * 5)


@pytest.mark.parametrize("sizes", [(0,), (8, -1), (2.5,)])
def test_layer_sizes_must_be_positive_integers(sizes: tuple[float, ...]) -> None:
    """What is no number of units is refused by name."""
    X, Y = problem(10)
    with pytest.raises(ValueError, match="hidden_layer_sizes must be positive integers"):
        PropertyRegressor(hidden_layer_sizes=sizes).fit(X, Y)


def test_an_interrupted_fit_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who interrupts a second fit is left with an estimator that says so, never with parts of two."""
    X = np.random.default_rng(0).normal(size=(40, 5))
    model = PropertyRegressor(max_epochs=2, random_state=0).fit(X, X[:, 0])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zoobench.estimators.mlp.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(100 * X, X[:, 1])
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("cls", [PropertyClassifier, LinearProbeClassifier])
def test_validation_classes_may_stand_in_a_column(cls: Any) -> None:
    """As classes of training rows may, with scikit-learn's warning; several columns are refused."""
    X, Y = problem()
    classes = np.where(Y[:, 0] > 0, "yes", "no")
    short = SMALL | {"max_epochs": 3} if cls is PropertyClassifier else {}
    flat = cls(**short).fit(X[:100], classes[:100], X_val=X[100:], y_val=classes[100:])
    with pytest.warns(DataConversionWarning):
        column = cls(**short).fit(X[:100], classes[:100], X_val=X[100:], y_val=classes[100:, None])
    assert np.array_equal(flat.predict_proba(X), column.predict_proba(X))
    several = np.column_stack([classes, classes])
    with pytest.raises(ValueError, match=r"y_val must have one class a row, but its shape is \(60, 2\)"):
        cls(**short).fit(X[:100], classes[:100], X_val=X[100:], y_val=several[100:])


def test_validation_data_of_other_classes_alone_are_refused() -> None:
    """Before anything is trained: their loss would be NaN, which is not the learning rate's fault."""
    X, Y = problem()
    classes = np.where(Y[:, 0] > 0, "yes", "no")
    with pytest.raises(ValueError, match=r"y_val has none of the classes of y \(no, yes\) but maybe: .* groups"):
        PropertyClassifier(**SMALL).fit(X, classes, X_val=X[:5], y_val=np.full(5, "maybe"))
