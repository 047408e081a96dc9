"""Permutation symmetries: networks compute the same after their neurons were permuted, whatever their layers are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from small_networks import SmallResNet, assert_same_function, images_for, random_states
from zoobench.estimators import NeuronPermutation, WeightStatistics
from zoobench.estimators.symmetry import symmetry_of
from zoobench.fetch import fetch_zoo
from zoobench.generators.architectures import build_module
from zoobench.layout import WeightLayout
from zoobench.zoo import Zoo

seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return fetch_zoo("digits_cnn_s")


def permuted(layout: WeightLayout, X: np.ndarray, seed: int) -> np.ndarray:
    """Random permutations of every state; all that can move moves."""
    symmetry = symmetry_of(layout)
    return symmetry.apply(X, symmetry.draw(len(X), np.random.default_rng(seed)))


# -- the function stays ------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.data(), seeds)
def test_trained_models_compute_the_same(zoo: Zoo, data: st.DataObject, seed: int) -> None:
    """Whatever model of the bundled zoo and whatever permutation: convolutions and the layer behind the flattening."""
    i = data.draw(st.integers(0, len(zoo.data) - 1))
    X = np.asarray(zoo.data[i : i + 1])
    moved = permuted(zoo.layout, X, seed)
    assert (moved != X).mean() > 0.3
    assert_same_function(zoo.module(i), zoo.layout, X[0], moved[0], images_for(1, 28))


@pytest.mark.parametrize(
    ("architecture", "channels", "side", "sizes"),
    [
        ("cnn_s", 3, 28, (8, 6, 4, 20)),
        ("cnn_l", 3, 32, (16, 32, 15, 20)),
        ("small_cnn", 1, 28, (16, 16, 16)),
        ("resnet18", 3, 8, (64, *[64] * 2, *[128] * 3, *[256] * 3, *[512] * 3)),
    ],
)
def test_named_architectures_compute_the_same(
    architecture: str, channels: int, side: int, sizes: tuple[int, ...]
) -> None:
    """Every named architecture; ResNet-18 has one permutation for each sum and one for the inside of each block."""
    layout = WeightLayout.from_architecture(architecture, channels=channels)
    assert symmetry_of(layout).sizes == sizes
    X = random_states(layout, 1, seed=0)
    moved = permuted(layout, X, seed=1)
    assert (moved != X).mean() > 0.8
    module = build_module(architecture, channels=channels, activation="gelu")
    assert_same_function(module, layout, X[0], moved[0], images_for(channels, side))


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Convolutions, a flattening and linear layers, with and without biases and batch normalisation anywhere."""
    steps: list[nn.Module] = []
    n, side = 2, 6
    for _ in range(draw(st.integers(0, 2))):
        width, kernel = draw(st.integers(1, 5)), draw(st.sampled_from([1, 3]))
        if draw(st.booleans()):
            steps.append(nn.BatchNorm2d(n))
        steps += [nn.Conv2d(n, width, kernel, bias=draw(st.booleans())), nn.Tanh()]
        n, side = width, side - kernel + 1
    if draw(st.booleans()):
        steps.append(nn.BatchNorm2d(n))
    steps.append(nn.Flatten())
    n *= side * side
    if draw(st.booleans()):
        steps.append(nn.BatchNorm1d(n))
    for _ in range(draw(st.integers(1, 3))):
        width = draw(st.integers(1, 6))
        steps += [nn.Linear(n, width, bias=draw(st.booleans())), nn.Tanh()]
        if draw(st.booleans()):
            steps.append(nn.BatchNorm1d(width))
        n = width
    return nn.Sequential(*steps)


@settings(max_examples=60)
@given(chains(), seeds)
def test_any_chain_computes_the_same(module: nn.Sequential, seed: int) -> None:
    """Every chain of layers, and each hidden layer of two or more neurons has a permutation of its own."""
    layout = WeightLayout.from_state_dict(module.state_dict())
    X = random_states(layout, 2, seed=3)
    widths = [layer.weight.shape[0] for layer in module if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert symmetry_of(layout).sizes == tuple(width for width in widths[:-1] if width > 1)
    moved = permuted(layout, X, seed)
    for one, other in zip(X, moved, strict=True):
        assert_same_function(module, layout, one, other, images_for(2, 6))


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=2), min_size=1, max_size=3),
    st.integers(1, 4),
    st.booleans(),
    seeds,
)
def test_any_residual_network_computes_the_same(
    inner: list[list[int]], width: int, pre_activation: bool, seed: int
) -> None:
    """Blocks of two or three convolutions, with and without one in the shortcut, normalised after or before."""
    blocks = []
    for widths in inner:
        blocks.append((width, *widths, out := max(widths)))
        width = out
    module = SmallResNet(*blocks, pre_activation=pre_activation)
    layout = WeightLayout.from_state_dict(module.state_dict())
    X = random_states(layout, 2, seed=3)
    for one, other in zip(X, permuted(layout, X, seed), strict=True):
        assert_same_function(module, layout, one, other, images_for(1, 5))


def test_residual_sums_share_a_permutation() -> None:
    """What is added has one order; a shortcut with a convolution begins a new one; batch normalisation moves along."""
    layout = WeightLayout.from_state_dict(SmallResNet((4, 3, 4), (4, 5, 6), (6, 2, 6)).state_dict())
    symmetry = symmetry_of(layout)
    assert symmetry.sizes == (4, 3, 5, 6, 2)
    rows = {part.tensor.name: part.row for part in symmetry.parts}
    assert {rows[name] for name in ("conv1.weight", "layer1.0.conv2.weight", "layer1.0.bn2.bias")} == {0}
    new = ("layer1.1.conv2.weight", "layer1.1.downsample.0.weight", "layer1.1.downsample.1.weight")
    assert {rows[name] for name in (*new, "layer1.2.conv2.weight", "layer1.2.bn2.running_var")} == {3}
    columns = {part.tensor.name: part.column for part in symmetry.parts}
    assert (columns["layer1.1.downsample.0.weight"], columns["layer1.1.conv2.weight"], columns["fc.weight"]) == (
        0,
        2,
        3,
    )
    assert "fc.bias" not in rows and "bn1.num_batches_tracked" not in rows


# -- layouts that say less, or otherwise -------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["cnn_s", "resnet18"])
def test_order_and_names_of_tensors_do_not_matter(architecture: str) -> None:
    """With each bias before its kernel, or under other names, the same weights move to the same places."""
    layout = WeightLayout.from_architecture(architecture)
    tensors = [(t.name, t.shape, t.kind) for t in layout.tensors]
    order = list(range(len(tensors)))
    if architecture == "cnn_s":
        order = [i ^ 1 for i in order]
    else:
        tensors = [(f"part.{i}.{t.role}", t.shape, t.kind) for i, t in enumerate(layout.tensors)]
    other = WeightLayout([tensors[i] for i in order])
    places = np.concatenate([np.arange(layout.tensors[i].start, layout.tensors[i].slice.stop) for i in order])
    X = random_states(layout, 1, seed=0)
    np.testing.assert_array_equal(permuted(other, X[:, places], seed=5), permuted(layout, X, seed=5)[:, places])


@pytest.mark.parametrize(("architecture", "roles"), [("cnn_s", ["weight"]), ("resnet18", ["weight", "bias"])])
def test_what_is_left_out_changes_nothing_else(architecture: str, roles: list[str]) -> None:
    """Without biases, or without buffers, what is there moves as it does in the whole vector."""
    layout = WeightLayout.from_architecture(architecture)
    mask = layout.mask(roles=roles)
    X = random_states(layout, 1, seed=0)
    rest = permuted(layout.restricted(roles=roles), X[:, mask], seed=5)
    np.testing.assert_array_equal(rest, permuted(layout, X, seed=5)[:, mask])


def test_neurons_without_a_reader_stay() -> None:
    """Of the convolutions alone, the last one's channels stay, because the layer that reads them is not there."""
    layout = WeightLayout.from_architecture("cnn_s").restricted(kinds=["conv2d"])
    assert symmetry_of(layout).sizes == (8, 6)


@pytest.mark.parametrize("layout", [None, WeightLayout([("only.weight", (4, 3), "linear")])])
def test_one_tensor_has_no_symmetry(layout: WeightLayout | None) -> None:
    """One layer has no hidden neurons: nothing is permuted, and states come out as they are."""
    X = np.random.default_rng(0).normal(size=(3, 12))
    permutation = NeuronPermutation(layout).fit(X)
    assert symmetry_of(permutation.layout_).sizes == ()
    np.testing.assert_array_equal(symmetry_of(permutation.layout_).columns([]), np.arange(12)[None])
    np.testing.assert_array_equal(permutation.transform(X), X)


def shapes(*tensors: tuple[str, tuple[int, ...]]) -> WeightLayout:
    return WeightLayout.from_shapes(tensors)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (shapes(("a.weight", (3, 4)), ("b.weight", (2, 5))), "'b' .* takes 5 inputs, but the layer before gives 3"),
        (shapes(("a.weight", (3, 4)), ("b.weight", (2, 6))), "'b' .* takes 6 inputs, but the layer before gives 3"),
        (shapes(("a.weight", (8, 1, 3, 3)), ("b.weight", (8, 1, 3, 3))), "'b' .* takes 1 inputs, but .* gives 8"),
        (shapes(("a.weight", (9, 4)), ("b.weight", (2, 9, 3, 3))), "'b' .* takes 9 inputs"),
        (shapes(("a.weight", (3, 4)), ("n.weight", (3,)), ("b.weight", (2, 3))), "'n' .* groups of channels"),
        (shapes(("a.weight", (3, 4, 5)), ("b.weight", (2, 3))), "'a' .* is of kind 'other'"),
        (shapes(("a.weight", (3, 4)), ("a.weight_orig", (3, 4))), "'a' .* a tensor 'a.weight_orig'"),
        (shapes(("a.weight", (3, 4)), ("a.bias", (4,))), r"'a' .* its bias has shape \(4,\), not \(3,\)"),
        (WeightLayout.from_architecture("cnn_s").restricted(roles=["bias"]), "'module_list.0' .* it has no weight"),
        (shapes(("layer1.0.conv1.weight", (2, 1, 3, 3)), ("fc.weight", (2, 2))), "'layer1.0' has 1 convolutions"),
        (
            shapes(("layer1.0.conv1.weight", (2, 1, 3, 3)), ("layer1.0.gate.weight", (2, 2)), ("fc.weight", (2, 2))),
            "'layer1.0.gate' .* has no place for it",
        ),
        (
            shapes(
                ("fc.weight", (4, 3)),
                ("layer1.0.fc1.weight", (4, 4)),
                ("layer1.0.fc2.weight", (4, 4)),
                ("head.weight", (2, 4)),
            ),
            "'layer1.0.fc1' .* a residual block .* has no place for it",
        ),
        (
            shapes(
                ("conv1.weight", (2, 1, 3, 3)),
                ("layer1.0.conv1.weight", (4, 2, 3, 3)),
                ("layer1.0.conv2.weight", (4, 4, 3, 3)),
            ),
            "'layer1.0.conv2' .* its 4 outputs are added to 2 others",
        ),
    ],
)
def test_what_cannot_be_understood_is_refused(layout: WeightLayout, message: str) -> None:
    """The error names the layer, says what was found, and how to go on."""
    with pytest.raises(ValueError, match=f"{message}.*layout=None"):
        NeuronPermutation(layout).fit(np.zeros((2, layout.n_weights)))


def test_a_batch_normalisation_of_another_size_is_refused() -> None:
    """A normalisation that does not fit the layer before it is no part of a chain."""
    layout = WeightLayout(
        [("a.weight", (3, 4), "linear"), ("n.weight", (4,), "batch_norm"), ("b.weight", (2, 3), "linear")]
    )
    with pytest.raises(ValueError, match="'n' .* normalises 4 values, but the layer before gives 3"):
        symmetry_of(layout)


# -- drawing and applying ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [np.random.default_rng(0), np.random.RandomState(0)], ids=["Generator", "RandomState"])
def test_draws_are_uniform_permutations(rng: np.random.Generator | np.random.RandomState) -> None:
    """Each of the six orders of three neurons comes about as often, for each state anew."""
    layout = shapes(("a.weight", (3, 4)), ("b.weight", (2, 3)))
    (drawn,) = symmetry_of(layout).draw(6000, rng)
    orders, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(orders) == 6 and (np.sort(orders, axis=1) == np.arange(3)).all()
    assert 880 < counts.min() <= counts.max() < 1120


def test_columns_say_where_weights_come_from() -> None:
    """Row i of `columns` takes state i to its permuted self, and is a permutation of all places."""
    layout = WeightLayout.from_architecture("cnn_l")
    symmetry = symmetry_of(layout)
    X = random_states(layout, 3, seed=0)
    permutations = symmetry.draw(3, np.random.default_rng(1))
    columns = symmetry.columns(permutations)
    assert columns.dtype == np.intp
    assert (np.sort(columns, axis=1) == np.arange(layout.n_weights)).all()
    np.testing.assert_array_equal([x[c] for x, c in zip(X, columns, strict=True)], symmetry.apply(X, permutations))


def test_a_permutation_says_which_neuron_comes_where() -> None:
    """Neuron j of the permuted state is neuron `permutation[j]` of the state before."""
    layout = shapes(("a.weight", (3, 2)), ("a.bias", (3,)), ("b.weight", (2, 3)))
    X = np.arange(15.0)[None]
    moved = symmetry_of(layout).apply(X, [np.array([[2, 0, 1]])])
    assert moved.tolist() == [[4, 5, 0, 1, 2, 3, 8, 6, 7, 11, 9, 10, 14, 12, 13]]


# -- NeuronPermutation -------------------------------------------------------------------------------------------------


def test_every_state_has_a_permutation_of_its_own(zoo: Zoo) -> None:
    """States are permuted differently, and each one the same in any batch, any order and either precision."""
    X = np.asarray(zoo.data[:50])
    permutation = NeuronPermutation(zoo.layout).fit(X)
    moved = permutation.transform(X)
    last = zoo.layout.tensors[-2].slice
    orders = {tuple(np.searchsorted(np.sort(x[last][:20]), y[last][:20])) for x, y in zip(X, moved, strict=True)}
    assert len(orders) == 50
    np.testing.assert_array_equal(permutation.transform(X[::-1])[::-1], moved)
    np.testing.assert_array_equal(permutation.transform(X[7:8]), moved[7:8])
    np.testing.assert_array_equal(permutation.transform(X.astype(np.float64)), moved)


def test_another_seed_is_another_view(zoo: Zoo) -> None:
    """No two of many seeds permute a state alike, and one seed does so twice."""
    X = np.repeat(zoo.data[:1], 2, axis=0)
    views = [NeuronPermutation(zoo.layout, random_state=seed).fit_transform(X) for seed in range(50)]
    assert all((view[0] == view[1]).all() for view in views)
    assert len({view[0].tobytes() for view in views}) == 50


def test_orders_are_all_as_likely() -> None:
    """Over many states, each neuron comes to each place about as often."""
    layout = shapes(("a.weight", (4, 1)), ("b.weight", (1, 4)))
    X = np.tile(np.arange(4.0), (8000, 2)) + np.random.default_rng(0).random((8000, 1)) / 2
    moved = np.floor(NeuronPermutation(layout).fit_transform(X))
    np.testing.assert_array_equal(moved[:, :4], moved[:, 4:])
    counts = [np.bincount(column.astype(int), minlength=4) for column in moved[:, :4].T]
    assert 1850 < np.min(counts) <= np.max(counts) < 2150


def test_statistics_of_tensors_stay(zoo: Zoo) -> None:
    """Each tensor holds the same numbers in another order, so what describes tensors does not change."""
    X = np.asarray(zoo.data[:50])
    moved = NeuronPermutation(zoo.layout).fit_transform(X)
    for tensor in zoo.layout.tensors:
        np.testing.assert_array_equal(np.sort(moved[:, tensor.slice]), np.sort(X[:, tensor.slice]))
    statistics = WeightStatistics(zoo.layout).fit(X)
    np.testing.assert_allclose(statistics.transform(moved), statistics.transform(X), atol=1e-6)


def test_weights_stay_as_they_are(zoo: Zoo) -> None:
    """The input is not written to, and the output is not the input, whether anything moves or not."""
    X = np.array(zoo.data[:3])
    before = X.copy()
    for layout in (None, zoo.layout):
        moved = NeuronPermutation(layout).fit_transform(X)
        assert not np.shares_memory(moved, X)
        np.testing.assert_array_equal(X, before)
