"""WeightPCA: exact components where that is cheap, as good as exact ones elsewhere, from a file in bounded memory."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from zoobench.estimators import WeightPCA, principal
from zoobench.fetch import fetch_zoo
from zoobench.layout import WeightLayout


@pytest.fixture(scope="module")
def weights() -> np.ndarray:
    """Real states of networks with many hyper-parameters, more of them than are decomposed exactly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # how many diverged
        data: np.ndarray = fetch_zoo("digits_cnn_s_hyp_rand", max_abs_weight=5).data
    assert len(data) > 1024
    return data


def check_components(pca: WeightPCA, exact: PCA, tolerance: float) -> None:
    """Orthonormal, with the variances of the exact ones, and in the space that those span."""
    n_components = len(pca.components_)
    products = pca.components_.astype(np.float64) @ pca.components_.T
    np.testing.assert_allclose(products, np.eye(n_components), atol=1e-5)
    np.testing.assert_allclose(pca.explained_variance_, exact.explained_variance_[:n_components], rtol=tolerance)
    # The last ones are as uncertain as the gap behind them is small: here it is not.
    cosines = np.linalg.svd(pca.components_ @ exact.components_[:n_components].T)[1]
    assert cosines.min() > 1 - tolerance


@pytest.mark.parametrize("shape", [(1118, 1030), (1030, 2464)])
def test_iterated_components_are_close_to_exact_ones(weights: np.ndarray, shape: tuple[int, int]) -> None:
    """On real weights, tall and wide, variances and subspace are exact to 1e-3, and with a smaller `tol` to 1e-5."""
    X = weights[: shape[0], : shape[1]]
    exact = PCA(20, svd_solver="arpack", random_state=0).fit(X.astype(np.float64))
    for tol, tolerance in ((5e-4, 1e-3), (1e-6, 1e-5)):
        pca = WeightPCA(20, tol=tol).fit(X)
        assert pca.n_iter_ > 1
        check_components(pca, exact, tolerance)
        np.testing.assert_allclose(pca.explained_variance_ratio_, exact.explained_variance_ratio_[:20], rtol=tolerance)


@pytest.mark.parametrize("shape", [(300, 700), (700, 300)])
def test_small_data_is_decomposed_exactly(weights: np.ndarray, shape: tuple[int, int]) -> None:
    """Up to 1024 states or weights, components, signs, variances and coordinates are scikit-learn's to rounding."""
    X = weights[: shape[0], : shape[1]].astype(np.float64)
    exact = PCA(40, svd_solver="full").fit(X)
    pca = WeightPCA(40).fit(X)
    assert pca.n_iter_ == 1
    np.testing.assert_allclose(pca.components_, exact.components_, atol=1e-7)
    np.testing.assert_allclose(pca.mean_, exact.mean_)
    np.testing.assert_allclose(pca.explained_variance_, exact.explained_variance_, rtol=1e-9)
    np.testing.assert_allclose(pca.explained_variance_ratio_, exact.explained_variance_ratio_, rtol=1e-9)
    np.testing.assert_allclose(pca.transform(X), exact.transform(X), atol=1e-6)
    np.testing.assert_allclose(
        pca.inverse_transform(pca.transform(X)), exact.inverse_transform(exact.transform(X)), atol=1e-7
    )


def test_a_layer_by_itself(weights: np.ndarray) -> None:
    """With `per_layer`, each layer's columns are what a PCA of that layer alone gives, joined in order."""
    X, layout = weights[:200], WeightLayout.from_architecture("cnn_s")
    pca = WeightPCA(7, layout="cnn_s", per_layer=True).fit(X)
    names = pca.get_feature_names_out()
    assert pca.layer_n_components_ == (7, 7, 7, 7, 7)
    assert len(names) == 35
    for i, layer in enumerate(layout.layers):
        alone = WeightPCA(7).fit(X[:, layer.slice])
        out = slice(7 * i, 7 * i + 7)
        np.testing.assert_allclose(pca.transform(X)[:, out], alone.transform(X[:, layer.slice]), atol=1e-5)
        np.testing.assert_allclose(pca.explained_variance_[out], alone.explained_variance_, rtol=1e-6)
        assert pca.layer_explained_variance_ratio_[i] == pytest.approx(alone.explained_variance_ratio_.sum(), rel=1e-5)
        assert names[out].tolist() == [f"{layer.name}_pc{j}" for j in range(7)]


@pytest.mark.parametrize("per_layer", [False, True])
def test_layers_share_of_explained_variance(weights: np.ndarray, per_layer: bool) -> None:
    """It is 1 minus what the reconstruction leaves of a layer's variance, whichever way components were found."""
    X, layout = weights[:500].astype(np.float64), WeightLayout.from_architecture("cnn_s")
    pca = WeightPCA(12, layout=layout, per_layer=per_layer).fit(X)
    rest = X - pca.inverse_transform(pca.transform(X))
    expected = [1 - rest[:, layer.slice].var(0).sum() / X[:, layer.slice].var(0).sum() for layer in layout.layers]
    np.testing.assert_allclose(pca.layer_explained_variance_ratio_, expected, rtol=1e-9)
    np.testing.assert_allclose(
        pca.explained_variance_ratio_.sum(), 1 - rest.var(axis=0).sum() / X.var(axis=0).sum(), rtol=1e-9
    )


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40)
@given(sizes, st.integers(2, 12), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_all_components_lose_nothing(layers: list[int], n_states: int, seed: int, per_layer: bool, flat: bool) -> None:
    """With as many components as there can be, states come back, and variances are those of the new columns, whatever
    the rank of the data.
    """
    layout = WeightLayout([(f"l{i}.weight", (size,), "other") for i, size in enumerate(layers)])
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_states, layout.n_weights))
    if flat:
        X = rng.normal(size=(n_states, 1)) * X[:1]
    pca = WeightPCA(None, layout=layout, per_layer=per_layer)
    Z = pca.fit_transform(X)
    np.testing.assert_allclose(pca.inverse_transform(Z), X, atol=1e-6)
    np.testing.assert_allclose(Z.var(axis=0, ddof=1), pca.explained_variance_, atol=1e-9)
    np.testing.assert_allclose(pca.explained_variance_ratio_.sum(), 1)
    expected = [min(n_states, size) for size in (layers if per_layer else [layout.n_weights])]
    assert list(pca.layer_n_components_) == expected
    for i, size in enumerate(expected):
        axes = pca.components_[:size, layout.layers[i].slice] if per_layer else pca.components_
        np.testing.assert_allclose(axes @ axes.T, np.eye(size), atol=1e-8)


def test_more_components_than_there_can_be(weights: np.ndarray) -> None:
    """No more are kept than states or weights, so that the default works on anything."""
    assert WeightPCA().fit_transform(weights[:20, :3]).shape == (20, 3)
    assert WeightPCA().fit_transform(weights[:20]).shape == (20, 20)
    assert WeightPCA(10**6).fit(weights[:30]).layer_n_components_ == (30,)


def test_signs_do_not_depend_on_the_order_of_states(weights: np.ndarray) -> None:
    """The largest entry of a component is positive, and shuffled states give the same components."""
    X = weights[:400]
    pca = WeightPCA(10).fit(X)
    largest = np.abs(pca.components_).argmax(axis=1)
    assert (pca.components_[np.arange(10), largest] > 0).all()
    shuffled = WeightPCA(10).fit(np.random.default_rng(0).permutation(X))
    np.testing.assert_allclose(shuffled.components_, pca.components_, atol=1e-4)


def test_where_the_iteration_starts_hardly_matters(weights: np.ndarray) -> None:
    """Equal seeds give equal bits; others give variances that agree to `tol`."""
    one, same, other = (WeightPCA(5, random_state=seed).fit(weights) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.components_, same.components_)
    assert not np.array_equal(one.components_, other.components_)
    np.testing.assert_allclose(one.explained_variance_, other.explained_variance_, rtol=1e-3)


def test_means_far_from_zero_cost_no_digits() -> None:
    """Weights that differ little from a large mean have accurate components in float32, iterated or not."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(1200, 6)) @ (rng.normal(size=(6, 1100)) * 2.0 ** -np.arange(6)[:, None])
    X = (1000 + 0.5 * spread).astype(np.float32)
    exact = PCA(6, svd_solver="covariance_eigh").fit(X.astype(np.float64))
    few = PCA(6, svd_solver="full").fit(X[:200].astype(np.float64))
    for data, reference in ((X, exact), (X[:200], few)):
        pca = WeightPCA(6).fit(data)
        np.testing.assert_allclose(pca.explained_variance_, reference.explained_variance_, rtol=1e-4)
        np.testing.assert_allclose(np.abs(np.vecdot(pca.components_, reference.components_)), 1, atol=1e-4)


def test_constant_layers_explain_nothing() -> None:
    """A layer that does not vary has no share to explain (NaN), disturbs no other, and warns of nothing."""
    layout = WeightLayout([("a.weight", (4,), "other"), ("b.weight", (3,), "other")])
    X = np.random.default_rng(0).normal(size=(300, 7)).astype(np.float32)
    X[:, :4] = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for per_layer in (False, True):
            pca = WeightPCA(layout=layout, per_layer=per_layer).fit(X)
            share = pca.layer_explained_variance_ratio_
            assert np.isnan(share[0])
            assert share[1] == pytest.approx(1, abs=1e-5)
            np.testing.assert_allclose(pca.inverse_transform(pca.transform(X)), X, atol=1e-5)
        nothing = WeightPCA(layout=layout).fit(np.ones((5, 7)))
    assert np.isnan(nothing.explained_variance_ratio_).all()
    np.testing.assert_array_equal(nothing.transform(np.ones((5, 7))), 0)


def test_a_memory_map_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """A file larger than what is allocated is decomposed, transformed and never copied as a whole."""
    shape = (12_000, 2464)
    data = np.memmap(tmp_path / "weights", dtype=np.float32, mode="w+", shape=shape)
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, shape[1]))
    data[:] = 0.01 * rng.normal(size=(1, shape[1]))
    data += (rng.normal(size=(shape[0], 3)) @ directions).astype(np.float32)
    data.flush()
    mapped = np.memmap(tmp_path / "weights", dtype=np.float32, mode="r", shape=shape)
    tracemalloc.start()
    pca = WeightPCA(3, layout="cnn_s").fit(mapped)
    Z = pca.transform(mapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mapped.nbytes > 118e6
    assert peak < 50e6
    assert pca.explained_variance_ratio_.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(pca.inverse_transform(Z[:100]), mapped[:100], atol=1e-3)


@pytest.mark.parametrize("shape", [(1030, 1040), (1040, 1030), (40, 60)])
def test_blocks_do_not_matter(weights: np.ndarray, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows or columns a block has, means, variances and components are the same up to rounding."""
    X = weights[: shape[0], : shape[1]]
    layout = WeightLayout([("a.weight", (7,), "other"), ("b.weight", (shape[1] - 7,), "other")])
    whole = WeightPCA(4, layout=layout).fit(X)
    monkeypatch.setattr(principal, "_BLOCK_BYTES", 150_000 if shape[0] > 100 else 1000)
    monkeypatch.setattr(principal, "_BLOCK_COLUMNS", 100 if shape[0] > 100 else 13)
    blocked = WeightPCA(4, layout=layout).fit(X)
    np.testing.assert_allclose(blocked.mean_, whole.mean_, atol=1e-6)
    np.testing.assert_allclose(blocked.explained_variance_ratio_, whole.explained_variance_ratio_, rtol=1e-4)
    np.testing.assert_allclose(
        blocked.layer_explained_variance_ratio_, whole.layer_explained_variance_ratio_, rtol=1e-4
    )
    Z = blocked.transform(X)
    np.testing.assert_allclose(Z, (X - blocked.mean_) @ blocked.components_.T, atol=1e-5)
    np.testing.assert_allclose(blocked.inverse_transform(Z), Z @ blocked.components_ + blocked.mean_, atol=1e-5)


@pytest.mark.parametrize("top", [30.0, 300.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_component_that_dominates_does_not_hide_others(top: float, dtype: type[np.floating]) -> None:
    """However much larger the first variance is, all are exact to 1e-3, and so is what the others span."""
    sizes = np.append(top, np.arange(1.0, 1100) ** -0.5)
    X = (np.random.default_rng(0).standard_normal((1200, 1100)) * sizes).astype(dtype)
    exact = PCA(20, svd_solver="covariance_eigh").fit(X.astype(np.float64))
    pca = WeightPCA(20).fit(X)
    assert 1 < pca.n_iter_ < 8
    check_components(pca, exact, 1e-3)
    cosines = np.linalg.svd(pca.components_[1:] @ exact.components_[1:].T)[1]
    assert cosines.min() > 0.999


def test_what_does_not_converge_says_so() -> None:
    """Noise has no leading components: asked for them to the last digit, it warns and names the remedy."""
    X = np.random.default_rng(0).normal(size=(1100, 1100))
    with pytest.warns(ConvergenceWarning, match="larger tol than 0.0 or fewer components than 3"):
        pca = WeightPCA(3, tol=0.0).fit(X)
    assert pca.n_iter_ == principal.MAX_PASSES


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(weights: np.ndarray, bad: float) -> None:
    """NaN and infinity are an error that says so, in both directions."""
    X = weights[:30].copy()
    pca = WeightPCA(3).fit(X)
    X[7, 2463] = bad
    for refused in (WeightPCA(3).fit, pca.transform):
        with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
            refused(X)
    with pytest.raises(ValueError, match="NaN" if np.isnan(bad) else "infinity"):
        pca.inverse_transform(np.full((1, 3), bad))


def test_wrong_arguments_are_refused(weights: np.ndarray) -> None:
    """A layout that does not fit, no component at all, and coordinates of another space are errors."""
    with pytest.raises(ValueError, match="2464 weights, but X has 100"):
        WeightPCA(layout=WeightLayout.from_architecture("cnn_s")).fit(weights[:10, :100])
    with pytest.raises(ValueError, match="n_components"):
        WeightPCA(0).fit(weights[:10])
    with pytest.raises(ValueError, match="X has 2 columns, but transform gives 3"):
        WeightPCA(3).fit(weights[:10]).inverse_transform(np.zeros((1, 2)))
