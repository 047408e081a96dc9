"""The paper's table: the numbers of the authors' code, from states in any order, and honest about what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils import Bunch

from zoobench import load_zoo, paper_table
from zoobench.estimators.held_out import PAPER_ALPHAS
from zoobench.properties import PUBLISHED_KEYS

PARTS = ("train", "val", "test")


def rearranged(zoo: Any, rows: np.ndarray, **changes: Any) -> Bunch:
    """Some rows of a zoo, in some order, as a plain Bunch."""
    parts = {"data": zoo.data[rows], "properties": zoo.properties.iloc[rows].reset_index(drop=True)}
    parts |= {"split": np.asarray(zoo.split)[rows], "groups": zoo.groups[rows], "layout": zoo.layout}
    return Bunch(**parts | changes)


def score(table: pd.DataFrame, features: str, name: str) -> dict[str, float]:
    [row] = table[(table["features"] == features) & (table["property"] == name)].to_dict("records")
    return {part: row[part] for part in PARTS}


@pytest.fixture(scope="module")
def seed_zoo(data_dir: Path) -> Any:
    return load_zoo(data_dir / "dataset_digits_seed.pt")


@pytest.fixture(scope="module")
def hyper_zoo(data_dir: Path) -> Bunch:
    """The real hyper-parameter zoo, with a split that leaves no part empty."""
    zoo = load_zoo(data_dir / "tune_zoo_digits_hyperparameter_10_random_seeds.zip")
    split = np.array(PARTS)[np.searchsorted([10, 13], zoo.groups, side="right")]
    return rearranged(zoo, np.arange(len(zoo.data)), split=split)


@pytest.fixture(scope="module")
def hyper_table(hyper_zoo: Bunch) -> pd.DataFrame:
    return paper_table(hyper_zoo, features=("weights", "statistics", "hyperparameters"))


def test_numbers_are_those_of_the_authors_code(seed_zoo: Any, data_dir: Path) -> None:
    """On the authors' own preprocessed file, every number of their benchmark is met to 1e-6."""
    reference = json.loads((data_dir / "reference_results_seed.json").read_text())
    table = paper_table(seed_zoo)
    assert table.columns.tolist() == ["features", "property", "metric", *PARTS]
    assert table["metric"].unique().tolist() == ["R2"]
    found = {
        features: {name: score(table, features, PUBLISHED_KEYS.get(name, name)) for name in reference[features]}
        for features in reference
    }
    assert len(table) == sum(len(properties) for properties in reference.values())
    for features, properties in reference.items():
        for name, expected in properties.items():
            assert found[features][name] == pytest.approx(expected, abs=1e-6), (features, name)


def test_the_order_of_states_does_not_matter(hyper_zoo: Bunch, hyper_table: pd.DataFrame) -> None:
    """Shuffled states give the same table, classifiers included."""
    shuffled = rearranged(hyper_zoo, np.random.default_rng(0).permutation(len(hyper_zoo.data)))
    table = paper_table(shuffled, features=("weights", "statistics", "hyperparameters"))
    pd.testing.assert_frame_equal(table, hyper_table, check_exact=False, atol=1e-9)


def literal_features(X: np.ndarray, layout: Any) -> dict[str, np.ndarray]:
    statistics = []
    for tensor in layout.tensors:
        values = np.ascontiguousarray(X[:, tensor.slice])
        statistics += [values.mean(axis=1)[:, None], values.var(axis=1)[:, None]]
        statistics.append(np.percentile(values, [1, 25, 50, 75, 99], axis=1).T)
    return {"weights": X, "statistics": np.concatenate(statistics, axis=1)}


def literal_regression(X: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> dict[str, float]:
    """One solve a penalty, of the normal equations' dual: it has one row a state instead of one a weight."""
    designs = {part: np.hstack([x.astype(np.float64), np.ones((len(x), 1))]) for part, x in X.items()}
    best: dict[str, float] = {}
    for alpha in PAPER_ALPHAS:
        Z = designs["train"]
        b = Z.T @ np.linalg.solve(Z @ Z.T + alpha * np.eye(len(Z)), y["train"])
        scores = {part: 1 - np.mean((designs[part] @ b - y[part]) ** 2) / np.var(y[part]) for part in PARTS}
        if not best or scores["val"] > best["val"]:
            best = scores
    return best


def literal_classification(X: dict[str, np.ndarray], y: dict[str, np.ndarray]) -> dict[str, float]:
    """A torch layer, one batch at a time."""
    names = np.unique(y["train"]).tolist()
    inputs = {part: torch.from_numpy(x.astype(np.float32)) for part, x in X.items()}
    targets = torch.tensor([names.index(label) for label in y["train"]])
    with torch.random.fork_rng():
        torch.manual_seed(42)
        layer = torch.nn.Linear(inputs["train"].shape[1], len(names))
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.constant_(layer.bias, 0.01)
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-4, weight_decay=1e-6)
        for _ in range(50):
            for batch in torch.randperm(len(targets)).split(10):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(layer(inputs["train"][batch]), targets[batch]).backward()
                optimizer.step()
        predicted = {part: layer(inputs[part]).argmax(dim=1).tolist() for part in PARTS}
    return {p: float(np.mean([names[i] == label for i, label in zip(predicted[p], y[p], strict=True)])) for p in PARTS}


def test_a_hyperparameter_zoo_is_scored_as_the_protocol_says(hyper_zoo: Bunch, hyper_table: pd.DataFrame) -> None:
    """On real models that differ in everything, each number is that of the protocol carried out step by step."""
    order = np.lexsort((hyper_zoo.properties["epoch"], hyper_zoo.groups))
    order = order[np.abs(hyper_zoo.data[order]).max(axis=1) <= 5]
    features = literal_features(hyper_zoo.data[order], hyper_zoo.layout)
    split = hyper_zoo.split[order]
    assert len(hyper_table) == 3 * 9
    for kind, X in features.items():
        for row in hyper_table[hyper_table["features"] == kind].itertuples():
            values = hyper_zoo.properties[row.property].iloc[order]
            known = values.notna().to_numpy()
            rows = {part: np.flatnonzero(known & (split == part)) for part in PARTS}
            inputs = {part: X[rows[part]] for part in PARTS}
            if row.metric == "accuracy":
                literal = literal_classification(inputs, {p: values.to_numpy()[rows[p]].astype(str) for p in PARTS})
                for part in PARTS:
                    assert abs(score(hyper_table, kind, row.property)[part] - literal[part]) <= 1.5 / len(rows[part])
            else:
                numbers = values.to_numpy(dtype=np.float32).astype(np.float64)
                literal = literal_regression(inputs, {part: numbers[rows[part]] for part in PARTS})
                assert score(hyper_table, kind, row.property) == pytest.approx(literal, abs=1e-6), row


def test_weights_beyond_five_and_nan_weights_are_left_out(seed_zoo: Any) -> None:
    """States with a weight beyond 5 or NaN count for nothing: the table is that of the others."""
    rows = np.arange(len(seed_zoo.data))
    damaged = np.array(seed_zoo.data)
    damaged[3, 7], damaged[50, 9], damaged[70, 0], damaged[71, 0] = 5.1, -6, np.nan, np.inf
    damaged[72, 1] = 5.0
    without = rearranged(seed_zoo, np.setdiff1d(rows, [3, 50, 70, 71]))
    without.data[np.flatnonzero(np.setdiff1d(rows, [3, 50, 70, 71]) == 72), 1] = 5.0
    table = paper_table(rearranged(seed_zoo, rows, data=damaged))
    pd.testing.assert_frame_equal(table, paper_table(without), check_exact=False, atol=1e-10)


def test_states_without_a_property_count_for_the_others(seed_zoo: Any) -> None:
    """A missing value leaves a state out for that property alone."""
    rows = np.arange(len(seed_zoo.data))
    properties = seed_zoo.properties.copy()
    properties.loc[::7, "ggap"] = np.nan
    table = paper_table(rearranged(seed_zoo, rows, properties=properties), features=["weights"])
    whole = paper_table(seed_zoo, features=["weights"])
    assert score(table, "weights", "test_acc") == pytest.approx(score(whole, "weights", "test_acc"), abs=1e-9)
    left = paper_table(rearranged(seed_zoo, rows[rows % 7 > 0]), features=["weights"])
    assert score(table, "weights", "ggap") == pytest.approx(score(left, "weights", "ggap"), abs=1e-9)


def test_a_property_unknown_in_one_part_is_named(seed_zoo: Any) -> None:
    """If no state of a part has the property, the error names both."""
    properties = seed_zoo.properties.copy()
    properties.loc[properties["split"] == "val", "ggap"] = np.nan
    zoo = rearranged(seed_zoo, np.arange(len(seed_zoo.data)), properties=properties)
    with pytest.raises(ValueError, match="'val' part of the zoo has no state with a known ggap"):
        paper_table(zoo)


def test_constant_properties_are_left_out(seed_zoo: Any) -> None:
    """What is the same in every state is no property to predict."""
    one_epoch = rearranged(seed_zoo, np.flatnonzero(seed_zoo.properties["epoch"] == 5))
    assert paper_table(one_epoch, features=["statistics"])["property"].tolist() == ["test_acc", "ggap"]


def test_a_property_constant_in_one_part_has_no_r2_there(seed_zoo: Any) -> None:
    """R2 says nothing of values that do not vary: the number is missing, not minus infinity, and the rest stands."""
    properties = seed_zoo.properties.copy()
    properties.loc[properties["split"] == "val", "ggap"] = 0.25
    zoo = rearranged(seed_zoo, np.arange(len(seed_zoo.data)), properties=properties)
    found = score(paper_table(zoo, features=["weights"]), "weights", "ggap")
    assert np.isnan(found["val"])
    assert np.isfinite([found["train"], found["test"]]).all()


@pytest.mark.parametrize("part", PARTS)
def test_an_empty_part_is_an_error_that_names_it(seed_zoo: Any, part: str) -> None:
    """Without one of the three parts there is no benchmark; the error says which, and what to do."""
    zoo = rearranged(seed_zoo, np.flatnonzero(seed_zoo.split != part))
    with pytest.raises(ValueError, match=f"'{part}' part of the zoo has no usable state.*subset='all'"):
        paper_table(zoo)


def test_an_empty_part_of_a_small_real_zoo(data_dir: Path) -> None:
    """The sixteen models of a real zoo leave the val part of the hashed split empty: an error, not a table."""
    zoo = load_zoo(data_dir / "tune_zoo_digits_hyperparameter_10_random_seeds.zip")
    with pytest.raises(ValueError, match="'val' part"):
        paper_table(zoo)


@pytest.mark.parametrize("features", [("weights", "stats"), "wieghts", ()])
def test_unknown_features_are_refused(seed_zoo: Any, features: Any) -> None:
    """A misspelt feature set, or none, is an error that lists the known ones."""
    with pytest.raises(ValueError, match="weights, statistics, hyperparameters"):
        paper_table(seed_zoo, features=features)


def test_classes_unseen_in_training_are_wrong_predictions(hyper_zoo: Bunch, hyper_table: pd.DataFrame) -> None:
    """A class that only the test part has lowers accuracy there and changes nothing else."""
    properties = hyper_zoo.properties.copy()
    activation = properties["activation"].astype(object)
    activation[hyper_zoo.split == "test"] = "unheard of"
    properties["activation"] = activation.astype("category")
    zoo = rearranged(hyper_zoo, np.arange(len(hyper_zoo.data)), properties=properties)
    table = paper_table(zoo, features=("statistics", "hyperparameters"))
    for features in ("statistics", "hyperparameters"):
        found, before = score(table, features, "activation"), score(hyper_table, features, "activation")
        assert found == {**before, "test": 0.0}


def test_random_state_moves_classifiers_only(hyper_zoo: Bunch, hyper_table: pd.DataFrame) -> None:
    """Another seed leaves regressions as they are, and gives the classifiers other draws."""
    table = paper_table(hyper_zoo, features=("statistics",), random_state=7)
    before = hyper_table[hyper_table["features"] == "statistics"].reset_index(drop=True)
    regression = table["metric"] == "R2"
    pd.testing.assert_frame_equal(table[regression], before[regression])
    assert not table[~regression].equals(before[~regression])


# -- hyper-parameters only -----------------------------------------------------------------------------------------


def test_hyperparameters_never_include_the_target_the_seed_or_the_epoch(
    hyper_zoo: Bunch, hyper_table: pd.DataFrame
) -> None:
    """Only the other hyper-parameters are looked at: shuffling everything else changes nothing."""
    rng = np.random.default_rng(0)
    properties = hyper_zoo.properties.copy()
    for column in ("train_acc", "val_acc", "test_loss", "seed", "model"):
        properties[column] = properties[column].to_numpy()[rng.permutation(len(properties))]
    zoo = rearranged(hyper_zoo, np.arange(len(hyper_zoo.data)), properties=properties)
    table = paper_table(zoo, features="hyperparameters")
    expected = hyper_table[hyper_table["features"] == "hyperparameters"].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, expected)
    # Knowing the epoch would tell the epoch.
    assert score(table, "hyperparameters", "epoch")["train"] < 0.1


def test_hyperparameters_are_boosted_with_categories_as_such(hyper_zoo: Bunch, hyper_table: pd.DataFrame) -> None:
    """The reference row is scikit-learn's gradient boosting on the train part, scored on each part."""
    names = ["activation", "init", "optimizer", "dropout", "weight_decay"]
    split, table = hyper_zoo.split, hyper_zoo.properties
    usable = np.abs(hyper_zoo.data).max(axis=1) <= 5
    train, test = usable & (split == "train"), usable & (split == "test")
    model = HistGradientBoostingRegressor(early_stopping=False, random_state=42, categorical_features="from_dtype")
    model.fit(table.loc[train, names], table.loc[train, "lr"])
    expected = model.score(table.loc[test, names], table.loc[test, "lr"])
    assert score(hyper_table, "hyperparameters", "lr")["test"] == pytest.approx(expected, abs=1e-9)


def test_hyperparameters_that_do_not_vary_are_an_error(seed_zoo: Any) -> None:
    """A seed zoo has nothing to learn from; the error says so and names the remedy."""
    with pytest.raises(ValueError, match=r"do not vary.*leave it out"):
        paper_table(seed_zoo, features=["weights", "hyperparameters"])


def test_a_single_hyperparameter_does_not_predict_itself(seed_zoo: Any) -> None:
    """If only one hyper-parameter varies, its own row is missing, and the others are there."""
    properties = seed_zoo.properties.copy()
    properties["lr"] = np.where(seed_zoo.groups % 2, 1e-3, 1e-4)
    zoo = rearranged(seed_zoo, np.arange(len(seed_zoo.data)), properties=properties)
    table = paper_table(zoo, features="hyperparameters")
    assert table["property"].tolist() == ["test_acc", "epoch", "ggap", "lr"]
    assert np.isnan(list(score(table, "hyperparameters", "lr").values())).all()
    assert np.isfinite(list(score(table, "hyperparameters", "test_acc").values())).all()
