"""WeightStatistics: numpy's numbers, for any layout, from any source, in bounded memory."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import Parallel, cpu_count, delayed
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from zoobench.estimators import WeightStatistics
from zoobench.estimators import statistics as statistics_module
from zoobench.estimators.statistics import layer_statistics
from zoobench.layout import WeightLayout
from zoobench.readers import read_foreign

PERCENTILES = {
    "model_zoos": (1, 25, 50, 75, 99),
    "unterthiner": (0, 25, 50, 75, 100),
    "hyper_representations": (1, 25, 50, 75, 99),
}


def by_numpy(X: np.ndarray, layout: WeightLayout, preset: str = "model_zoos") -> np.ndarray:
    """The definition, one tensor after the other."""
    parts = []
    for tensor in layout.tensors:
        if tensor.role == "weight" or (tensor.role == "bias" and preset != "hyper_representations"):
            values = X[:, tensor.slice]
            parts += [values.mean(axis=1)[:, None], values.var(axis=1)[:, None]]
            parts.append(np.percentile(values, PERCENTILES[preset], axis=1).T)
    return np.concatenate(parts, axis=1)


@pytest.fixture(scope="module")
def weights(data_dir: Path) -> np.ndarray:
    return read_foreign(data_dir / "dataset_digits_seed.pt").weights


@pytest.mark.parametrize("preset", PERCENTILES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_real_weights_are_those_of_numpy(weights: np.ndarray, preset: str, dtype: type[np.floating]) -> None:
    """Each preset gives mean, variance and its percentiles as numpy computes them, in the dtype of X."""
    X = weights.astype(dtype)
    found = WeightStatistics("cnn_s", preset=preset).fit_transform(X)
    expected = by_numpy(X.astype(np.float64), WeightLayout.from_architecture("cnn_s"), preset)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=float(np.finfo(dtype).eps)
    )


def padded(X: np.ndarray, layout: WeightLayout, token_size: int) -> np.ndarray:
    """The definition, with tokens that are made."""
    parts = []
    for layer in layout.layers:
        tensors = [tensor for tensor in (layer.weight, layer.bias) if tensor]
        rows = np.concatenate([X[:, t.slice].reshape(len(X), layer.weight.shape[0], -1) for t in tensors], axis=2)
        tokens = np.pad(rows, [(0, 0), (0, 0), (0, -rows.shape[2] % token_size)]).reshape(len(X), -1, token_size)
        values = tokens.reshape(len(X), -1)
        parts += [values.mean(axis=1)[:, None], values.var(axis=1)[:, None]]
        parts.append(np.percentile(values, (1, 25, 50, 75, 99), axis=1).T)
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("token_size", [None, 1, 50, 289])
def test_tokens_of_real_weights_are_described_with_their_padding(
    weights: np.ndarray, token_size: int | None, dtype: type[np.floating]
) -> None:
    """SANE's preset gives numpy's numbers of zero-padded tokens; by default the longest row is one token."""
    layout, X = WeightLayout.from_architecture("cnn_s"), weights[:100].astype(dtype)
    statistics = WeightStatistics("cnn_s", preset="sane", token_size=token_size)
    found = statistics.fit_transform(X)
    assert found.dtype == dtype
    expected = padded(X.astype(np.float64), layout, token_size or 8 * 25 + 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-9, atol=1e-7)
    names = statistics.get_feature_names_out().tolist()
    assert names[:3] == ["module_list.0_mean", "module_list.0_var", "module_list.0_p1"]
    assert len(names) == 35


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.booleans()), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_any_padding(layers: list[tuple[int, int, bool]], token_size: int, seed: int) -> None:
    """Any sizes of layers and tokens, real zeros and ties among the weights included."""
    tensors = []
    for i, (n_out, n_in, has_bias) in enumerate(layers):
        tensors += [(f"l{i}.weight", (n_out, n_in), "linear")] + [(f"l{i}.bias", (n_out,), "linear")] * has_bias
    layout = WeightLayout(tensors)
    X = np.random.default_rng(seed).integers(-2, 3, (4, layout.n_weights)).astype(float)
    found = WeightStatistics(layout, preset="sane", token_size=token_size).fit_transform(X)
    np.testing.assert_allclose(found, padded(X, layout, token_size), atol=1e-12)


def test_tokens_are_of_weights_and_biases_alone() -> None:
    """Batch normalisation makes no tokens, and a layout of nothing else is refused."""
    shapes = [("conv.weight", (4, 1, 3, 3)), ("bn.weight", (4,)), ("bn.running_mean", (4,)), ("fc.weight", (2, 4))]
    layout = WeightLayout.from_shapes(shapes)
    X = np.random.default_rng(0).normal(size=(3, layout.n_weights))
    names = WeightStatistics(layout, preset="sane").fit(X).get_feature_names_out()
    assert [name.rpartition("_")[0] for name in names[::7]] == ["conv", "fc"]
    with pytest.raises(ValueError, match="no tensor that is a weight"):
        WeightStatistics(WeightLayout.from_shapes(shapes[1:3]), preset="sane").fit(X[:, 36:44])


def test_exact_statistics_round_as_numpy_does(weights: np.ndarray) -> None:
    """With `exact`, every digit of float32 weights is numpy's own."""
    layout = WeightLayout.from_architecture("cnn_s")
    found = layer_statistics(weights, layout, exact=True)
    np.testing.assert_array_equal(found, by_numpy(weights, layout))


def test_a_cnn_has_70_features_in_the_order_of_the_paper() -> None:
    """Layer by layer; the weight's mean, variance and percentiles, then the bias's."""
    statistics = WeightStatistics("cnn_l").fit(np.zeros((2, 10853)))
    names = statistics.get_feature_names_out().tolist()
    assert len(names) == len(set(names)) == 70
    kinds = ("mean", "var", "p1", "p25", "p50", "p75", "p99")
    assert names[:14] == [f"module_list.0.{role}_{kind}" for role in ("weight", "bias") for kind in kinds]
    assert names[-1] == "module_list.16.bias_p99"
    assert statistics.transform(np.zeros((3, 10853))).shape == (3, 70)


layouts = st.lists(
    st.tuples(st.sampled_from(["weight", "bias", "running_mean"]), st.integers(1, 30)), min_size=1, max_size=8
).map(lambda tensors: WeightLayout([(f"l{i}.{role}", (size,), "other") for i, (role, size) in enumerate(tensors)]))


@settings(deadline=None)
@given(layouts, st.integers(1, 7), st.integers(0, 2**32 - 1), st.booleans())
def test_any_layout(layout: WeightLayout, n_states: int, seed: int, ties: bool) -> None:
    """Any sizes of tensors, ties included, give numpy's numbers; tensors that are no parameters give none."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-2, 3, (n_states, layout.n_weights)).astype(float) if ties else rng.normal(size=(n_states, 240))
    X = X[:, : layout.n_weights]
    statistics = WeightStatistics(layout)
    if all(tensor.role == "running_mean" for tensor in layout.tensors):
        with pytest.raises(ValueError, match="no tensor that is a weight or bias"):
            statistics.fit(X)
    else:
        np.testing.assert_allclose(statistics.fit_transform(X), by_numpy(X, layout), rtol=1e-10, atol=1e-12)
        assert len(statistics.get_feature_names_out()) == by_numpy(X, layout).shape[1]


@pytest.mark.parametrize("size", range(1, 12))
def test_small_tensors_are_sorted_whatever_their_order(size: int) -> None:
    """All sequences of zeros and ones come out sorted, hence (zero-one principle) all sequences of numbers."""
    X = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
    found = WeightStatistics().fit_transform(X)
    np.testing.assert_allclose(found[:, 2:], np.percentile(X, [1, 25, 50, 75, 99], axis=1).T, atol=1e-12)


@pytest.mark.parametrize("size", [6, 300])
def test_variance_keeps_its_digits_far_from_zero(size: int) -> None:
    """Weights that differ little from a large mean have an accurate variance in float32."""
    X = (100 + 0.01 * np.random.default_rng(0).normal(size=(50, size))).astype(np.float32)
    found = WeightStatistics().fit_transform(X)
    np.testing.assert_allclose(found[:, 1], X.astype(np.float64).var(axis=1), rtol=1e-3)


def test_batch_norm_gives_its_parameters_only() -> None:
    """Weight and bias of a normalisation are described apart; its running statistics and its counter are left out."""
    shapes = [("conv.weight", (4, 1, 3, 3)), ("bn.weight", (4,)), ("bn.bias", (4,)), ("bn.running_mean", (4,))]
    shapes += [("bn.running_var", (4,)), ("bn.num_batches_tracked", ()), ("fc.weight", (2, 4))]
    layout = WeightLayout.from_shapes(shapes)
    X = np.random.default_rng(0).normal(size=(3, layout.n_weights))
    statistics = WeightStatistics(layout).fit(X)
    tensors = [name.rpartition("_")[0] for name in statistics.get_feature_names_out()[::7]]
    assert tensors == ["conv.weight", "bn.weight", "bn.bias", "fc.weight"]
    changed = X.copy()
    changed[:, 44:53] = 7.0
    np.testing.assert_array_equal(statistics.transform(X), statistics.transform(changed))


def test_biases_are_left_out_on_request(weights: np.ndarray) -> None:
    """The preset of Hyper-Representations does not look at biases."""
    names = WeightStatistics("cnn_s", preset="hyper_representations").fit(weights).get_feature_names_out()
    assert len(names) == 35
    assert not any("bias" in name for name in names)


def test_no_layout_means_one_layer(weights: np.ndarray) -> None:
    """Without a layout, all columns are one layer of weights."""
    statistics = WeightStatistics().fit(weights)
    assert statistics.get_feature_names_out()[0] == "all.weight_mean"
    assert statistics.transform(weights).shape == (len(weights), 7)


def test_a_state_does_not_depend_on_the_others(weights: np.ndarray) -> None:
    """A state's statistics are the same alone, among others and in another memory order, up to rounding."""
    statistics = WeightStatistics("cnn_s").fit(weights)
    together = statistics.transform(weights)
    alone = np.concatenate([statistics.transform(weights[i : i + 1]) for i in range(10)])
    np.testing.assert_allclose(together[:10], alone, atol=1e-7)
    np.testing.assert_allclose(statistics.transform(np.asfortranarray(weights)), together, atol=1e-7)


def test_a_memory_map_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A map far larger than what is allocated is described as it lies, and never copied as a whole."""
    n_states = 9000
    data = np.memmap(tmp_path / "weights", dtype=np.float32, mode="w+", shape=(n_states, 2464))
    data[:] = np.random.default_rng(0).normal(size=2464)
    data[::1000] = 0
    data.flush()
    mapped = np.memmap(tmp_path / "weights", dtype=np.float32, mode="r", shape=(n_states, 2464))
    statistics = WeightStatistics("cnn_s").fit(mapped)
    tracemalloc.start()
    found = statistics.transform(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mapped.nbytes > 80e6
    assert peak < 12e6
    np.testing.assert_allclose(found[:1001], by_numpy(mapped[:1001], statistics.layout_), atol=1e-6)


@pytest.mark.parametrize("preset", ["model_zoos", "sane"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(weights: np.ndarray, bad: float, preset: str) -> None:
    """NaN and infinity are an error that says so, wherever they are, when transforming too."""
    statistics = WeightStatistics("cnn_s", preset=preset).fit(weights)
    for column in (3, 204, 2463):
        X = weights.copy()
        X[7, column] = bad
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            statistics.transform(X)


@pytest.mark.parametrize("preset", ["model_zoos", "sane"])
@pytest.mark.parametrize("size", [8, 400])
def test_huge_weights_have_a_variance_as_long_as_it_is_a_number(size: int, preset: str) -> None:
    """Sums of squares may overflow where the variance does not; where it does, an error says where, and the remedy."""
    X = np.random.default_rng(0).uniform(-1, 1, size=(5, size)).astype(np.float32)
    statistics = WeightStatistics(preset=preset).fit(X)
    ordinary = statistics.transform(X)
    X[3] *= 2.0**63
    factors = np.array([2.0**63, 2.0**126, *[2.0**63] * 5])
    found = statistics.transform(X)
    np.testing.assert_allclose(found[3].astype(np.float64), ordinary[3] * factors, rtol=1e-5)
    np.testing.assert_array_equal(np.delete(found, 3, axis=0), np.delete(ordinary, 3, axis=0))
    X[3] *= 16
    with pytest.raises(ValueError, match=r"variance of 'all.*' in row 3 of X is more than float32 holds .*float64"):
        statistics.transform(X)
    factors *= np.array([16, 256, *[16] * 5])
    np.testing.assert_allclose(statistics.transform(X.astype(np.float64))[3], ordinary[3] * factors, rtol=1e-4)


def test_huge_weights_have_exact_statistics() -> None:
    """In float64, statistics of any float32 weights are numbers."""
    X = (np.random.default_rng(0).uniform(-1, 1, size=(3, 400)) * 3e38).astype(np.float32)
    layout = WeightLayout([("all.weight", (400,), "other")])
    np.testing.assert_allclose(
        layer_statistics(X, layout, exact=True), by_numpy(X.astype(np.float64), layout), rtol=1e-6, atol=1e32
    )


def test_workers_start_no_more_threads_than_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two worker processes of joblib have half of the cores each; in a worker thread, there is no other thread."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ask = delayed(statistics_module._n_threads)
    assert Parallel(n_jobs=2, backend="loky")([ask(), ask()]) == [max(1, cpu_count() // 2)] * 2
    assert Parallel(n_jobs=2, backend="threading")([ask(), ask()]) == [1, 1]


def test_the_limit_on_threads_is_respected_and_changes_nothing(
    weights: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many threads as scikit-learn's own loops would start; however many there are, numbers are the same."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with threadpool_limits(3, user_api="openmp"):
        assert statistics_module._n_threads() == 3
    monkeypatch.setattr(statistics_module, "_CHUNK_STATES", 7)
    found = []
    for n_threads in (1, 4):
        monkeypatch.setattr(statistics_module, "_n_threads", lambda n=n_threads: n)
        found.append(WeightStatistics("cnn_s").fit_transform(weights))
    np.testing.assert_array_equal(*found)


def test_layouts_that_do_not_fit_are_refused(weights: np.ndarray) -> None:
    """A wrong number of columns, an unknown architecture and an unknown preset are errors that name the remedy."""
    with pytest.raises(ValueError, match=r"'cnn_l' has .* 2464 were given"):
        WeightStatistics("cnn_l").fit(weights)
    with pytest.raises(ValueError, match="known are cnn_l, cnn_s"):
        WeightStatistics("cnn_m").fit(weights)
    with pytest.raises(ValueError, match="10853 weights, but X has 2464"):
        WeightStatistics(WeightLayout.from_architecture("cnn_l")).fit(weights)
    with pytest.raises(ValueError, match="preset"):
        WeightStatistics("cnn_s", preset="quartiles").fit(weights)


def test_a_layout_survives_cloning(weights: np.ndarray) -> None:
    """A clone has an equal layout and gives the same numbers."""
    statistics = WeightStatistics(WeightLayout.from_architecture("cnn_s"))
    copy = clone(statistics)
    assert copy.layout == statistics.layout
    np.testing.assert_array_equal(copy.fit_transform(weights), statistics.fit_transform(weights))
