"""Evaluation of many states at once: what was measured when they were trained, and what each network says by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from zoobench.contents import ZooContents
from zoobench.fetch import fetch_zoo
from zoobench.generators import Recipe, devices, evaluation, make_zoo, register_architecture, registration, sparsify
from zoobench.generators.architectures import build_module
from zoobench.generators.devices import resolve_device
from zoobench.generators.estimate import estimate
from zoobench.generators.evaluation import evaluate
from zoobench.generators.image_fit import PARTS
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.sparsify import sparsify_zoo
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.zoo import Zoo

Change = Callable[[torch.Tensor], torch.Tensor]

ZOOS = ["tune_zoo_digits_uniform.zip", "tune_zoo_digits_hyperparameter_10_random_seeds.zip"]


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load_images("digits")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOOS)
def test_published_results_are_met_to_the_image(data_dir, images, name):
    """Every state of the authors' raw zoos gets as many test images right as its result.json states, ties included."""
    zoo = load_zoo(data_dir / name)
    frame = evaluate(zoo, images=images).frame
    assert np.abs((frame["accuracy"] - zoo.properties["test_acc"]) * len(images.test)).max() < 1e-3
    np.testing.assert_allclose(frame["loss"], zoo.properties["test_loss"], rtol=1e-5)
    assert frame["model"].equals(zoo.properties["model"])
    assert frame["epoch"].equals(zoo.properties["epoch"])


def test_states_say_what_their_modules_say(data_dir, images):
    """Losses, accuracies and predictions are those of `Zoo.module(i)`, whatever the activation."""
    zoo = load_zoo(data_dir / ZOOS[1], epochs="last")
    assert zoo.properties["activation"].nunique() > 2
    result = evaluate(zoo, images="digits", part="val", predictions=True, batch_size=128)
    assert result.predictions.shape == (len(zoo.data), 300)
    assert np.array_equal(result.labels, images.val_labels.numpy())
    for i in range(len(zoo.data)):
        with torch.no_grad():
            logits = zoo.module(i).double()(images.val.double())
        assert np.array_equal(result.predictions[i], logits.argmax(1).numpy())
        loss = functional.cross_entropy(logits, images.val_labels).item()
        assert result.frame["loss"][i] == pytest.approx(loss, rel=1e-5)
        assert result.frame["accuracy"][i] == (logits.argmax(1) == images.val_labels).double().mean().item()


def test_neither_batches_nor_neighbours_change_what_is_predicted(images):
    """Predictions are the same image by image, and loss and accuracy up to rounding."""
    few = replace(images, **{name: getattr(images, name)[:23] for name in ("test", "test_labels")})
    zoo = fetch_zoo("digits_cnn_s", subset="test", epochs="last")
    whole = evaluate(zoo, images=few, predictions=True)
    single = evaluate(zoo, images=few, predictions=True, batch_size=1)
    assert np.array_equal(whole.predictions, single.predictions)
    assert np.array_equal(whole.frame["accuracy"], single.frame["accuracy"])
    np.testing.assert_allclose(whole.frame["loss"], single.frame["loss"], rtol=1e-5)


def test_a_tie_within_rounding_is_decided_in_double_precision():
    """Logits that float32 cannot tell apart are computed again; clear ones are not."""
    logits = torch.tensor([[[1.0, 1.0, 0.0], [3.0, 1.0, 2.0]]])
    asked: list[tuple[int, torch.Tensor]] = []

    def again(row: int, inputs: torch.Tensor) -> torch.Tensor:
        asked.append((row, inputs))
        return torch.tensor([[1.0, 1.0 + 1e-12, 0.0]], dtype=torch.float64)

    chosen = evaluation._choices(logits, torch.tensor([[7.0], [8.0]]), again)
    assert chosen.tolist() == [[1, 0]]
    assert len(asked) == 1
    assert asked[0][1].tolist() == [[7.0]]
    assert asked[0][1].dtype == torch.float64


def test_networks_that_are_no_chain_are_evaluated_one_by_one(monkeypatch, images):
    """The way through the modules gives the same."""
    few = replace(images, **{name: getattr(images, name)[:40] for name in ("test", "test_labels")})
    zoo = fetch_zoo("digits_cnn_s", subset="val", epochs="last")
    expected = evaluate(zoo, images=few, predictions=True)
    monkeypatch.setattr(evaluation, "is_chain", lambda layout: False)
    found = evaluate(zoo, images=few, predictions=True, batch_size=15)
    assert np.array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.frame["loss"], expected.frame["loss"], rtol=1e-5)


def test_a_diverged_state_has_no_loss_and_disturbs_no_other(images):
    """NaN weights give a loss of NaN in their row alone."""
    contents = fetch_zoo("digits_cnn_s", subset="val", epochs="last").to_contents()
    weights = np.array(contents.weights)
    weights[1, 5] = np.nan
    broken = Zoo.from_contents(replace(contents, weights=weights, peaks=None), drop_nan=False)
    few = replace(images, **{name: getattr(images, name)[:40] for name in ("test", "test_labels")})
    found = evaluate(broken, images=few).frame["loss"]
    expected = evaluate(Zoo.from_contents(contents), images=few).frame["loss"]
    assert found.isna().tolist() == [i == 1 for i in range(len(found))]
    np.testing.assert_array_equal(found.drop(1), expected.drop(1))


def test_what_cannot_be_evaluated_is_named(data_dir, images):
    """Unknown parts, sizes, devices and images, images that do not fit, and a zoo that does not tell enough."""
    zoo = fetch_zoo("digits_cnn_s", subset="test", epochs="last")
    for arguments, message in (
        ({"part": "training"}, "part must be one of train, val, test, not 'training'"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"images": "digit"}, "no image data named 'digit'; did you mean 'digits'"),
        ({"images": ["digits"]}, r"images must be the name of an image set or an ImageData, not \['digits'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(zoo, **arguments)
    with pytest.raises(ValueError, match="which images its models were trained on; name them"):
        evaluate(load_zoo(data_dir / ZOOS[0], epochs=0))
    contents = zoo.to_contents()
    layout = WeightLayout(contents.layout.to_dict()["tensors"])
    bare = ZooContents("bare", contents.weights, contents.properties.drop(columns="activation"), layout)
    with pytest.raises(ValueError, match="'bare' does not say which activation"):
        evaluate(Zoo.from_contents(bare), images="digits")
    with pytest.raises(ValueError, match=r"zoo must be a Zoo, not 'digits_cnn_s'; fetch it first, as in fetch_zoo\("):
        evaluate("digits_cnn_s")
    with pytest.raises(TypeError, match="positional"):
        evaluate(zoo, images)


def changed(
    data: ImageData, images: Change | None = None, labels: Change | None = None, **tensors: torch.Tensor
) -> ImageData:
    """Image data with all images, or all labels, changed by a function, or some tensors replaced."""
    for part in PARTS:
        if images is not None:
            tensors[part] = images(getattr(data, part))
        if labels is not None:
            tensors[f"{part}_labels"] = labels(getattr(data, f"{part}_labels"))
    return replace(data, **tensors)


def tensors_of(images: ImageData) -> list[str]:
    return [name for part in PARTS for name in (part, f"{part}_labels")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": lambda found: found.expand(-1, 3, -1, -1)},
            r"'digits' have 3 channels, but .* zoo 'digits_cnn_s_seed' \(architecture 'cnn_s'\) take 1; give images",
        ),
        (
            {"images": lambda found: found[:, :, :20, :20]},
            r"'digits' are 20 x 20 pixels, but .* \(architecture 'cnn_s'\) take 28 x 28; resize them",
        ),
        ({"images": lambda found: found[:, :, :4, :4]}, "are 4 x 4 pixels, but .* take 28 x 28; resize them"),
        (
            {"labels": lambda found: found + 3},
            r"have labels from 3 to 12, but .* \(architecture 'cnn_s'\) tell 10 classes apart, 0 to 9; give images of",
        ),
        ({"labels": lambda found: found - 1}, "have labels from -1 to 8, but"),
        ({"labels": lambda found: found.int()}, "train: expected 40 labels of int64, one an image, found torch.int32"),
        ({"images": lambda found: found.double()}, r"train: expected torch.float32 of shape .*, found torch.float64"),
        (
            {"images": lambda found: found[:, 0]},
            r"expected torch.float32 of shape \(n_images, channels, .* \(40, 28, 28\)",
        ),
        ({"val_labels": torch.zeros(39, dtype=torch.int64)}, "val: expected 40 labels of int64, .* shape \\(39,\\)"),
        ({"test": torch.zeros(0, 1, 28, 28)}, "test: there are none"),
        (
            {"test": torch.zeros(40, 1, 32, 32)},
            r"test: the images have the shape \(1, 32, 32\), those of train \(1, 28, 28\)",
        ),
    ],
)
def test_images_that_do_not_fit_are_told_from_those_that_do(images, changes, message):
    """Channels, size, classes, numbers: what was found, what the architecture takes, and the remedy."""
    few = replace(images, **{name: getattr(images, name)[:40] for name in tensors_of(images)})
    zoo = fetch_zoo("digits_cnn_s", subset="test", epochs="last")
    with pytest.raises(ValueError, match=message) as caught:
        evaluate(zoo, images=changed(few, **changes))
    assert "\n" not in str(caught.value)


def test_an_architecture_of_ones_own_is_not_taken_for_a_named_one(monkeypatch, images):
    """With the shapes of CNN-s, but of the negated images: it is evaluated as it computes, and so is what it takes."""
    monkeypatch.setattr(registration, "_REGISTERED", {})

    class Negated(nn.Module):
        """CNN-s of the negated images, under the names that CNN-s has."""

        def __init__(self, *_: object) -> None:
            super().__init__()
            self.module_list = build_module("cnn_s", channels=1, n_classes=10, activation="tanh").module_list

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return self.module_list(-values)

    register_architecture("negated", Negated)
    contents = fetch_zoo("digits_cnn_s", subset="test", epochs="last").to_contents()
    own = replace(contents, recipe={"architecture": "negated", "dataset": "digits"}, card=None)
    few = replace(images, **{name: getattr(images, name)[:40] for name in tensors_of(images)})
    found = evaluate(Zoo.from_contents(own), images=few, predictions=True)
    negated = changed(few, images=lambda values: -values)
    expected = evaluate(Zoo.from_contents(contents), images=negated, predictions=True)
    assert np.array_equal(found.predictions, expected.predictions)
    with pytest.raises(ValueError, match=r"20 x 20 pixels, but .* \(architecture 'negated'\) take 28 x 28; resize"):
        evaluate(Zoo.from_contents(own), images=changed(few, images=lambda values: values[:, :, :20, :20]))


def test_twins_say_which_images_they_were_trained_on(images):
    """A zoo of twins has no recipe, and is evaluated without naming its images all the same."""
    zoo = fetch_zoo("digits_cnn_s", epochs="last")
    twins = sparsify_zoo(zoo, method="magnitude", n_epochs=1, n_models=1, hyperparameters={"batch_size": 100})
    assert not twins.card
    assert evaluate(twins).frame["accuracy"].tolist() == pytest.approx(twins.properties["test_acc"].tolist())


def test_one_rule_says_what_an_automatic_device_is(monkeypatch):
    """CUDA where there is any, else the CPU: of training, sparsifying and evaluating alike."""
    for count, expected in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: bool(count))
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert resolve_device("auto") == expected
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="device 'cuda:2' is not available on this machine, which has 2"):
        resolve_device("cuda:2")
    asked: list[str] = []

    def resolved(device: str) -> str:
        asked.append(device)
        raise KeyboardInterrupt

    zoo = fetch_zoo("digits_cnn_s", epochs="last")
    monkeypatch.setattr(devices, "resolve_device", resolved)
    for module in (evaluation, sparsify):
        monkeypatch.setattr(module, "resolve_device", resolved)
    for call in (
        lambda: evaluate(zoo),
        lambda: sparsify_zoo(zoo),
        lambda: make_zoo(Recipe()),
        lambda: estimate(Recipe()),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()
    assert asked == ["auto"] * 4
