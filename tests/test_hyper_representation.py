"""The hyper-representation: tokens, views, losses, and what training promises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from zoobench import WeightLayout, fetch_zoo
from zoobench.estimators import HYPER_REPRESENTATION_PRESETS, HyperRepresentation, autoencoding
from zoobench.estimators.contrastive import ERASED_AREA, erased, nt_xent
from zoobench.estimators.hyper_representation import Views
from zoobench.estimators.tokens import WeightTokens
from zoobench.generators.chains import Chain

CNN_S = WeightLayout.from_architecture("cnn_s")

#: A network of one hidden layer, 15 weights in all.
SMALL = WeightLayout([("a.weight", (3, 2), "linear"), ("a.bias", (3,), "linear"), ("b.weight", (2, 3), "linear")])

#: As small and short as shows what is to be shown.
QUICK: dict[str, Any] = {"latent_dim": 8, "d_model": 16, "n_blocks": 1, "n_heads": 2, "d_ff": 16, "max_epochs": 3}


def weights_of(layout: WeightLayout, n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, layout.n_weights)).astype(np.float32)


def fitted(layout: WeightLayout = SMALL, n: int = 24, **settings: Any) -> HyperRepresentation:
    return HyperRepresentation(layout, **{**QUICK, **settings}).fit(weights_of(layout, n))


# -- tokens ------------------------------------------------------------------------------------------------------------

side = st.integers(1, 4)
kernels = st.tuples(side, side, side, side)
layer_shapes = st.lists(
    st.one_of(
        st.tuples(st.just("conv2d"), kernels, st.booleans()),
        st.tuples(st.just("linear"), st.tuples(side, side), st.booleans()),
        st.tuples(st.just("batch_norm"), st.tuples(side), st.booleans()),
    ),
    min_size=1,
    max_size=5,
)


def layout_of(shapes: list[tuple[str, tuple[int, ...], bool]]) -> WeightLayout:
    tensors: list[tuple[str, tuple[int, ...], str]] = []
    for number, (kind, shape, more) in enumerate(shapes):
        tensors.append((f"{number}.weight", shape, kind))
        if more:
            tensors.append((f"{number}.bias", shape[:1], kind))
        if kind == "batch_norm":
            tensors += [(f"{number}.running_mean", shape, kind), (f"{number}.num_batches_tracked", (), kind)]
    return WeightLayout(tensors)


@given(shapes=layer_shapes)
def test_tokens_hold_every_weight_once(shapes: list[tuple[str, tuple[int, ...], bool]]) -> None:
    """Whatever the layout, weights come back from their tokens, and each number is in one token."""
    layout = layout_of(shapes)
    tokens, X = WeightTokens(layout), weights_of(layout, 3)
    parts = tokens.split(X)
    assert [part.shape[1:] for part in parts] == list(tokens.shapes)
    assert sum(part[0].size for part in parts) == layout.n_weights
    np.testing.assert_array_equal(tokens.join(parts), X)
    assert sorted(tokens.order) == list(range(layout.n_weights))


def test_a_token_is_a_neuron_with_its_bias() -> None:
    """The token of a filter is the filter, flattened, and its bias; a batch normalisation has a token a tensor."""
    weights = weights_of(CNN_S, 1)
    tensors = CNN_S.unflatten(weights[0])
    second = WeightTokens(CNN_S).split(weights)[1][0]
    expected = np.append(tensors["module_list.3.weight"][4].ravel(), tensors["module_list.3.bias"][4])
    np.testing.assert_array_equal(second[4], expected)
    resnet = WeightTokens(WeightLayout.from_architecture("resnet18"))
    assert [(group.name, group.columns.shape) for group in resnet.groups[:4]] == [
        ("conv1", (64, 27)),
        ("bn1.weight", (1, 64)),
        ("bn1.bias", (1, 64)),
        ("bn1.running_mean", (1, 64)),
    ]


def test_weights_without_layers_are_one_token() -> None:
    """With `layout=None` the vector is one token, and fitting works."""
    X = weights_of(SMALL, 10)
    model = HyperRepresentation(**QUICK).fit(X)
    assert WeightTokens(model.layout_).shapes == ((1, 15),)
    assert model.inverse_transform(model.transform(X)).shape == X.shape


def test_networks_of_too_many_neurons_are_refused() -> None:
    """A network whose attention would not fit into memory gives an error that says so, and what to do."""
    wide = WeightLayout([("a.weight", (3000, 1), "linear"), ("b.weight", (1, 3000), "linear")])
    with pytest.raises(ValueError, match=r"3001 neurons.*2048.*WeightPCA"):
        HyperRepresentation(wide).fit(weights_of(wide, 2))


# -- views -------------------------------------------------------------------------------------------------------------


def test_views_compute_what_the_network_computes() -> None:
    """The view that is to be reconstructed is another weight vector and the same function; two views differ."""
    zoo = fetch_zoo("digits_cnn_s", epochs="last", subset="test")
    weights = torch.from_numpy(np.array(zoo.data[:4]))
    views = Views(CNN_S, "cpu", permute=True, erase=0.0)
    generator = torch.Generator().manual_seed(0)
    first, second = (views.draw(weights, generator)[0] for _ in range(2))
    images = torch.randn(1, 5, 1, 28, 28, generator=generator)
    chain = Chain(CNN_S, "tanh")
    for view in (first, second):
        torch.testing.assert_close(chain.logits(view, images), chain.logits(weights, images), rtol=0, atol=1e-5)
        assert (view != weights).float().mean() > 0.5
    assert (first != second).float().mean() > 0.5


def test_erasing_takes_a_rectangle_of_some_states() -> None:
    """About the wanted share of states has something erased: a contiguous block of a fair share of the numbers."""
    layout = WeightLayout([("a.weight", (40, 40), "linear")])
    rows, columns = (torch.from_numpy(where) for where in WeightTokens(layout).positions())
    gone = erased(rows, columns, 1000, 0.5, torch.Generator().manual_seed(0)).reshape(1000, 40, 40)
    share = gone.float().mean(dim=(1, 2))
    assert 0.44 < (share > 0).float().mean() < 0.56
    hit = gone[share > 0]
    # A rectangle is where one of its rows and one of its columns meet.
    assert torch.equal(hit, hit.any(2)[:, :, None] & hit.any(1)[:, None, :])
    found = share[share > 0]
    low, high = ERASED_AREA
    assert 0.5 * low < found.min() < 2 * low and 0.85 * high < found.max() < 1.15 * high


def test_a_view_is_erased_but_its_target_is_not() -> None:
    """What the encoder sees differs from what the decoder has to restore by zeros alone."""
    weights = torch.from_numpy(weights_of(CNN_S, 8))
    target, seen = Views(CNN_S, "cpu", permute=True, erase=1.0).draw(weights, torch.Generator().manual_seed(0))
    assert (target != 0).all()
    gone = seen == 0
    assert gone.any(1).all()
    assert torch.equal(seen[~gone], target[~gone])


# -- losses ------------------------------------------------------------------------------------------------------------


@given(n=st.integers(1, 6), temperature=st.floats(0.05, 2), seed=st.integers(0, 99))
def test_nt_xent_is_its_formula(n: int, temperature: float, seed: int) -> None:
    """The mean over all 2 n rows of -log of the partner's share of exp(cosine / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, 5, generator=generator, dtype=torch.float64)
    both = torch.cat([first, second]).numpy()
    losses = []
    for i in range(2 * n):
        cosines = [both[i] @ row / np.linalg.norm(both[i]) / np.linalg.norm(row) for row in both]
        others = sum(math.exp(cosine / temperature) for k, cosine in enumerate(cosines) if k != i)
        losses.append(-math.log(math.exp(cosines[(i + n) % (2 * n)] / temperature) / others))
    assert float(nt_xent(first, second, temperature)) == pytest.approx(np.mean(losses), abs=1e-9)


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    """History shows g NT-Xent + (1 - g) MSE, and the parts; without a contrastive part there is the MSE alone."""
    history = fitted(contrastive_weight=0.3).history_
    parts = 0.3 * np.array(history["contrast"]) + 0.7 * np.array(history["reconstruction"])
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-5)
    assert set(fitted(contrastive_weight=0.0).history_) == {"loss", "validation_loss"}


def test_layers_count_by_their_own_spread() -> None:
    """With layer-wise units a layer that is scaled by 1024 is as important as before; without them it is all."""
    X = weights_of(SMALL, 40)
    scaled = X.copy()
    scaled[:, SMALL.layers[1].slice] *= 1024
    plain, other = (HyperRepresentation(SMALL, **QUICK).fit(data) for data in (X, scaled))
    np.testing.assert_allclose(plain.history_["loss"], other.history_["loss"], rtol=1e-4)
    for layer in SMALL.layers:
        assert other.scale_[layer.slice] == pytest.approx(scaled[:36, layer.slice].std(), rel=0.1)
    raw = HyperRepresentation(SMALL, layer_norm_loss=False, **QUICK).fit(scaled)
    assert len(set(raw.scale_)) == 1
    # In common units, what is left of the small layer is nothing.
    assert np.abs(X[:, :9] / raw.scale_[:9]).max() < 0.02


def test_score_compares_with_the_mean_of_the_training_zoo() -> None:
    """The score is one minus squared errors over squared distances from the mean, in the units of the loss."""
    X, held = weights_of(SMALL, 30), weights_of(SMALL, 7, seed=1)
    model = HyperRepresentation(SMALL, n_iter_no_change=None, **QUICK).fit(X)
    errors = (held - model.inverse_transform(model.transform(held))) / model.scale_
    distances = (held - X.mean(axis=0)) / model.scale_
    assert model.score(held) == pytest.approx(1 - np.square(errors).sum() / np.square(distances).sum(), abs=1e-5)


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_zoo_of_few_dimensions_is_reconstructed() -> None:
    """Held-out networks that lie in four dimensions come back from a latent vector of eight numbers."""
    basis = weights_of(SMALL, 4, seed=1)
    X = weights_of(WeightLayout([("z", (4,), "other")]), 400) @ basis
    quick = {**QUICK, "d_model": 32, "d_ff": 32, "max_epochs": 30, "batch_size": 40, "contrastive_weight": 0.0}
    model = HyperRepresentation(SMALL, permute=False, erase=0.0, lr=5e-3, **quick).fit(X[:360], X_val=X[360:])
    assert model.score(X[360:]) > 0.9


def test_permuted_networks_of_the_same_kind_have_close_latents_if_contrast_counts() -> None:
    """Trained on contrast alone, two views of one network are closer than two networks."""
    X = weights_of(SMALL, 64)
    quick = {**QUICK, "max_epochs": 30, "n_iter_no_change": None}
    model = HyperRepresentation(SMALL, contrastive_weight=1.0, erase=0.0, lr=3e-3, **quick).fit(X)
    assert model.history_["contrast"][-1] < 0.8 * model.history_["contrast"][0]
    views = Views(SMALL, "cpu", permute=True, erase=0.0).draw(torch.from_numpy(X), torch.Generator().manual_seed(1))[0]
    latent, other = model.transform(X), model.transform(views.numpy())
    moved = (views.numpy() != X).any(axis=1)
    same = np.linalg.norm(latent - other, axis=1)[moved].mean()
    assert same < np.linalg.norm(latent - np.roll(latent, 1, axis=0), axis=1).mean()


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    """Of noise nothing is learned: training ends before the last epoch, with the weights of the best one."""
    X, held = weights_of(SMALL, 30), weights_of(SMALL, 20, seed=1)
    quick = {**QUICK, "max_epochs": 60, "n_iter_no_change": 4, "erase": 0.0, "lr": 0.02}
    model = HyperRepresentation(SMALL, layer_norm_loss=False, **quick).fit(X, X_val=held)
    losses = model.history_["validation_loss"]
    assert model.n_iter_ == len(losses) < 60
    assert min(losses) == losses[-5]
    restored = model.inverse_transform(model.transform(held))
    assert np.square((held - restored) / model.scale_).mean() == pytest.approx(min(losses), rel=1e-4)


def test_whole_networks_are_held_out() -> None:
    """Given groups, no network is on both sides: states that are copies of one another do not stop too late."""
    X = np.repeat(weights_of(SMALL, 10), 3, axis=0)
    groups = np.repeat(np.arange(10), 3)
    kept, held = autoencoding.held_out(X, groups, 0.2, 0)
    assert len(held) == 6 and len(kept) == 24
    assert not {row.tobytes() for row in kept} & {row.tobytes() for row in held}
    with pytest.raises(ValueError, match="one group"):
        HyperRepresentation(SMALL, **QUICK).fit(X, groups=np.zeros(30))


def test_validation_data_comes_through_a_pipeline() -> None:
    """In a pipeline, X_val goes through the steps before and reaches the autoencoder: it is what is watched."""
    X, held = weights_of(SMALL, 20), weights_of(SMALL, 9, seed=1)
    double = FunctionTransformer(lambda values: 2 * values)
    with sklearn.config_context(enable_metadata_routing=True):
        model = HyperRepresentation(SMALL, **QUICK).set_fit_request(X_val=True)
        pipeline = Pipeline([("double", double), ("model", model)], transform_input=["X_val"]).fit(X, X_val=held)
    direct = HyperRepresentation(SMALL, **QUICK).fit(2 * X, X_val=2 * held)
    assert pipeline["model"].history_ == direct.history_


def test_an_interrupted_fit_leaves_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a fitted model is fitted again leaves one that is not fitted, and that the next fit mends."""
    X = weights_of(SMALL, 24)
    model = HyperRepresentation(**QUICK).fit(X)
    expected = model.transform(X)

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(autoencoding, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X[:, :9])
    with pytest.raises(NotFittedError):
        model.transform(X)
    np.testing.assert_array_equal(model.fit(X).transform(X), expected)


def test_a_layer_that_never_varies_stays_as_it_is() -> None:
    """A count of batches that is the same in all networks comes back as it was."""
    layout = WeightLayout([("a.weight", (3, 2), "linear"), ("n.num_batches_tracked", (), "batch_norm")])
    X = weights_of(layout, 20)
    X[:, -1] = 1100.0
    model = HyperRepresentation(layout, **{**QUICK, "max_epochs": 30, "lr": 0.01}).fit(X)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X))[:, -1], 1100, atol=0.5)


@pytest.mark.parametrize("name", sorted(HYPER_REPRESENTATION_PRESETS))
def test_presets_are_settings_of_the_estimator(name: str) -> None:
    """The papers' settings are parameters that the estimator takes, of an architecture that we know."""
    model = HyperRepresentation(name, **HYPER_REPRESENTATION_PRESETS[name])
    assert (model.n_heads, model.lr, model.compression) == (4, 1e-4, "token")
    assert model.d_model % model.n_heads == 0
    assert WeightLayout.from_architecture(name).n_weights in (2464, 4970)


def test_presets_work_at_their_size() -> None:
    """The published network of the larger preset encodes and decodes."""
    preset = {**HYPER_REPRESENTATION_PRESETS["cnn_s"], "max_epochs": 1, "d_model": 80, "d_ff": 90}
    model = HyperRepresentation("cnn_s", **preset).fit(weights_of(CNN_S, 6))
    assert model.transform(weights_of(CNN_S, 2)).shape == (2, 700)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"d_model": 10, "n_heads": 4}, "multiple of n_heads"),
        ({"layout": CNN_S}, "2464 weights, but X has 15"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_wrong_settings_are_said(wrong: dict[str, Any], said: str) -> None:
    """A setting that cannot work is named, with what would."""
    with pytest.raises(ValueError, match=said):
        HyperRepresentation(**{"layout": SMALL, **QUICK, **wrong}).fit(weights_of(SMALL, 6))


def test_latents_of_another_length_are_refused() -> None:
    """`inverse_transform` says how long a latent vector is."""
    with pytest.raises(ValueError, match="has 5 columns, but latent vectors have 8"):
        fitted().inverse_transform(np.zeros((2, 5)))


def test_a_decoder_that_is_not_trained_does_not_say_when_to_stop() -> None:
    """With the contrastive loss alone, every epoch is trained, validation data or not."""
    X = np.random.default_rng(0).normal(size=(24, 30)).astype(np.float32)
    model = HyperRepresentation(contrastive_weight=1.0, max_epochs=3, n_iter_no_change=1, random_state=0)
    assert model.fit(X, X_val=X[:4]).n_iter_ == 3
    assert "validation_loss" not in model.history_


def test_diverged_states_are_told() -> None:
    """A few states with absurd weights would take over the units; the warning says how to leave them out."""
    X = np.random.default_rng(0).normal(size=(24, 30))
    X[3] *= 1e9
    with pytest.warns(UserWarning, match="1 of 24 states have weights more than 1000 times .* max_abs_weight"):
        HyperRepresentation(max_epochs=1, random_state=0).fit(X)


@pytest.mark.parametrize("method", ["transform", "score"])
def test_weights_too_large_for_the_network_are_said(method: str) -> None:
    """A finite row whose squares overflow is no NaN unsaid, but an error with what to do; other rows are not."""
    X = weights_of(SMALL, 10)
    model = HyperRepresentation(SMALL, **QUICK).fit(X)
    X[3] *= 1e20 / np.abs(X[3]).max()
    said = r"of 1 of the rows of X is not finite in float32: .* 1e\+20, .*max_abs_weight"
    with pytest.raises(ValueError, match=said):
        getattr(model, method)(X)
    assert np.isfinite(getattr(model, method)(np.delete(X, 3, axis=0))).all()
    with pytest.raises(ValueError, match=r"the weight vector of 2 of the rows of X is not finite"):
        model.inverse_transform(np.full((2, 8), 1e30, dtype=np.float32))
