"""Methods by name: ready pipelines, held-out data that reach what uses them, and the numbers of the documentation."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from zoobench import fetch_zoo
from zoobench.benchmark.records import RECORDS, load_record, path_of
from zoobench.benchmark.results import RESULTS, load_result
from zoobench.estimators import LinearProbeRegressor, WeightStatistics, list_methods, make_method, methods

ROOT = Path(__file__).parent.parent

#: Extra -> the module that it installs; which of them there are decides whether a method is made or refused.
EXTRAS = {"boost": "lightgbm", "umap": "umap"}

METHODS = list_methods()
MISSING = [name for name, extra in METHODS["extra"].items() if extra and find_spec(EXTRAS[extra]) is None]
READY = [name for name in METHODS.index if name not in MISSING]

#: Steps that learn by repetition, with little of it.
SHORT = {
    "max_epochs": 2, "max_iter": 2, "max_leaf_nodes": 3, "n_estimators": 5, "n_init": 1, "n_components": 5,
    "n_neighbors": 5, "hidden_layer_sizes": (8,), "d_model": 16, "d_ff": 16, "n_blocks": 1, "latent_dim": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def zoo() -> Any:
    with pytest.warns(UserWarning, match="NaN or infinite weights"):
        return fetch_zoo("digits_cnn_s_hyp_rand", epochs="last", max_abs_weight=5)


def shortened(pipeline: Pipeline) -> Pipeline:
    for _, step in pipeline.steps:
        step.set_params(**{key: value for key, value in SHORT.items() if key in step.get_params()})
    return pipeline


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("name", READY)
def test_every_method_learns_and_predicts(zoo: Any, name: str, task: str) -> None:
    """Each method fits a zoo's weights or properties, with the held-out data that it takes, and predicts each row."""
    target = "test_acc" if task == "regression" else "activation"
    rows = np.arange(0, len(zoo.data), 4)
    X = zoo.properties.iloc[rows] if METHODS.loc[name, "inputs"] == "hyperparameters" else zoo.data[rows]
    y = zoo.properties[target].to_numpy()[rows]
    get = X.iloc if hasattr(X, "iloc") else X
    given = {"groups": zoo.groups[rows][10:], "X_val": get[:10], "y_val": y[:10]}
    with sklearn.config_context(enable_metadata_routing=True):
        method = shortened(make_method(name, task=task, layout=zoo.layout, target=target, device="cpu"))
        taken = method.get_metadata_routing().consumes("fit", list(given))
        predicted = method.fit(get[10:], y[10:], **{key: given[key] for key in taken}).predict(X)
    assert predicted.shape == (len(rows),)
    assert np.isfinite(predicted).all() if task == "regression" else set(predicted) <= set(y)
    module = type(method[-1]).__module__
    own = module.startswith("zoobench.") and not module.endswith(".known_rows")  # which fits as scikit-learn does
    assert taken == (set(given) if own else {"groups", "X_val"} & taken)


def test_validation_data_reach_the_probe_transformed(zoo: Any) -> None:
    """The pipeline's result is that of carrying out its steps by hand; groups do when there are no such data."""
    X, y = zoo.data, zoo.target
    with sklearn.config_context(enable_metadata_routing=True):
        method = make_method("statistics_ridge", layout=zoo.layout)
        by_name = clone(method).fit(X[:150], y[:150], X_val=X[150:], y_val=y[150:])
        by_group = clone(method).fit(X, y, groups=zoo.groups // 2)
    features = WeightStatistics(zoo.layout).fit_transform(X)
    probe = LinearProbeRegressor(penalize_intercept=True)
    by_hand = clone(probe).fit(features[:150], y[:150], X_val=features[150:], y_val=y[150:])
    np.testing.assert_allclose(by_name.predict(X), by_hand.predict(features), rtol=1e-4)
    assert by_name[-1].alpha_ == by_hand.alpha_
    by_hand = clone(probe).fit(features, y, groups=zoo.groups // 2)
    np.testing.assert_allclose(by_group.predict(X), by_hand.predict(features), rtol=1e-6)


def test_a_method_works_without_metadata_routing(zoo: Any) -> None:
    """Whoever has not enabled routing fits X and y, and reaches the last step's arguments by its name."""
    method = make_method("weights_ridge").fit(zoo.data, zoo.target, probe__groups=zoo.groups)
    assert method.predict(zoo.data).shape == zoo.target.shape


@pytest.mark.parametrize("name", ["dummy", "statistics_boosting", "statistics_lightgbm", "hyperparameters_boosting"])
def test_unknown_targets_are_left_out(zoo: Any, name: str) -> None:
    """Rows whose target is NaN change nothing, in a score neither; settings are shown as scikit-learn shows them."""
    weights = METHODS.loc[name, "inputs"] == "weights"
    X, y = zoo.data if weights else zoo.properties, zoo.target.astype(np.float64)
    known, holes = np.arange(0, 100), y.copy()
    holes[100:] = np.nan
    fitted = [shortened(make_method(name, layout=zoo.layout)) for _ in range(2)]
    fitted[0].fit(X, holes)
    fitted[1].fit(X[:100] if weights else X.iloc[known], y[:100])
    np.testing.assert_array_equal(fitted[0].predict(X), fitted[1].predict(X))
    assert fitted[0].score(X, holes) == fitted[1].score(X[:100] if weights else X.iloc[known], y[:100])
    with pytest.raises(ValueError, match="Input y contains NaN: rows whose target is unknown are left out, but 1 of"):
        clone(fitted[0]).fit(X, np.where(np.arange(len(y)) == 3, y, np.nan))
    if name == "hyperparameters_boosting":
        settings = repr(make_method(name)[-1])
        assert settings == "HistGradientBoostingRegressor(early_stopping=False, random_state=0)"


def test_the_reference_never_sees_the_target(zoo: Any) -> None:
    """Predicting a hyper-parameter from hyper-parameters leaves it out of the inputs."""
    encoder = make_method("hyperparameters_boosting", target="lr")[0].fit(zoo.properties)
    assert encoder.get_feature_names_out().tolist() == ["activation", "init", "optimizer", "dropout", "weight_decay"]


def test_methods_repeat_and_follow_their_random_state(zoo: Any) -> None:
    """The random state reaches every step that has one."""
    for name in READY:
        for _, step in make_method(name, random_state=7, layout=zoo.layout).steps:
            assert step.get_params().get("random_state", 7) == 7, name


def test_unknown_names_and_missing_extras_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors show close names, the tasks there are, or the extra to install."""
    with pytest.raises(ValueError, match="unknown method 'statistics_rigde'; close: statistics_ridge"):
        make_method("statistics_rigde")
    with pytest.raises(ValueError, match="task must be 'regression' or 'classification', not 'ranking'"):
        make_method("dummy", task="ranking")
    monkeypatch.setattr(methods, "find_spec", lambda module: None)
    for name, extra in METHODS["extra"].dropna().items():
        with pytest.raises(
            ImportError, match=rf"'{name}' needs \w+; install it with: pip install 'zoobench\[{extra}\]'"
        ):
            make_method(str(name))


def test_every_method_says_what_it_takes_and_where_it_comes_from() -> None:
    """The list is complete: the rows of a leaderboard, each with inputs, summary and source."""
    assert METHODS.columns.tolist() == ["inputs", "summary", "source", "extra"]
    assert set(METHODS["inputs"]) == {"weights", "hyperparameters"}
    assert METHODS[["summary", "source"]].map(len).min().min() > 10


# -- the numbers of the documentation ----------------------------------------------------------------------------------


@cache
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plot_methods", ROOT / "examples" / "plot_methods.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented() -> dict[str, list[str]]:
    """Method -> val, test and test on all states, as the table of the documentation shows them."""
    text = (ROOT / "docs" / "estimators" / "methods.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| (.*) \|$", text, flags=re.MULTILINE)
    return {name: cells for name, *cells in rows}


def close_to(found: float, cell: str, tolerance: float) -> bool:
    return found < -10 if cell == "< -10" else abs(found - float(cell)) <= tolerance


@pytest.mark.parametrize(
    "name", ["dummy", "hyperparameters_boosting", "statistics_ridge", "weights_ridge", "pca_ridge"]
)
def test_documented_numbers_are_what_the_script_computes(name: str) -> None:
    """Closed forms agree to the last digit that is shown, trained methods to 0.001."""
    _, *scores = example().row(name)
    tolerance = 0.001 if name == "hyperparameters_boosting" else 0.0005 + 1e-6
    assert all(
        close_to(found, cell, tolerance + 0.0005) for found, cell in zip(scores, documented()[name], strict=True)
    )


@pytest.mark.slow
def test_documented_numbers_of_trained_methods() -> None:
    """Layer statistics and boosting, the row that the text speaks of, is reproduced to 0.001."""
    found = example().score("statistics_boosting", max_abs_weight=None)["test"]
    assert close_to(found, documented()["statistics_boosting"][2], 0.0015), found


def test_the_table_has_every_method_and_the_order_that_the_text_tells() -> None:
    """No method is missing; and what the page says about which is better holds in its table."""
    table = documented()
    assert list(table) == METHODS.index.tolist()
    test = {name: float(cells[1]) for name, cells in table.items() if cells[1] != "-"}
    assert test["dummy"] < test["hyperparameters_boosting"]
    assert test["weights_ridge"] < test["statistics_ridge"] < test["statistics_boosting"]
    record = load_record(path_of(RECORDS, "digits_cnn_s_hyp_rand/test_acc/cv-5x1", "statistics_boosting"))
    assert record.score >= 0.90  # of all models, where the test part has 25


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("weights_ridge", "weights"),
        ("statistics_ridge", "statistics"),
        ("hyperparameters_boosting", "hyperparameters"),
    ],
)
def test_methods_are_those_of_the_papers_table(name: str, features: str) -> None:
    """What the paper's benchmark has, scores here what it scores there, to three digits."""
    rows = load_result(RESULTS / "digits_cnn_s_hyp_rand.json")["rows"]
    [row] = [row for row in rows if (row["features"], row["property"]) == (features, "test_acc")]
    shown = documented()[name]
    assert [float(cell) for cell in shown[:2]] == pytest.approx([row["val"], row["test"]], abs=1.5e-3)
