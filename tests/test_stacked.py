"""Training of many models as one set of torch operations: the models of the plain loop, whoever steps beside them."""

from __future__ import annotations

import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoobench.generators import chunks, population
from zoobench.generators.chunks import chunks_of, stack_size, trained_by
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe
from zoobench.generators.stacked import _StackedMasks, train_stacked
from zoobench.generators.stacked_ops import conv2d, linear, max_pool2d
from zoobench.generators.training import TrainedModel, stream_seed, train_model


def few_images(recipe: Recipe, n: int = 45) -> ImageData:
    """Digits, in as many colours and as large as the recipe's network takes them."""
    setting = find_image_set(recipe.dataset).setting(recipe.architecture)
    whole = load_images("digits")
    parts = {}
    for part in ("train", "val", "test"):
        grey = functional.interpolate(getattr(whole, part)[:n], size=(setting.size, setting.size))
        parts[part] = grey * grey.new_tensor([1.0, -0.7, 0.4])[: setting.channels, None, None]
        parts[f"{part}_labels"] = getattr(whole, f"{part}_labels")[:n]
    return replace(whole, **parts)


def assert_followed(recipe: Recipe, images: ImageData) -> None:
    """Each model is the plain loop's: weights within 1e-5 of each tensor's largest, and the same measurements."""
    models = recipe.models()
    for settings, stacked in zip(models, train_stacked(recipe, models, images), strict=True):
        plain = train_model(recipe, settings, images)
        assert stacked.weights.dtype == plain.weights.dtype
        assert stacked.metrics.dtype == plain.metrics.dtype
        assert np.array_equal(stacked.weights[0], plain.weights[0])
        for tensor in recipe.layout.tensors:
            got, wanted = stacked.weights[:, tensor.slice], plain.weights[:, tensor.slice]
            assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max(), (settings.name, tensor.name)
        np.testing.assert_allclose(stacked.metrics, plain.metrics, rtol=1e-4, atol=1e-6)


def bits(trained: TrainedModel) -> tuple[bytes, bytes]:
    return trained.weights.tobytes(), trained.metrics.tobytes()


# -- the same models as the plain loop ---------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_each_optimizer_and_schedule_follows_the_plain_loop(optimizer, schedule):
    """Twenty steps, the last of each epoch with fewer images, with rates and penalties that differ between models."""
    grid = {
        "init": ["kaiming_uniform"],
        "optimizer": [optimizer],
        "lr": [1e-3, 3e-4],
        "weight_decay": [0.0, 1e-1],
        "schedule": [schedule],
    }
    recipe = Recipe(grid=grid, seeds=[7], n_epochs=4)
    assert_followed(recipe, few_images(recipe))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "gelu"])
def test_each_activation_follows_the_plain_loop_with_dropout(activation):
    """Models with dropout and without it, of two starts, drop the units that the plain loop drops."""
    grid = {"activation": [activation], "init": ["kaiming_normal", "kaiming_uniform"], "dropout": [0.0, 0.5]}
    recipe = Recipe(grid=grid, seeds=[3], n_epochs=2)
    assert_followed(recipe, few_images(recipe))


def test_momenta_of_sgd_follow_the_plain_loop():
    """Each model has its own, none included."""
    grid = {"init": ["kaiming_normal"], "optimizer": ["sgd"], "lr": [1e-2], "momentum": [0.0, 0.5, 0.9]}
    recipe = Recipe(grid=grid, seeds=[3], n_epochs=2, batch_size=7)
    assert_followed(recipe, few_images(recipe))


@pytest.mark.parametrize(
    ("dataset", "architecture"), [("cifar10", "cnn_s"), ("cifar10", "cnn_l"), ("mnist", "small_cnn")]
)
def test_each_chain_of_layers_follows_the_plain_loop(dataset, architecture):
    """Three colours, strides, and an average in place of pooling."""
    grid = {"activation": ["relu"], "init": ["kaiming_uniform"], "dropout": [0.3]}
    recipe = Recipe(dataset=dataset, architecture=architecture, grid=grid, seeds=[1, 2], n_epochs=1)
    assert_followed(recipe, few_images(recipe, 25))


@pytest.mark.slow
def test_the_accuracy_curve_of_an_epoch_is_the_plain_loops():
    """All digits, the seed populations' settings: the accuracies of each part of the images."""
    recipe = Recipe(seeds=[1, 2], n_epochs=1)
    images = load_images("digits")
    models = recipe.models()
    for settings, stacked in zip(models, train_stacked(recipe, models, images), strict=True):
        plain = train_model(recipe, settings, images)
        np.testing.assert_allclose(stacked.metrics[:, 1::2], plain.metrics[:, 1::2], atol=1e-9)
        assert np.abs(stacked.weights - plain.weights).max() < 1e-4


# -- neighbours --------------------------------------------------------------------------------------------------------


def test_a_model_is_the_same_whoever_steps_beside_it():
    """In any place, among other models, or with copies beside it: the same bits."""
    grid = {"dropout": [0.0, 0.5], "init": ["normal", "kaiming_normal"], "lr": [1e-3, 1e-2]}
    recipe = Recipe(grid=grid, seeds=[1], n_epochs=1)
    images, models = few_images(recipe), recipe.models()
    together = [bits(trained) for trained in train_stacked(recipe, models, images)]
    assert len(set(together)) == len(models)
    assert [bits(trained) for trained in train_stacked(recipe, models[::-1], images)][::-1] == together
    copies = train_stacked(recipe, [models[5]] * len(models), images)
    assert {bits(trained) for trained in copies} == {together[5]}


def test_a_diverged_model_stays_as_it_is_and_disturbs_no_other():
    """Its later states repeat the first that is not finite, and its neighbours have the bits that they have alone."""
    grid = {"optimizer": ["sgd"], "activation": ["relu"], "init": ["kaiming_normal"], "lr": [1e-3, 1e6]}
    recipe = Recipe(grid=grid, seeds=[1, 2], n_epochs=4)
    images, models = few_images(recipe), recipe.models()
    trained = train_stacked(recipe, models, images)
    calm = [model for model in models if model.hyperparameters["lr"] == 1e-3]
    alone = iter(train_stacked(recipe, calm + calm, images))
    for settings, stacked in zip(models, trained, strict=True):
        finite = np.isfinite(stacked.weights).all(axis=1)
        assert np.array_equal(finite, np.isfinite(train_model(recipe, settings, images).weights).all(axis=1))
        if settings in calm:
            assert finite.all()
            assert bits(next(alone)) == bits(stacked)
        else:
            first = int(np.argmin(finite))
            assert 0 < first < 4
            assert all(np.array_equal(stacked.weights[first], w, equal_nan=True) for w in stacked.weights[first:])
            assert np.array_equal(stacked.metrics[first], stacked.metrics[-1], equal_nan=True)


@pytest.mark.parametrize(
    ("axis", "values"), [("activation", ["tanh", "relu"]), ("optimizer", ["adam", "sgd"]), ("batch_size", [5, 10])]
)
def test_what_models_must_have_in_common_is_said(axis, values):
    """Models that cannot step together: a clear error."""
    recipe = Recipe(grid={axis: values}, seeds=[1], n_epochs=0)
    with pytest.raises(ValueError, match=f"one {axis}"):
        train_stacked(recipe, recipe.models(), few_images(recipe))


# -- operations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "padding", "kernel"), [(1, 0, 5), (2, 0, 3), (1, 1, 3), (2, 2, 4), (3, 0, 2)])
@pytest.mark.parametrize("shared", [False, True])
def test_layers_compute_what_torch_computes_for_each_model(stride, padding, kernel, shared):
    """Values, and the gradients of weights, biases and images, own ones or the same for all."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    images, weight, bias = draw(1 if shared else 3, 4, 2, 11, 13), draw(3, 5, 2, kernel, kernel), draw(3, 5)

    def one(model: int) -> torch.Tensor:
        batch = images[0 if shared else model]
        convolved = functional.conv2d(batch, weight[model], bias[model], stride=stride, padding=padding)
        return functional.max_pool2d(convolved, 2)

    wanted = torch.stack([one(model) for model in range(3)])
    got = max_pool2d(conv2d(images, weight, bias, stride=stride, padding=padding))
    torch.testing.assert_close(got, wanted)
    inputs, toward = (images, weight, bias), torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    for mine, of_torch in zip(
        torch.autograd.grad((got * toward).sum(), inputs),
        torch.autograd.grad((wanted * toward).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, of_torch)


def test_dense_layers_and_layers_without_bias():
    """As torch's, model by model."""
    generator = torch.Generator().manual_seed(0)
    values, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((2, 3, 4), (2, 5, 4), (2, 5)))
    wanted = torch.stack([functional.linear(values[i], weight[i], bias[i]) for i in range(2)])
    torch.testing.assert_close(linear(values, weight, bias), wanted)
    torch.testing.assert_close(linear(values, weight), wanted - bias[:, None])


def test_masks_are_those_of_the_plain_loop():
    """Bit for bit, beyond the end of 32 bits too."""
    recipe = Recipe(grid={"dropout": [0.1, 0.5]}, seeds=[1, 99])
    models = recipe.models()
    stacked = _StackedMasks(models, [recipe.training_values(model) for model in models], torch.device("cpu"))
    for n_seen in (0, 1234, 2**32 - 3):
        stacked.n_seen = n_seen
        drawn = stacked.draw(2**20, (len(models), 6, 5, 2, 3)).numpy()
        for model, mask in zip(models, drawn, strict=True):
            plain = DropoutMasks(stream_seed(model.seed, "dropout"))
            plain.n_seen = n_seen
            wanted = plain.draw(model.hyperparameters["dropout"], 6, range(2**20, 2**20 + 30))
            assert mask.tobytes() == wanted.tobytes()


# -- whole zoos --------------------------------------------------------------------------------------------------------


def test_chunks_are_of_one_size_and_decided_by_the_recipe_alone():
    """As large as there is room for; copies fill up the last one, and the places of what is finished."""
    sizes = [stack_size(n, 10, "cuda") for n in (1, 40, 1000, 1001, 2560)]
    assert sizes == [1, 40, 1000, 501, 854]
    assert [stack_size(1000, batch_size, "cuda:1") for batch_size in (100, 256, 20_000)] == [100, 39, 1]
    assert [stack_size(n, 10, "cpu") for n in (32, 33)] == [32, 17]
    recipe = Recipe(grid={"activation": ["tanh", "relu"], "batch_size": [2000]}, seeds=range(11))
    models = recipe.models()
    whole = chunks_of(recipe, models, "stacked")
    assert [len(chunk) for chunk in whole] == [4] * 6
    assert whole[0] + whole[1] + whole[2] == [*models[:11], models[10]]
    (left,) = chunks_of(recipe, models[1:3], "stacked")
    assert left == [models[2], models[1], models[2], models[2]]


def test_a_finished_model_is_of_its_chunk(monkeypatch):
    """Its place in a chunk and the chunk's length are part of what trained it; compiled code knows no such thing."""
    monkeypatch.setattr(chunks, "_IMAGES_A_STEP", 40)
    few, more = (Recipe(grid={"optimizer": ["adam", "sgd"]}, seeds=range(n)) for n in (4, 5))
    assert list(trained_by(few, "stacked", "cpu").values()) == [f"stacked, {place} of 4" for place in (0, 1, 2, 3)] * 2
    grown = trained_by(more, "stacked", "cpu")
    assert [grown[model.name] for model in few.models()] == [f"stacked, {place} of 3" for place in (0, 1, 2, 0)] * 2
    assert set(trained_by(few, "stacked", "cuda:1").values()) == {
        f"stacked on cuda, {place} of 4" for place in range(4)
    }
    for recipe in (few, more):
        assert set(trained_by(recipe, "native", "cpu").values()) == {"native"}


@pytest.fixture
def stacked(monkeypatch):
    """As on a machine with an accelerator, but for the accelerator; with few images. Gives these."""
    images = few_images(RECIPE, 200)
    monkeypatch.setattr(population, "_images", lambda *_: images)
    monkeypatch.setattr(population, "choose_engine", lambda recipe, device: "stacked")
    monkeypatch.setattr(chunks, "_IMAGES_A_STEP", 200)
    return images


RECIPE = Recipe(grid={"optimizer": ["adam", "sgd"]}, seeds=[1, 2, 3], n_epochs=1, batch_size=100, name="tiny")


def test_a_zoo_is_trained_in_chunks_and_goes_on_after_an_interrupt(stacked, monkeypatch, tmp_path):
    """Ctrl-C in the second chunk keeps the first; the same command then gives an uninterrupted run's zoo."""
    whole = make_zoo(RECIPE)
    assert whole.to_contents().provenance["engine"] == "stacked"
    plain = train_model(RECIPE, RECIPE.models()[4], stacked)
    np.testing.assert_allclose(whole.data[4::6], plain.weights, atol=1e-5)
    real, seeds = population._train_chunk, []

    def interrupted(recipe, models, *others):
        seeds.append([model.seed for model in models])
        if len(seeds) == 2:
            signal.raise_signal(signal.SIGINT)
        return real(recipe, models, *others)

    # Whoever runs the tests in the background may have told them to ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(population, "_train_chunk", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            make_zoo(RECIPE, out=tmp_path / "zoo")
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(list((tmp_path / "zoo" / ".models").glob("*.npz"))) == 2
    zoo = make_zoo(RECIPE, out=tmp_path / "zoo")
    assert seeds == [[1, 2], [3, 3], [3, 3], [1, 2], [3, 3]]
    assert zoo.data.tobytes() == whole.data.tobytes()
    assert zoo.properties.equals(whole.properties)


def test_accelerators_are_for_chains_of_layers():
    """What the stacked operations do not know, such as ResNet-18, is trained by PyTorch, one model after the other."""
    assert population.choose_engine(RECIPE, "cuda") == "stacked"
    recipe = Recipe(dataset="cifar10", architecture="resnet18", grid={"activation": ["relu"]}, seeds=[1])
    assert population.choose_engine(recipe, "cuda") == "torch"
    assert population.choose_engine(recipe, "cpu") == "torch"
