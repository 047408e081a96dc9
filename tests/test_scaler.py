"""LayerScaler: one mean and one standard deviation a layer, exact, from any source, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobench.estimators import LayerScaler, principal
from zoobench.layout import WeightLayout
from zoobench.readers import read_foreign


@pytest.fixture(scope="module")
def weights(data_dir: Path) -> np.ndarray:
    return read_foreign(data_dir / "dataset_digits_seed.pt").weights


@pytest.mark.parametrize("per", ["layer", "tensor"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_real_weights_are_those_of_numpy(weights: np.ndarray, per: str, dtype: type[np.floating]) -> None:
    """Each layer, or each tensor, has numpy's mean and standard deviation, and becomes standard."""
    layout = WeightLayout.from_architecture("cnn_s")
    X = weights.astype(dtype)
    scaler = LayerScaler("cnn_s", per=per)
    scaled = scaler.fit_transform(X)
    parts = [owner.slice for owner in (layout.layers if per == "layer" else layout.tensors)]
    assert scaled.dtype == dtype
    assert len(scaler.mean_) == len(parts) == (5 if per == "layer" else 10)
    for i, part in enumerate(parts):
        values = X[:, part].astype(np.float64)
        assert scaler.mean_[i] == pytest.approx(values.mean(), rel=1e-12)
        assert scaler.scale_[i] == pytest.approx(values.std(), rel=1e-12)
        np.testing.assert_allclose(scaled[:, part], (values - values.mean()) / values.std(), rtol=1e-6)
    np.testing.assert_allclose(scaler.inverse_transform(scaled), X, atol=1e-6)


layouts = st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any)


@settings(deadline=None, max_examples=50)
@given(layouts, st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([16, 100, 1 << 20]))
def test_any_layout_in_any_blocks(shapes: list[int], n_states: int, seed: int, n_bytes: int) -> None:
    """Layers of any size, empty ones too, read in blocks of any size, come out standard or, if constant, as zeros."""
    layout = WeightLayout([(f"l{i}.weight", (size,), "other") for i, size in enumerate(shapes)])
    rng = np.random.default_rng(seed)
    X = rng.normal(100, 0.1, size=(n_states, layout.n_weights))
    X[:, layout.layers[-1].slice] = 0.1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(principal, "_BLOCK_BYTES", n_bytes)
        patch.setattr(principal, "_BLOCK_COLUMNS", 4)
        scaler = LayerScaler(layout).fit(X)
        scaled = scaler.transform(X)
        np.testing.assert_allclose(scaler.inverse_transform(scaled), X, rtol=1e-12)
    for layer, scale in zip(layout.layers, scaler.scale_, strict=True):
        values = scaled[:, layer.slice]
        if values.size == 0 or np.ptp(X[:, layer.slice]) == 0:
            assert scale == 1
            np.testing.assert_array_equal(values, 0)
        else:
            assert values.mean() == pytest.approx(0, abs=1e-9)
            assert values.std() == pytest.approx(1, abs=1e-9)


def test_constant_layers_keep_their_scale() -> None:
    """Equal numbers have a variance of exactly zero, however often 0.1 is added up, and a scale of 1."""
    X = np.full((1000, 6), 0.1, dtype=np.float32)
    X[:, 4:] = np.random.default_rng(0).normal(size=(1000, 2))
    layout = WeightLayout([("a.weight", (4,), "other"), ("b.weight", (2,), "other")])
    scaler = LayerScaler(layout).fit(X)
    assert scaler.var_[0] == 0
    assert scaler.scale_[0] == 1
    np.testing.assert_array_equal(scaler.transform(X)[:, :4], 0)


def test_a_mean_far_from_zero_costs_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the deviation is a millionth of the mean, float32 weights are as standard as their own rounding lets
    them be, whether read at once or in many blocks.
    """
    monkeypatch.setattr(principal, "_BLOCK_BYTES", 4096)
    X = (1e4 + 0.05 * np.random.default_rng(0).normal(size=(500, 40))).astype(np.float32)
    scaler = LayerScaler().fit(X)
    values = X.astype(np.float64)
    assert scaler.mean_[0] == pytest.approx(values.mean(), rel=1e-14)
    assert scaler.scale_[0] == pytest.approx(values.std(), rel=1e-9)
    np.testing.assert_allclose(scaler.transform(X), (values - values.mean()) / values.std(), atol=1e-6)


def test_a_batch_norm_by_tensor() -> None:
    """Per tensor, running statistics do not change how the trained parameters are scaled; per layer they do."""
    layout = WeightLayout.from_shapes(
        [("bn.weight", (4,)), ("bn.bias", (4,)), ("bn.running_mean", (4,)), ("bn.running_var", (4,))]
    )
    X = np.random.default_rng(0).normal(size=(50, 16))
    larger = X * np.repeat([1.0, 1.0, 1.0, 100.0], 4)
    assert layout.layers[0].slice == slice(0, 16)
    for per, same in (("tensor", True), ("layer", False)):
        found = [LayerScaler(layout, per=per).fit_transform(data)[:, :12] for data in (X, larger)]
        assert np.allclose(*found) == same


def test_a_memory_map_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Fitting allocates a few blocks; transforming, besides them, the result."""
    shape = (30_000, 1000)
    data = np.memmap(tmp_path / "weights", dtype=np.float32, mode="w+", shape=shape)
    data[:] = np.random.default_rng(0).normal(size=shape[1])
    data.flush()
    mapped = np.memmap(tmp_path / "weights", dtype=np.float32, mode="r", shape=shape)
    tracemalloc.start()
    scaler = LayerScaler().fit(mapped)
    fitted = tracemalloc.get_traced_memory()[1]
    scaled = scaler.transform(mapped)
    transformed = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mapped.nbytes == 120e6
    assert fitted < 90e6
    assert transformed < 120e6 + 90e6
    assert scaled[:9].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(weights: np.ndarray, bad: float) -> None:
    """NaN and infinity are an error that says so."""
    X = weights.copy()
    scaler = LayerScaler("cnn_s").fit(X)
    X[7, 2463] = bad
    for refused in (LayerScaler("cnn_s").fit, scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            refused(X)


def test_wrong_arguments_are_refused(weights: np.ndarray) -> None:
    """What is no way to share a scale, and weights of another network, are errors."""
    with pytest.raises(ValueError, match="per"):
        LayerScaler("cnn_s", per="weight").fit(weights)
    with pytest.raises(ValueError, match="X has 7 columns, but the layout has 2464 weights"):
        LayerScaler("cnn_s").fit(weights).inverse_transform(np.zeros((1, 7)))
