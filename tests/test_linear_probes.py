"""Linear probes: how a penalty is chosen, what the benchmark's classifier computes, and how both sit in pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from zoobench.estimators import LinearProbeClassifier, LinearProbeRegressor, WeightStatistics
from zoobench.estimators.adam import AdamSettings, train_linear_layers
from zoobench.estimators.held_out import stratified_folds


def states(n_models: int = 30, n_epochs: int = 4, n_features: int = 40, seed: int = 0) -> dict[str, Any]:
    """States of networks: those of one network are alike, in X and in y, beyond what X tells about y."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_models), n_epochs)
    X = rng.normal(size=(n_models, n_features))[groups] + 0.1 * rng.normal(size=(len(groups), n_features))
    y = X[:, 0] + 1.5 * rng.normal(size=n_models)[groups] + 0.05 * rng.normal(size=len(groups))
    return {"X": X, "y": y, "groups": groups}


# -- regression --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_features", [5, 200])
def test_regression_is_ridge(n_features: int) -> None:
    """With one penalty the probe is scikit-learn's ridge regression."""
    data = states(n_features=n_features)
    probe = LinearProbeRegressor([0.7]).fit(data["X"], data["y"])
    ridge = Ridge(0.7).fit(data["X"], data["y"])
    np.testing.assert_allclose(probe.coef_, ridge.coef_, atol=1e-9)
    np.testing.assert_allclose(probe.predict(data["X"]), ridge.predict(data["X"]), atol=1e-9)
    assert probe.alpha_ == 0.7


def test_penalised_intercept_is_a_column_of_ones() -> None:
    """On request the intercept is a coefficient like any other: ridge on [X, 1] without an intercept."""
    data = states()
    probe = LinearProbeRegressor([3.0], penalize_intercept=True).fit(data["X"], data["y"] + 10)
    ones = np.ones((len(data["X"]), 1))
    ridge = Ridge(3.0, fit_intercept=False).fit(np.hstack([data["X"], ones]), data["y"] + 10)
    np.testing.assert_allclose(np.append(probe.coef_, probe.intercept_), ridge.coef_, atol=1e-9)


def test_validation_data_choose_a_penalty_for_each_target_and_do_not_train() -> None:
    """Each target gets the penalty with the best R2 on the validation data; coefficients come from X alone."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 30))
    Y = np.column_stack([X[:, 0], X[:, 0] + 3 * rng.normal(size=60), 5 * rng.normal(size=60)])
    probe = LinearProbeRegressor().fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:])
    scores = np.array(
        [
            1 - ((Ridge(alpha).fit(X[:40], Y[:40]).predict(X[40:]) - Y[40:]) ** 2).mean(axis=0) / Y[40:].var(axis=0)
            for alpha in probe.alphas
        ]
    )
    np.testing.assert_allclose(probe.alpha_scores_, scores, atol=1e-8)
    assert probe.alpha_.tolist() == np.array(probe.alphas)[scores.argmax(axis=0)].tolist()
    assert len(set(probe.alpha_)) > 1
    for i in range(3):
        np.testing.assert_allclose(probe.coef_[i], Ridge(probe.alpha_[i]).fit(X[:40], Y[:40, i]).coef_, atol=1e-8)


def test_groups_are_held_out_as_a_whole() -> None:
    """With groups, penalties are scored by models that have not seen the network: stronger ones than for rows."""
    data = states()
    by_group = LinearProbeRegressor().fit(data["X"], data["y"], groups=data["groups"])
    by_row = LinearProbeRegressor().fit(data["X"], data["y"])
    i = by_group.alphas.index(10.0)
    held_out = np.empty_like(data["y"])
    for train, test in GroupKFold(30).split(data["X"], groups=data["groups"]):
        held_out[test] = Ridge(10.0).fit(data["X"][train], data["y"][train]).predict(data["X"][test])
    expected = 1 - np.mean((held_out - data["y"]) ** 2) / data["y"].var()
    assert by_group.alpha_scores_[i] == pytest.approx(expected, abs=1e-8)
    assert by_group.alpha_ > by_row.alpha_
    assert by_group.alpha_scores_.max() < by_row.alpha_scores_.max()


def test_validation_data_come_before_groups() -> None:
    """If both are given, validation data decide."""
    data = states()
    validation = {"X_val": data["X"][:20], "y_val": data["y"][:20]}
    both = LinearProbeRegressor().fit(data["X"][20:], data["y"][20:], groups=data["groups"][20:], **validation)
    alone = LinearProbeRegressor().fit(data["X"][20:], data["y"][20:], **validation)
    np.testing.assert_array_equal(both.alpha_scores_, alone.alpha_scores_)


@pytest.mark.parametrize("alphas", [(1e3, 1e-5), (1e-5, 1e3)])
def test_the_first_of_equally_good_penalties_wins(alphas: Sequence[float]) -> None:
    """Penalties that predict equally well are chosen in the order in which they are listed."""
    X, y = np.zeros((10, 2)), np.arange(10.0)
    probe = LinearProbeRegressor(alphas).fit(X, y, X_val=X, y_val=y)
    assert probe.alpha_ == alphas[0]


def test_predictions_are_float64_and_do_not_overflow_float32() -> None:
    """A float32 X is predicted in float64, as accurately as its float64 copy."""
    data = states(n_features=300)
    X = data["X"].astype(np.float32)
    probe = LinearProbeRegressor([1e-5]).fit(X, data["y"])
    assert probe.predict(X).dtype == np.float64
    double = LinearProbeRegressor([1e-5]).fit(X.astype(np.float64), data["y"])
    np.testing.assert_allclose(probe.predict(X), double.predict(X.astype(np.float64)), rtol=1e-9)


# -- classification ----------------------------------------------------------------------------------------------------


def classes(data: dict[str, Any], n_classes: int = 3) -> np.ndarray:
    """A class a row, from X and with some noise."""
    score = data["X"][:, 0] + 0.5 * data["X"][:, 1]
    return np.array(["relu", "sigmoid", "tanh", "gelu"])[
        np.searchsorted(np.quantile(score, np.arange(1, n_classes) / n_classes), score)
    ]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classification_is_logistic_regression(n_classes: int) -> None:
    """With one penalty the probe is scikit-learn's logistic regression, probabilities included."""
    data = states()
    y = classes(data, n_classes)
    probe = LinearProbeClassifier(alphas=[2.0]).fit(data["X"], y)
    logistic = LogisticRegression(C=0.5, max_iter=1000).fit(data["X"], y)
    np.testing.assert_allclose(probe.predict_proba(data["X"]), logistic.predict_proba(data["X"]), atol=1e-6)
    np.testing.assert_array_equal(probe.predict(data["X"]), logistic.predict(data["X"]))


def test_validation_data_choose_the_penalty_by_accuracy() -> None:
    """The first of the most accurate penalties is taken; a class that training has not seen is a wrong prediction."""
    data = states(seed=3)
    X, y = data["X"], classes(data)
    y_val = np.where(np.arange(40) % 10 == 0, "unheard of", y[80:])
    probe = LinearProbeClassifier().fit(X[:80], y[:80], X_val=X[80:], y_val=y_val)
    expected = [LogisticRegression(C=1 / alpha, max_iter=1000).fit(X[:80], y[:80]) for alpha in probe.alphas]
    scores = [(model.predict(X[80:]) == y_val).mean() for model in expected]
    # The path starts each fit where the one before ended, so that a row on the border may fall to the other side.
    np.testing.assert_allclose(probe.alpha_scores_, scores, atol=1 / 40)
    assert max(scores) < 0.9
    assert probe.alpha_ == probe.alphas[int(np.argmax(scores))]
    np.testing.assert_allclose(probe.coef_, expected[int(np.argmax(scores))].coef_, atol=1e-3)


def test_folds_keep_groups_together_and_spread_classes() -> None:
    """Each network is in one fold, each class in every fold, and the folds are the same each time."""
    groups = np.repeat(np.arange(20), 3)
    codes = np.repeat(np.arange(20) % 2, 3)
    folds = stratified_folds(codes, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(20))
    assert len(set(zip(folds.tolist(), codes.tolist(), strict=True))) == 5 * 2
    np.testing.assert_array_equal(folds, stratified_folds(codes, groups))


def test_classification_holds_out_groups() -> None:
    """Scores by held-out groups are those of five folds of groups; rows would promise more."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(25), 4)
    X = rng.normal(size=(25, 60))[groups] + 0.05 * rng.normal(size=(100, 60))
    y = (np.arange(25) % 2)[groups]
    by_group = LinearProbeClassifier(alphas=[1.0]).fit(X, y, groups=groups)
    folds = stratified_folds(y, groups)
    right = [LogisticRegression().fit(X[folds != f], y[folds != f]).predict(X) == y for f in range(5)]
    assert by_group.alpha_scores_[0] == np.mean([right[fold][i] for i, fold in enumerate(folds)])
    by_row = LinearProbeClassifier(alphas=[1.0]).fit(X, y)
    assert by_group.alpha_scores_[0] < 0.75 < by_row.alpha_scores_[0]


def literal_adam(X: np.ndarray, codes: np.ndarray, n_classes: int, n_epochs: int) -> torch.nn.Linear:
    """The benchmark's classifier as torch users write it, from torch's global generator."""
    inputs, targets = torch.from_numpy(X), torch.from_numpy(codes)
    with torch.random.fork_rng():
        torch.manual_seed(42)
        layer = torch.nn.Linear(X.shape[1], n_classes)
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.constant_(layer.bias, 0.01)
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4, weight_decay=1e-6)
        for _ in range(n_epochs):
            order = torch.randperm(len(X))
            for begin in range(0, len(X), 10):
                batch = order[begin : begin + 10]
                optimizer.zero_grad()
                loss = torch.nn.functional.nll_loss(torch.log_softmax(layer(inputs[batch]), dim=1), targets[batch])
                loss.backward()
                optimizer.step()
    return layer


@pytest.mark.parametrize(("n_samples", "n_features", "n_classes"), [(84, 2464, 4), (137, 70, 2), (50, 3, 5)])
def test_adam_is_the_literal_training_loop(n_samples: int, n_features: int, n_classes: int) -> None:
    """The Adam solver does what the benchmark's torch loop does, a last smaller batch included."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
    y = rng.integers(0, n_classes, n_samples)
    layer = literal_adam(X, y, n_classes, 50)
    probe = LinearProbeClassifier("adam").fit(X, y)
    np.testing.assert_allclose(probe.coef_, layer.weight.detach().numpy(), atol=2e-5)
    np.testing.assert_allclose(probe.intercept_, layer.bias.detach().numpy(), atol=2e-5)
    assert probe.coef_.dtype == np.float32
    different = probe.predict(X) != layer(torch.from_numpy(X)).argmax(dim=1).numpy()
    assert different.sum() <= 2


def test_layers_trained_together_do_not_depend_on_each_other() -> None:
    """Bit by bit, a layer is the same whether it is trained alone or beside others, in any order."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(43, 17)).astype(np.float32)
    targets = [rng.integers(0, k, 43) for k in (2, 5, 3)]
    settings = AdamSettings(lr=0.01, max_epochs=7)
    together = train_linear_layers(X, targets, [2, 5, 3], 42, settings)
    backwards = train_linear_layers(X, targets[::-1], [3, 5, 2], 42, settings)[::-1]
    for i, (weight, bias) in enumerate(together):
        [(alone, alone_bias)] = train_linear_layers(X, targets[i : i + 1], [[2, 5, 3][i]], 42, settings)
        np.testing.assert_array_equal(weight, alone)
        np.testing.assert_array_equal(bias, alone_bias)
        np.testing.assert_array_equal(weight, backwards[i][0])


def test_adam_depends_on_its_random_state_only() -> None:
    """A seed gives the same layer each time, and another seed another one."""
    data = states()
    y = classes(data)
    first, again, other = (
        LinearProbeClassifier("adam", random_state=seed, max_epochs=3).fit(data["X"], y) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert not np.array_equal(first.coef_, other.coef_)


def test_adam_chooses_nothing_on_validation_data() -> None:
    """The benchmark's classifier is the same with and without validation data."""
    data = states()
    y = classes(data)
    alone = LinearProbeClassifier("adam", max_epochs=2).fit(data["X"][:60], y[:60])
    beside = LinearProbeClassifier("adam", max_epochs=2).fit(data["X"][:60], y[:60], X_val=data["X"][60:], y_val=y[60:])
    np.testing.assert_array_equal(alone.coef_, beside.coef_)


# -- both --------------------------------------------------------------------------------------------------------------

PROBES = [LinearProbeRegressor(), LinearProbeClassifier()]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_a_pipeline_passes_validation_data_through_its_transformers(probe: Any) -> None:
    """With metadata routing, X_val reaches the probe transformed: the result is that of doing so by hand."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 2464)) * rng.uniform(0.1, 1, (40, 1))).astype(np.float32)
    y = X.std(axis=1)
    if isinstance(probe, LinearProbeClassifier):
        y = np.where(y > 0.5, "large", "small")
    with sklearn.config_context(enable_metadata_routing=True):
        steps = [
            ("statistics", WeightStatistics("cnn_s")),
            ("scale", StandardScaler()),
            ("probe", sklearn.clone(probe).set_fit_request(X_val=True, y_val=True, groups=True)),
        ]
        pipeline = Pipeline(steps, transform_input=["X_val"]).fit(X[:30], y[:30], X_val=X[30:], y_val=y[30:])
    features = WeightStatistics("cnn_s").fit_transform(X)
    scaler = StandardScaler().fit(features[:30])
    by_hand = sklearn.clone(probe).fit(
        scaler.transform(features[:30]), y[:30], X_val=scaler.transform(features[30:]), y_val=y[30:]
    )
    np.testing.assert_allclose(pipeline[-1].alpha_scores_, by_hand.alpha_scores_, rtol=1e-6)
    assert pipeline[-1].alpha_ == by_hand.alpha_
    if isinstance(probe, LinearProbeRegressor):
        np.testing.assert_allclose(pipeline.predict(X), by_hand.predict(scaler.transform(features)), rtol=1e-6)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_cross_validation_routes_groups_to_splitter_and_probe(probe: Any) -> None:
    """In a cross-validation over networks, the probe chooses its penalty over the networks of the training part."""
    data = states()
    y = data["y"] if isinstance(probe, LinearProbeRegressor) else classes(data)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = sklearn.clone(probe).set_fit_request(groups=True)
        scores = cross_val_score(routed, data["X"], y, cv=GroupKFold(3), params={"groups": data["groups"]})
    by_hand = [
        sklearn.clone(probe).fit(data["X"][a], y[a], groups=data["groups"][a]).score(data["X"][b], y[b])
        for a, b in GroupKFold(3).split(data["X"], y, data["groups"])
    ]
    np.testing.assert_array_equal(scores, by_hand)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_val": np.ones((3, 40))}, "y_val was not given"),
        ({"y_val": np.ones(3)}, "X_val was not given"),
        ({"X_val": np.ones((3, 7)), "y_val": np.ones(3)}, "7 features"),
        ({"X_val": np.ones((3, 40)), "y_val": np.ones(4)}, "inconsistent"),
        ({"X_val": np.full((3, 40), np.nan), "y_val": np.ones(3)}, "NaN"),
        ({"groups": np.arange(7)}, "groups has 7 entries, but X has 120"),
        ({"groups": np.zeros(120)}, "at least 2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(probe: Any, arguments: dict[str, Any], message: str) -> None:
    """Half of the validation data, wrong shapes, NaN and useless groups are errors that say what is wrong."""
    data = states()
    y = data["y"] if isinstance(probe, LinearProbeRegressor) else classes(data)
    with pytest.raises(ValueError, match=message):
        sklearn.clone(probe).fit(data["X"], y, **arguments)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
@pytest.mark.parametrize("alphas", [[], [1.0, 0.0], [-1.0], [np.nan], "strong"])
def test_penalties_must_be_positive(probe: Any, alphas: Any) -> None:
    """No penalty, a zero, negative or NaN one, or a word are refused."""
    data = states()
    y = data["y"] if isinstance(probe, LinearProbeRegressor) else classes(data)
    with pytest.raises(ValueError, match="alphas|NaN|0 sample"):
        sklearn.clone(probe).set_params(alphas=alphas).fit(data["X"], y)


def test_targets_of_validation_data_must_match() -> None:
    """Validation targets of another number are refused."""
    data = states()
    with pytest.raises(ValueError, match="y_val has 2 targets, but y has 1"):
        LinearProbeRegressor().fit(data["X"], data["y"], X_val=data["X"], y_val=np.ones((120, 2)))


def test_one_class_is_refused() -> None:
    """A classifier needs two classes, and says so."""
    with pytest.raises(ValueError, match=r"only one class \(tanh\)"):
        LinearProbeClassifier().fit(np.ones((4, 2)), ["tanh"] * 4)


def test_targets_near_a_bound_stay_where_they_are() -> None:
    """Only a target at its bound is moved: learning rates within (0, 1) are told apart though all are near 0."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = 1e-4 * np.exp(X @ [0.5, -0.3, 0.2])
    assert LinearProbeRegressor(bounds=(0, 1)).fit(X, y).score(X, y) > 0.9
