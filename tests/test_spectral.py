"""SpectralFeatures: what the singular values of each state say, one after the other, and finite for any matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobench.estimators import SpectralFeatures
from zoobench.estimators.spectral import FEATURES, spectral_features
from zoobench.layout import WeightLayout
from zoobench.readers import read_foreign


@pytest.fixture(scope="module")
def weights(data_dir: Path) -> np.ndarray:
    return read_foreign(data_dir / "dataset_digits_seed.pt").weights


def alpha_of(values: np.ndarray, tail: str) -> float:
    """The definitions, for eigenvalues from the largest to the smallest."""
    if tail == "half":
        k = len(values) // 2
        return 1 + k / sum(np.log(value / values[k]) for value in values[:k])
    found = []
    for k in range(2, len(values) + 1):
        alpha = 1 + k / sum(np.log(value / values[k - 1]) for value in values[:k])
        below = np.arange(k) / k
        law = 1 - (values[:k][::-1] / values[k - 1]) ** (1 - alpha)
        found.append((np.abs(law - below).max(), alpha))
    return min(found)[1]


def by_svd(matrix: np.ndarray, tail: str) -> list[float]:
    """One matrix, from its singular values."""
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    alpha = alpha_of(values, tail)
    log_norm, log_top = np.log10(values.sum()), np.log10(values[0])
    log_alpha_norm = np.log10((values**alpha).sum())
    return [log_norm, log_top, values.sum() / values[0], alpha, alpha * log_top, log_alpha_norm]


@pytest.mark.parametrize("tail", ["half", "ks"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_of_real_weights_follow_the_definitions(
    weights: np.ndarray, tail: str, dtype: type[np.floating]
) -> None:
    """Every feature of every layer is what a decomposition of that one matrix gives, in the dtype of X."""
    layout = WeightLayout.from_architecture("cnn_s")
    X = weights[::40].astype(dtype)
    found = SpectralFeatures("cnn_s", tail=tail).fit_transform(X)
    expected = [
        [by_svd(state[layer.weight.slice].reshape(layer.weight.shape[0], -1), tail) for layer in layout.layers]
        for state in X.astype(np.float64)
    ]
    assert found.dtype == dtype
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found, np.reshape(expected, found.shape), rtol=rtol)


def test_names_and_which_tensors(weights: np.ndarray) -> None:
    """Six features for each weight, none for biases or buffers; a normalisation's weight is a matrix of one row."""
    names = SpectralFeatures("cnn_s").fit(weights).get_feature_names_out().tolist()
    assert len(names) == len(set(names)) == 30
    assert names[:6] == [f"module_list.0.weight_{feature}" for feature in FEATURES]
    shapes = [("conv.weight", (4, 2, 3, 3)), ("bn.weight", (4,)), ("bn.bias", (4,)), ("bn.running_var", (4,))]
    layout = WeightLayout.from_shapes([*shapes, ("bn.num_batches_tracked", ()), ("fc.weight", (1, 4))])
    X = np.random.default_rng(0).normal(size=(5, layout.n_weights))
    spectral = SpectralFeatures(layout).fit(X)
    tensors = [name.removesuffix("_log_norm") for name in spectral.get_feature_names_out()[::6]]
    assert tensors == ["conv.weight", "bn.weight", "fc.weight"]
    found = spectral.transform(X)
    np.testing.assert_allclose(found[:, 0], np.log10((X[:, :72] ** 2).sum(axis=1)))
    np.testing.assert_allclose(found[:, 6], np.log10((X[:, 72:76] ** 2).sum(axis=1)))
    np.testing.assert_allclose(found[:, 7:9], np.stack([found[:, 6], np.ones(5)], axis=1))
    changed = X.copy()
    changed[:, 76:85] = 7
    np.testing.assert_array_equal(spectral.transform(changed), found)


matrices = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[2]).normal(size=(3, *drawn[:2]))
)


@settings(deadline=None, max_examples=50)
@given(matrices, st.sampled_from(["half", "ks"]), st.floats(-3, 3))
def test_what_changes_nothing(stack: np.ndarray, tail: str, exponent: float) -> None:
    """Transposing, and permuting rows and columns, changes no feature; a factor moves logarithms of norms, and neither
    stable rank nor alpha.
    """
    found = spectral_features(stack, tail)
    rng = np.random.default_rng(0)
    permuted = rng.permutation(rng.permutation(stack, axis=1), axis=2)
    np.testing.assert_allclose(spectral_features(permuted, tail), found, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(spectral_features(stack.transpose(0, 2, 1), tail), found, rtol=1e-6, atol=1e-9)
    scaled = spectral_features(stack * 10.0**exponent, tail)
    np.testing.assert_allclose(scaled[:, :2], found[:, :2] + 2 * exponent, atol=1e-9)
    np.testing.assert_allclose(scaled[:, 2:4], found[:, 2:4], rtol=1e-6)


@pytest.mark.parametrize("tail", ["half", "ks"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (4, 4), (3, 8), (8, 3)])
def test_degenerate_matrices_are_finite_as_documented(shape: tuple[int, int], tail: str) -> None:
    """Zeros, one singular value, equal ones, and sizes that no square can hold."""
    rng = np.random.default_rng(0)
    zeros, rank_one = np.zeros(shape), np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    equal = np.eye(*shape)
    sizes = [scale * rng.normal(size=shape) for scale in (1e-200, 1e200, 1e-310)]
    found = spectral_features(np.stack([zeros, rank_one, equal, *sizes]), tail)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], [-20, -20, 0, 0, 0, 0])
    norm = np.log10((rank_one**2).sum())
    np.testing.assert_allclose(found[1], [norm, norm, 1, 0, 0, 0], atol=1e-12)
    rank = min(shape)
    alpha = 101 if rank > 1 else 0
    np.testing.assert_allclose(found[2], [np.log10(rank), 0, rank, alpha, 0, np.log10(rank)], atol=1e-9)
    assert found[3, 0] == -20
    assert found[4, 0] == pytest.approx(400, abs=3)


@pytest.mark.parametrize(("tail", "tolerance"), [("half", 0.2), ("ks", 0.4)])
@pytest.mark.parametrize("alpha", [2.0, 3.5])
def test_a_power_law_is_found(alpha: float, tail: str, tolerance: float) -> None:
    """Of matrices whose squared singular values are drawn from a power law, alpha is its exponent."""
    uniform = np.random.default_rng(0).uniform(size=(5, 300))
    values = uniform ** (-1 / (alpha - 1))
    stack = np.zeros((5, 300, 300))
    stack[:, np.arange(300), np.arange(300)] = np.sqrt(values)
    assert np.median(spectral_features(stack, tail)[:, 3]) == pytest.approx(alpha, abs=tolerance * (alpha - 1))


def test_chunks_do_not_matter(weights: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state's features are the same alone and among others."""
    spectral = SpectralFeatures("cnn_s").fit(weights)
    together = spectral.transform(weights)
    monkeypatch.setattr("zoobench.estimators.spectral._CHUNK_BYTES", 1)
    np.testing.assert_allclose(spectral.transform(weights[:5]), together[:5], rtol=1e-6)


def test_no_layout_means_one_row(weights: np.ndarray) -> None:
    """Without a layout, a state is a matrix of one row: its norm is all there is to tell."""
    found = SpectralFeatures().fit_transform(weights)
    norm = np.log10((weights.astype(np.float64) ** 2).sum(axis=1))
    expected = np.stack([norm, norm, np.ones(len(weights)), *np.zeros((3, len(weights)))], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_cannot_be_described_is_refused(weights: np.ndarray) -> None:
    """NaN, a layout without weights and an unknown tail are errors that say so."""
    X = weights.copy()
    X[3, 9] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        SpectralFeatures("cnn_s").fit(weights).transform(X)
    with pytest.raises(ValueError, match="no tensor that is a weight"):
        SpectralFeatures(WeightLayout([("a.bias", (2464,), "other")])).fit(weights)
    with pytest.raises(ValueError, match="tail"):
        SpectralFeatures("cnn_s", tail="hill").fit(weights)
