"""PermutationAligner: the same networks, as close to a reference as their neurons' order allows."""

from __future__ import annotations

import warnings
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning

from small_networks import SmallResNet, assert_same_function, images_for, random_states
from zoobench.estimators import NeuronPermutation, PermutationAligner, WeightStatistics
from zoobench.estimators.symmetry import symmetry_of
from zoobench.fetch import fetch_zoo
from zoobench.layout import WeightLayout
from zoobench.zoo import Zoo

seeds = st.integers(0, 2**32 - 1)

RESNET = SmallResNet((4, 3, 4), (4, 5, 6))
RESNET_LAYOUT = WeightLayout.from_state_dict(RESNET.state_dict())


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    """The last states of the bundled zoo of seeds."""
    return fetch_zoo("digits_cnn_s", epochs="last")


@pytest.fixture(scope="module")
def aligner(zoo: Zoo) -> PermutationAligner:
    """Fitted to the centre of the models that are not for testing."""
    return PermutationAligner(zoo.layout).fit(zoo.data[zoo.split != "test"])


def permuted(layout: WeightLayout, X: np.ndarray, seed: int) -> np.ndarray:
    symmetry = symmetry_of(layout)
    return symmetry.apply(X, symmetry.draw(len(X), np.random.default_rng(seed)))


def distances(X: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X - reference, axis=1)


# -- what it is for ----------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.data(), seeds, st.integers(1, 3))
def test_a_permuted_model_is_found_again(zoo: Zoo, data: st.DataObject, seed: int, n_init: int) -> None:
    """Seven permuted copies of a trained model, aligned to it, are that model, to the last bit."""
    A = np.asarray(zoo.data[data.draw(st.integers(0, len(zoo.data) - 1))])
    copies = permuted(zoo.layout, np.tile(A, (7, 1)), seed)
    aligned = PermutationAligner(zoo.layout, reference=A, n_init=n_init).fit_transform(copies)
    np.testing.assert_array_equal(aligned, np.tile(A, (7, 1)))


@settings(max_examples=20)
@given(seeds, seeds)
def test_a_permuted_residual_network_is_found_again(seed: int, other: int) -> None:
    """So are networks with residual sums and batch normalisation, and `align(A, A)` is A."""
    X = random_states(RESNET_LAYOUT, 1, seed)
    copies = np.concatenate([X, permuted(RESNET_LAYOUT, np.tile(X, (5, 1)), other)])
    aligned = PermutationAligner(RESNET_LAYOUT, reference=X[0]).fit_transform(copies)
    np.testing.assert_array_equal(aligned, np.tile(X, (6, 1)))


def test_networks_compute_the_same(zoo: Zoo, aligner: PermutationAligner) -> None:
    """Aligned models give the outputs that they gave before."""
    aligned = aligner.transform(zoo.data[:8])
    for i in range(8):
        assert_same_function(zoo.module(i), zoo.layout, zoo.data[i], aligned[i], images_for(1, 28))
    X = random_states(RESNET_LAYOUT, 20, seed=0)
    aligned = PermutationAligner(RESNET_LAYOUT).fit_transform(X)
    assert (aligned != X).any(axis=1).sum() >= 19
    for one, other in zip(X, aligned, strict=True):
        assert_same_function(RESNET, RESNET_LAYOUT, one, other, images_for(1, 5))


def test_statistics_of_tensors_stay(zoo: Zoo, aligner: PermutationAligner) -> None:
    """Each tensor holds the same numbers in another order, so what describes tensors does not change."""
    X, aligned = np.asarray(zoo.data), aligner.transform(zoo.data)
    for tensor in zoo.layout.tensors:
        np.testing.assert_array_equal(np.sort(aligned[:, tensor.slice]), np.sort(X[:, tensor.slice]))
    statistics = WeightStatistics(zoo.layout).fit(X)
    np.testing.assert_allclose(statistics.transform(aligned), statistics.transform(X), atol=1e-6)


def test_aligned_models_are_closer_and_have_a_better_pca(zoo: Zoo, aligner: PermutationAligner) -> None:
    """Distances shrink by more than a tenth, and components explain more: of the models that they are fitted to, and of
    models that neither they nor the aligner have seen."""
    X = zoo.data.astype(np.float64)
    train, test = zoo.split == "train", zoo.split == "test"
    explained = []
    for states in (X, aligner.transform(X)):
        pca = PCA(50, random_state=0).fit(states[train])
        ratios = [pca.explained_variance_ratio_.cumsum()[[4, 19, 49]]]
        centred = states[test] - pca.mean_
        scores = (centred @ pca.components_.T) ** 2
        ratios.append((scores.sum(axis=0) / (centred**2).sum()).cumsum()[[4, 19, 49]])
        explained.append([*ratios, -pdist(states[train]).mean(), -pdist(states[test]).mean()])
    raw, aligned = explained
    assert (aligned[0] > raw[0]).all()
    assert (aligned[1] > raw[1] + 0.01).all()
    assert aligned[2] > 0.9 * raw[2] and aligned[3] > 0.9 * raw[3]


def test_one_model_can_be_the_reference(zoo: Zoo) -> None:
    """Aligned to a model, every other one is closer to it than before, and the model itself stays."""
    X = np.asarray(zoo.data)
    aligner = PermutationAligner(zoo.layout, reference=X[3]).fit(X)
    aligned = aligner.transform(X)
    np.testing.assert_array_equal(aligner.reference_, X[3].astype(np.float64))
    np.testing.assert_array_equal(aligned[3], X[3])
    assert (np.delete(distances(aligned, X[3]) < distances(X, X[3]), 3)).all()
    assert aligner.n_iter_ == 0


# -- how good the permutations are -------------------------------------------------------------------------------------


def test_no_exchange_of_two_neurons_helps(zoo: Zoo, aligner: PermutationAligner) -> None:
    """No two neurons of a layer could change places and bring an aligned model closer to the reference."""
    aligned = aligner.transform(zoo.data[:25]).astype(np.float64)
    symmetry = symmetry_of(zoo.layout)
    found = aligned @ aligner.reference_
    for k, size in enumerate(symmetry.sizes):
        for i, j in product(range(size), repeat=2):
            orders = [np.tile(np.arange(n), (25, 1)) for n in symmetry.sizes]
            orders[k][:, [i, j]] = orders[k][:, [j, i]]
            assert (symmetry.apply(aligned, orders) @ aligner.reference_ <= found + 1e-9).all()


def test_a_small_network_comes_as_close_as_any_order_allows() -> None:
    """Where all orders can be tried, ten starts find the closest for most states, and fewer starts for fewer."""
    layout = WeightLayout.from_shapes([("a.weight", (4, 3)), ("b.weight", (4, 4)), ("c.weight", (2, 4))])
    X = random_states(layout, 200, seed=0).astype(np.float64)
    orders = [np.array(order)[None].repeat(200, axis=0) for order in permutations(range(4))]
    every = [symmetry_of(layout).apply(X, pair) @ X[0] for pair in product(orders, orders)]
    best = np.max(every, axis=0)
    hits = []
    for n_init in (1, 2, 3, 10):
        aligned = PermutationAligner(layout, reference=X[0], n_init=n_init).fit_transform(X)
        assert (aligned @ X[0] < best + 1e-9).all()
        hits.append(int((aligned @ X[0] > best - 1e-9).sum()))
    assert 80 < hits[0] < hits[1] < hits[2] < hits[3] and hits[3] > 160


def test_batch_normalisation_counts() -> None:
    """Where only the running statistics tell channels apart, they decide."""
    X = random_states(RESNET_LAYOUT, 1, seed=0)
    for tensor in RESNET_LAYOUT.tensors:
        if tensor.role not in ("running_mean", "running_var"):
            X[:, tensor.slice] = 1
    copies = permuted(RESNET_LAYOUT, np.tile(X, (9, 1)), seed=1)
    assert (copies != X).any(axis=1).all()
    aligned = PermutationAligner(RESNET_LAYOUT, reference=X[0]).fit_transform(copies)
    np.testing.assert_array_equal(aligned, np.tile(X, (9, 1)))


@pytest.mark.parametrize(
    "shapes",
    [
        [("a.weight", (4, 1)), ("b.weight", (1, 4))],
        [("a.weight", (4, 1)), ("b.weight", (1, 4)), ("c.weight", (3, 1)), ("d.weight", (2, 3))],
        [("a.weight", (4, 0)), ("a.bias", (4,)), ("b.weight", (3, 4)), ("c.weight", (2, 3))],
    ],
)
def test_the_narrowest_networks_are_aligned(shapes: list[tuple[str, tuple[int, ...]]]) -> None:
    """One input, one neuron in between, or no input at all: permuted copies are found again."""
    layout = WeightLayout.from_shapes(shapes)
    X = random_states(layout, 1, seed=0)
    copies = permuted(layout, np.tile(X, (9, 1)), seed=1)
    aligned = PermutationAligner(layout, reference=X[0]).fit_transform(copies)
    np.testing.assert_array_equal(aligned, np.tile(X, (9, 1)))


def test_small_weights_are_aligned_like_large_ones(zoo: Zoo) -> None:
    """The unit of weights does not matter: a millionth of all weights is aligned to a millionth of the result."""
    X = zoo.data[:30].astype(np.float64)
    aligned = PermutationAligner(zoo.layout, reference=X[0]).fit_transform(X)
    for scale in (2.0**-40, 2.0**20):
        other = PermutationAligner(zoo.layout, reference=scale * X[0]).fit_transform(scale * X)
        np.testing.assert_array_equal(other, scale * aligned)


# -- what results depend on --------------------------------------------------------------------------------------------


def test_a_state_does_not_depend_on_the_others(zoo: Zoo, aligner: PermutationAligner) -> None:
    """A state comes out the same alone, among others, in any order and as float64."""
    X = np.asarray(zoo.data)
    aligned = aligner.transform(X)
    for rows in (slice(7, 8), slice(None, None, -1), slice(3, 60, 4)):
        np.testing.assert_array_equal(aligner.transform(X[rows]), aligned[rows])
    np.testing.assert_array_equal(aligner.transform(X.astype(np.float64)), aligned)


def test_the_order_that_neurons_came_in_does_not_matter(zoo: Zoo, aligner: PermutationAligner) -> None:
    """Permuted copies of all models are aligned to the very same weights: the same network is the same vector."""
    X = np.asarray(zoo.data)
    np.testing.assert_array_equal(
        aligner.transform(NeuronPermutation(zoo.layout).fit_transform(X)), aligner.transform(X)
    )


def test_blocks_do_not_matter(zoo: Zoo, aligner: PermutationAligner, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are worked on in blocks, whose size nobody sees."""
    aligned = aligner.transform(zoo.data)
    for module in ("symmetry", "matching", "alignment"):
        monkeypatch.setattr(f"zoobench.estimators.{module}._BLOCK_BYTES", 2464 * 8 * 13)
    np.testing.assert_array_equal(aligner.transform(zoo.data), aligned)
    again = PermutationAligner(zoo.layout).fit(zoo.data[zoo.split != "test"])
    np.testing.assert_allclose(again.reference_, aligner.reference_, rtol=1e-12)


# -- the centre --------------------------------------------------------------------------------------------------------


def test_the_centre_comes_closer_round_by_round(zoo: Zoo) -> None:
    """Each round lowers the distance of states to the centre, until one lowers it by less than `tol`; a search that is
    ended before by `max_iter` warns, and no other."""
    X = zoo.data[:60].astype(np.float64)
    spread = []
    for max_iter in range(1, 6):
        aligner = PermutationAligner(zoo.layout, max_iter=max_iter, tol=0.0)
        with pytest.warns(ConvergenceWarning, match=f"after max_iter={max_iter} rounds; give a larger max_iter"):
            aligner.fit(X)
        assert aligner.n_iter_ == max_iter
        spread.append((X**2).sum(axis=1).mean() - (aligner.reference_**2).sum())
    assert (np.diff(spread) < 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        early = PermutationAligner(zoo.layout, tol=0.02).fit(X)
        assert 1 < early.n_iter_ < PermutationAligner(zoo.layout).fit(X).n_iter_


def test_the_centre_is_the_mean_of_aligned_states(zoo: Zoo) -> None:
    """What comes out of the fit is where the aligned states lie, whatever their order."""
    X = np.asarray(zoo.data[:60])
    aligner = PermutationAligner(zoo.layout, tol=0.0).fit(X)
    mean = aligner.transform(X).mean(axis=0, dtype=np.float64)
    assert np.linalg.norm(mean - aligner.reference_) < 0.1 * np.linalg.norm(mean)
    reverse = PermutationAligner(zoo.layout, tol=0.0).fit(X[::-1])
    np.testing.assert_allclose(reverse.reference_, aligner.reference_, atol=1e-10)


def test_without_layers_nothing_moves() -> None:
    """Where there is nothing to permute, states come out as copies, and the centre is their mean."""
    X = np.random.default_rng(0).normal(size=(20, 9))
    aligner = PermutationAligner().fit(X)
    aligned = aligner.transform(X)
    np.testing.assert_array_equal(aligned, X)
    assert not np.shares_memory(aligned, X)
    np.testing.assert_allclose(aligner.reference_, X.mean(axis=0), rtol=1e-12)
    assert aligner.n_iter_ == 1


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.zeros(2463), r"reference has shape \(2463,\), but one state of shape \(2464,\) .* X\[0\]"),
        (np.zeros((1, 2464)), r"reference has shape \(1, 2464\)"),
        (np.full(2464, np.nan), "reference contains NaN"),
        ("mean", "'reference' parameter .* must be"),
    ],
)
def test_references_that_are_no_state_are_refused(reference: object, message: str) -> None:
    """A reference of another length, of several states or of no numbers is an error that says so."""
    with pytest.raises(ValueError, match=message):
        PermutationAligner("cnn_s", reference=reference).fit(np.zeros((2, 2464)))
