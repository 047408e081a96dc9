"""What holds for every estimator, new ones included: scikit-learn's conventions, and ours."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
import skops.io
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone, is_classifier, is_regressor
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import zoobench.estimators
from zoobench.estimators import LinearProbeRegressor

#: A setting apart from the default one for every estimator: what is left out here fails below.
OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "HyperRepresentation": {"compression": "token", "contrastive_weight": 0.0, "layer_norm_loss": False},
    "HyperparameterEncoder": {"encoding": "onehot", "target": "lr"},
    "LatentKDE": {"method": "joint", "bandwidth": 0.1, "top": 0.5},
    "LayerScaler": {"per": "tensor"},
    "LinearProbeClassifier": {"solver": "adam", "lr": 0.05},
    "LinearProbeRegressor": {"alphas": [1.0, 0.1], "penalize_intercept": True},
    "NeuronPermutation": {"random_state": 1},
    "PermutationAligner": {"n_init": 1, "max_iter": 2, "tol": 0.0},
    "PropertyClassifier": {"n_iter_no_change": None, "weight_decay": 0.0},
    "PropertyRegressor": {"n_iter_no_change": None, "weight_decay": 0.0},
    "SpectralFeatures": {"tail": "ks"},
    "WeightAutoencoder": {"hidden_layer_sizes": (), "n_iter_no_change": None, "schedule": "cosine"},
    "WeightKDE": {"method": "joint", "bandwidth": 0.1, "top": 0.5},
    "WeightPCA": {"per_layer": True, "n_components": 3},
    "WeightStatistics": {"preset": "sane", "token_size": 7},
}

#: What is trained step by step, with as few epochs (and as small a network) as let it pass: the rest is as it comes.
SHORT: dict[str, dict[str, Any]] = {
    "HyperRepresentation": {"latent_dim": 4, "d_model": 8, "n_blocks": 1, "d_ff": 8, "max_epochs": 2},
    "PropertyClassifier": {"hidden_layer_sizes": (16,), "dropout": 0.0, "lr": 0.03, "batch_size": 32, "max_epochs": 12},
    "PropertyRegressor": {"hidden_layer_sizes": (16,), "dropout": 0.0, "lr": 0.03, "batch_size": 32, "max_epochs": 12},
    "WeightAutoencoder": {"latent_dim": 4, "hidden_layer_sizes": (8,), "max_epochs": 2},
}


def estimators() -> list[BaseEstimator]:
    """Every public estimator, as it comes and with other settings."""
    public = [getattr(zoobench.estimators, name) for name in zoobench.estimators.__all__]
    classes = [cls for cls in public if isinstance(cls, type) and issubclass(cls, BaseEstimator)]
    return [
        cls(**{**SHORT.get(cls.__name__, {}), **settings})
        for cls in classes
        for settings in ({}, OTHER_SETTINGS[cls.__name__])
    ]


ESTIMATORS = estimators()
TRANSFORMERS = [estimator for estimator in ESTIMATORS if isinstance(estimator, TransformerMixin)]


def name_of(estimator: BaseEstimator) -> str:
    return repr(estimator).replace("\n", " ")


def each(chosen: list[BaseEstimator]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("estimator", chosen, ids=name_of)


def data_for(estimator: BaseEstimator, dtype: type[np.floating] = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 30)).astype(dtype)
    return X, np.where(X[:, 0] > 0, "tanh", "relu") if is_classifier(estimator) else X[:, 0].astype(np.float64)


def outputs(estimator: BaseEstimator, X: Any) -> list[np.ndarray]:
    """Everything that a fitted estimator says about X."""
    methods = ("transform", "predict", "predict_proba", "decision_function", "score_samples")
    found = [getattr(estimator, method)(X) for method in methods if hasattr(estimator, method)]
    assert found
    return found


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_conventions(estimator: BaseEstimator, check: Any) -> None:
    """Every estimator passes every check of scikit-learn's own; none is expected to fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks' own data provoke warnings about convergence
        check(estimator)


@each(ESTIMATORS)
def test_same_result_twice_and_after_cloning_and_pickling(estimator: BaseEstimator) -> None:
    """Fitting again, fitting a clone and pickling what was fitted all give the same numbers."""
    X, y = data_for(estimator)
    expected = outputs(clone(estimator).fit(X, y), X)
    fitted = clone(estimator).fit(X, y)
    assert_same(outputs(fitted, X), expected)
    assert_same(outputs(fitted.fit(X, y), X), expected)
    assert_same(outputs(pickle.loads(pickle.dumps(fitted)), X), expected)


@each(ESTIMATORS)
def test_skops_saves_it_and_trusts_nothing_foreign(estimator: BaseEstimator) -> None:
    """A fitted estimator survives skops, with zoobench's own types as the only ones to be trusted."""
    X, y = data_for(estimator)
    fitted = clone(estimator).fit(X, y)
    stored = skops.io.dumps(fitted)
    types = skops.io.get_untrusted_types(data=stored)
    assert all(name.startswith("zoobench.") for name in types), types
    assert_same(outputs(skops.io.loads(stored, trusted=types), X), outputs(fitted, X))


@each(ESTIMATORS)
def test_a_read_only_memory_map_will_do(estimator: BaseEstimator, tmp_path: Path) -> None:
    """Weights that lie in a file opened for reading are learned from like an array, and stay as they are."""
    X, y = data_for(estimator)
    X.tofile(tmp_path / "weights")
    mapped = np.memmap(tmp_path / "weights", dtype=np.float32, mode="r", shape=X.shape)
    assert_same(outputs(clone(estimator).fit(mapped, y), mapped), outputs(clone(estimator).fit(X, y), X))
    np.testing.assert_array_equal(mapped, X)


@each(TRANSFORMERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transformers_keep_the_dtype(estimator: BaseEstimator, dtype: type[np.floating]) -> None:
    """float32 in is float32 out, and float64 stays."""
    X, y = data_for(estimator, dtype)
    assert clone(estimator).fit_transform(X, y).dtype == dtype


@each([estimator for estimator in ESTIMATORS if is_regressor(estimator)])
def test_regressors_predict_in_float64(estimator: BaseEstimator) -> None:
    """Predictions are float64 whatever X is."""
    X, y = data_for(estimator)
    assert clone(estimator).fit(X, y).predict(X).dtype == np.float64


@each(TRANSFORMERS)
def test_transformers_name_their_columns_in_pandas(estimator: BaseEstimator) -> None:
    """With `set_output("pandas")` a frame comes out, with the names of `get_feature_names_out` and the rows' index."""
    X, y = data_for(estimator)
    frame = pd.DataFrame(X, columns=[f"w{i}" for i in range(X.shape[1])], index=np.arange(40) + 100)
    transformer = clone(estimator).set_output(transform="pandas")
    found = transformer.fit(frame, y).transform(frame)
    assert isinstance(found, pd.DataFrame)
    assert found.columns.tolist() == transformer.get_feature_names_out().tolist()
    assert found.index.tolist() == frame.index.tolist()
    np.testing.assert_array_equal(found.to_numpy(), clone(estimator).fit_transform(X, y))


@each(ESTIMATORS)
def test_global_random_state_stays_untouched(estimator: BaseEstimator) -> None:
    """Nobody's random numbers change because an estimator was fitted in between."""
    X, y = data_for(estimator)
    numpy_before, torch_before = np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
    outputs(clone(estimator).fit(X, y), X)
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(numpy_before, numpy_after, strict=True))
    assert torch.equal(torch_before, torch.random.get_rng_state())


def validated(estimator: BaseEstimator) -> set[str]:
    """Which data besides X and y its fit takes, to choose a penalty or when to stop."""
    return set(signature(estimator.fit).parameters) & {"groups", "X_val", "y_val"}


def scored(estimator: BaseEstimator) -> Pipeline:
    """A pipeline that has a score: what only transforms is followed by a probe."""
    steps = [("it", clone(estimator))]
    return Pipeline(steps if hasattr(estimator, "score") else [*steps, ("probe", LinearProbeRegressor())])


@pytest.mark.parametrize("estimator", ESTIMATORS[1::2], ids=name_of)
def test_grid_search_and_cross_validation_by_groups(estimator: BaseEstimator) -> None:
    """It is tuned by a grid search in a pipeline, and judged by folds that keep the states of a model together."""
    X, y = data_for(estimator)
    groups = np.repeat(np.arange(10), 4)
    name, value = next(iter(OTHER_SETTINGS[type(estimator).__name__].items()))
    search = GridSearchCV(scored(estimator), {f"it__{name}": [value]}, cv=GroupKFold(2), error_score="raise")
    search.fit(X, y, groups=groups)
    result = cross_validate(scored(estimator), X, y, groups=groups, cv=GroupKFold(2), error_score="raise")
    np.testing.assert_array_equal([search.cv_results_[f"split{i}_test_score"][0] for i in (0, 1)], result["test_score"])


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS[::2] if "groups" in validated(e)], ids=name_of)
def test_groups_reach_the_fit(estimator: BaseEstimator) -> None:
    """With metadata routing, the groups that make the folds also say what `fit` may hold out."""
    X, y = data_for(estimator)
    groups = np.repeat(np.arange(10), 4)
    with sklearn.config_context(enable_metadata_routing=True):
        model = clone(estimator).set_fit_request(groups=True)
        folds = GroupKFold(2)
        result = cross_validate(model, X, y, params={"groups": groups}, cv=folds, return_estimator=True)
    (train, _), _ = folds.split(X, y, groups)
    assert_same(
        outputs(result["estimator"][0], X), outputs(clone(estimator).fit(X[train], y[train], groups=groups[train]), X)
    )


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS[::2] if "X_val" in validated(e)], ids=name_of)
def test_a_pipeline_routes_validation_data(estimator: BaseEstimator) -> None:
    """In a pipeline, validation data passes the transformers before it and arrives where it is asked for."""
    X, y = data_for(estimator)
    data = {"X_val": X[30:], "y_val": y[30:]}
    data = {name: value for name, value in data.items() if name in validated(estimator)}
    with sklearn.config_context(enable_metadata_routing=True):
        model = clone(estimator).set_fit_request(**dict.fromkeys(data, True))
        pipeline = Pipeline([("scale", StandardScaler()), ("it", model)], transform_input=["X_val"])
        pipeline.fit(X[:30], y[:30], **data)
    scale = StandardScaler().fit(X[:30])
    expected = clone(estimator).fit(scale.transform(X[:30]), y[:30], **{**data, "X_val": scale.transform(X[30:])})
    assert_same(outputs(pipeline[-1], X), outputs(expected, X))


def test_linear_work_needs_no_torch() -> None:
    """Statistics and both probes as they come never load torch."""
    code = (
        "import sys, numpy as np\n"
        "from zoobench.estimators import LinearProbeClassifier, LinearProbeRegressor, WeightStatistics\n"
        "X = np.random.default_rng(0).normal(size=(20, 9));"
        "y = X[:, 0]; LinearProbeRegressor().fit(WeightStatistics().fit_transform(X), y);"
        "LinearProbeClassifier().fit(X, y > 0); assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
