"""Hyper-parameters as features: what is taken, what is never taken, and names and numbers that are not known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from zoobench import fetch_zoo
from zoobench.estimators import HyperparameterEncoder
from zoobench.properties import HYPERPARAMETERS


@pytest.fixture(scope="module")
def properties() -> pd.DataFrame:
    with pytest.warns(UserWarning, match="NaN or infinite weights"):
        return fetch_zoo("digits_cnn_s_hyp_rand", epochs="last", max_abs_weight=5).properties


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "activation": pd.Categorical(["tanh", "relu", "tanh", None], categories=["tanh", "relu", "gelu"]),
            "lr": [1e-3, 1e-2, np.nan, 1e-1],
            "weight_decay": [0.0, 1e-3, 1e-3, 1e-2],
            "seed": [1, 2, 3, 4],
            "test_acc": [0.1, 0.2, 0.3, 0.4],
        }
    )


@pytest.mark.parametrize("encoding", ["ordinal", "onehot"])
@pytest.mark.parametrize("target", [None, "lr", "activation", "test_acc"])
def test_only_hyper_parameters_are_taken(properties: pd.DataFrame, encoding: str, target: str | None) -> None:
    """Whatever the measured columns, the seed, the names and the target say, features are the same."""
    encoder = HyperparameterEncoder(encoding, target=target).fit(properties)
    used = {properties.columns[number] for number in encoder.columns_}
    assert used == {*HYPERPARAMETERS} - {target}
    rng = np.random.default_rng(0)
    others = properties.copy()
    for name in {*properties.columns} - used:
        others[name] = properties[name].to_numpy()[rng.permutation(len(properties))]
    np.testing.assert_array_equal(encoder.transform(others), encoder.transform(properties))
    np.testing.assert_array_equal(encoder.fit_transform(others), encoder.fit_transform(properties))


def test_ordinal_codes_follow_the_alphabet() -> None:
    """Names become numbers; unknown and missing ones become NaN; numbers stay as they are."""
    encoder = HyperparameterEncoder().fit(table())
    assert encoder.get_feature_names_out().tolist() == ["activation", "lr", "weight_decay"]
    np.testing.assert_array_equal(encoder.transform(table())[:, 0], [1, 0, 1, np.nan])
    np.testing.assert_array_equal(encoder.transform(table())[:, 1], table()["lr"])
    other = table().assign(activation="selu")
    assert np.isnan(encoder.transform(other)[:, 0]).all()


def test_one_hot_columns_are_numbers_throughout() -> None:
    """A column a name, zero for unknown ones; logarithms of positive rates; the median for a missing number."""
    encoder = HyperparameterEncoder("onehot").fit(table())
    assert encoder.get_feature_names_out().tolist() == [
        "activation_relu", "activation_tanh", "log10_lr", "weight_decay",
    ]  # fmt: skip
    expected = [[0, 1, -3, 0], [1, 0, -2, 1e-3], [0, 1, -2, 1e-3], [0, 0, -1, 1e-2]]
    np.testing.assert_allclose(encoder.transform(table()), expected)
    np.testing.assert_allclose(encoder.transform(table().assign(lr=0.0))[:, 2], -3)


def test_frames_come_with_categories(properties: pd.DataFrame) -> None:
    """As pandas output, names are categoricals, which boosting recognises; rows keep their index."""
    frame = HyperparameterEncoder().set_output(transform="pandas").fit_transform(properties.iloc[5:30])
    assert frame.index.tolist() == list(range(5, 30))
    assert [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)] == [
        "activation", "init", "optimizer",
    ]  # fmt: skip
    assert frame["activation"].astype(str).tolist() == properties["activation"].iloc[5:30].astype(str).tolist()
    model = HistGradientBoostingRegressor(max_iter=2).fit(frame, np.arange(25.0))
    assert model.is_categorical_.tolist() == [True] * 3 + [False] * 3


def test_a_frame_without_hyper_parameters_is_refused() -> None:
    """Measured columns alone are no features; a frame of other names is taken as it is."""
    with pytest.raises(ValueError, match="X has no column of activation, init"):
        HyperparameterEncoder().fit(table()[["seed", "test_acc"]])
    with pytest.raises(ValueError, match="but the target, 'lr'"):
        HyperparameterEncoder(target="lr").fit(table()[["seed", "lr"]])
    others = pd.DataFrame({"width": [1.0, 2.0], "momentum": [0.9, 0.0]})
    np.testing.assert_array_equal(HyperparameterEncoder().fit_transform(others), others)


def test_infinity_is_refused() -> None:
    """A missing number is NaN; infinity is an error that names the column."""
    with pytest.raises(ValueError, match="Input X contains infinity, in column 'lr'"):
        HyperparameterEncoder().fit(table().assign(lr=np.inf))
