"""Zoos are trained on fetched images as on bundled ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from image_samples import publish, sample
from loopback import Loopback
from zoobench.cli import main
from zoobench.generators import population
from zoobench.generators.image_sets import IMAGE_SETS
from zoobench.generators.images import load_images
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe
from zoobench.generators.training import initial_module, train_model
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo


@pytest.fixture
def tiny_mnist(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MNIST is a sample on this machine, for what loads images itself."""
    with Loopback() as host:
        publish(sample("mnist"), host, monkeypatch)
        population._images.cache_clear()
        yield
        population._images.cache_clear()


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.filterwarnings("ignore:PyTorch trains one model")
def test_a_recipe_trains_on_fetched_images() -> None:
    """Two models, an epoch, measured on each part: accuracies are counts of the sample's images."""
    zoo = make_zoo(Recipe(dataset="mnist", seeds=[1, 2], n_epochs=1, name="tiny"))
    facts = IMAGE_SETS["mnist"]
    assert len(zoo.data) == 4
    for column, n_images in (("val_acc", facts.setting().n_val), ("test_acc", facts.n_test)):
        counts = zoo.properties[column].to_numpy() * n_images
        np.testing.assert_allclose(counts, counts.round(), atol=1e-6)


@pytest.mark.usefixtures("tiny_mnist")
@pytest.mark.filterwarnings("ignore:PyTorch trains one model")
def test_the_command_trains_on_fetched_images(tmp_path, capsys):
    """`zoobench generate` of a recipe for MNIST fetches it and writes the zoo."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text('dataset = "mnist"\narchitecture = "cnn_s"\nseeds = [1, 2]\nn_epochs = 1\n')
    assert main(["generate", str(recipe), "--out", str(tmp_path / "zoo")]) == 0
    assert "4 states of 2 models" in capsys.readouterr().out
    assert load_zoo(tmp_path / "zoo").data.shape == (4, 2464)


@pytest.mark.parametrize("architecture", ["cnn_s", "cnn_l", "resnet18", "small_cnn"])
def test_every_network_takes_its_images(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layout, network and images of CIFAR-10 agree, whatever the architecture."""
    with Loopback() as host:
        publish(sample("cifar10"), host, monkeypatch)
        data = load_images("cifar10", architecture)
    recipe = Recipe(dataset="cifar10", architecture=architecture, seeds=[1])
    module = initial_module(recipe, recipe.models()[0], data.channels)
    assert WeightLayout.from_state_dict(module.state_dict()) == recipe.layout
    assert module.eval()(data.test).shape == (len(data.test), recipe.n_classes)


@pytest.mark.parametrize(
    ("dataset", "architecture", "message"),
    [
        ("mnist", "resnet18", "3 image channels, not 1"),
        ("svhn", "cnn_l", "3 image channels, not 1"),
        ("cifar100", "cnn_s", "10 classes, not 100"),
        ("tinyimagenet", "cnn_l", "10 classes, not 200"),
        ("cifar", "cnn_s", "no image data named 'cifar'; did you mean 'cifar10'"),
    ],
)
def test_recipes_refuse_what_does_not_fit(dataset: str, architecture: str, message: str) -> None:
    """A network that has not the channels or the classes of the images is refused before anything is fetched."""
    with pytest.raises(ValueError, match=message):
        Recipe(dataset=dataset, architecture=architecture)


def test_training_augments_from_the_seed_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the images ask for it, each batch is augmented: the same in each run, and otherwise than without."""
    with Loopback() as host:
        publish(sample("cifar10"), host, monkeypatch)
        plain = load_images("cifar10", "cnn_l")
    grid = {"init": ["kaiming_uniform"]}  # large uniform weights would saturate, and no image change anything
    recipe = Recipe(dataset="cifar10", architecture="cnn_l", grid=grid, seeds=[1], n_epochs=1)
    (settings,) = recipe.models()
    augmented = replace(plain, augmentation="crop_flip")
    first, again, without = (train_model(recipe, settings, data) for data in (augmented, augmented, plain))
    assert np.array_equal(first.weights, again.weights)
    assert np.array_equal(first.weights[0], without.weights[0])
    assert not np.array_equal(first.weights[1], without.weights[1])
