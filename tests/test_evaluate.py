"""Evaluation of many states at once: what was measured when they were trained, and what each network says by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from zoobench.contents import ZooContents
from zoobench.fetch import fetch_zoo
from zoobench.generators import evaluation
from zoobench.generators.evaluation import evaluate
from zoobench.generators.images import ImageData, load_images
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.zoo import Zoo

ZOOS = ["tune_zoo_digits_uniform.zip", "tune_zoo_digits_hyperparameter_10_random_seeds.zip"]


@pytest.fixture(scope="module")
def images() -> ImageData:
    return load_images("digits")


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOOS)
def test_published_results_are_met_to_the_image(data_dir, images, name):
    """Every state of the authors' raw zoos gets as many test images right as its result.json states, ties included."""
    zoo = load_zoo(data_dir / name)
    frame = evaluate(zoo, images).frame
    assert np.abs((frame["accuracy"] - zoo.properties["test_acc"]) * len(images.test)).max() < 1e-3
    np.testing.assert_allclose(frame["loss"], zoo.properties["test_loss"], rtol=1e-5)
    assert frame["model"].equals(zoo.properties["model"])
    assert frame["epoch"].equals(zoo.properties["epoch"])


def test_states_say_what_their_modules_say(data_dir, images):
    """Losses, accuracies and predictions are those of `Zoo.module(i)`, whatever the activation."""
    zoo = load_zoo(data_dir / ZOOS[1], epochs="last")
    assert zoo.properties["activation"].nunique() > 2
    result = evaluate(zoo, "digits", part="val", predictions=True, batch_size=128)
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
    whole = evaluate(zoo, few, predictions=True)
    single = evaluate(zoo, few, predictions=True, batch_size=1)
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
    expected = evaluate(zoo, few, predictions=True)
    monkeypatch.setattr(evaluation, "is_chain", lambda layout: False)
    found = evaluate(zoo, few, predictions=True, batch_size=15)
    assert np.array_equal(found.predictions, expected.predictions)
    np.testing.assert_allclose(found.frame["loss"], expected.frame["loss"], rtol=1e-5)


def test_a_diverged_state_has_no_loss_and_disturbs_no_other(images):
    """NaN weights give a loss of NaN in their row alone."""
    contents = fetch_zoo("digits_cnn_s", subset="val", epochs="last").to_contents()
    weights = np.array(contents.weights)
    weights[1, 5] = np.nan
    broken = Zoo.from_contents(replace(contents, weights=weights, peaks=None), drop_nan=False)
    few = replace(images, **{name: getattr(images, name)[:40] for name in ("test", "test_labels")})
    found = evaluate(broken, few).frame["loss"]
    expected = evaluate(Zoo.from_contents(contents), few).frame["loss"]
    assert found.isna().tolist() == [i == 1 for i in range(len(found))]
    np.testing.assert_array_equal(found.drop(1), expected.drop(1))


def test_what_cannot_be_evaluated_is_named(data_dir, images):
    """Unknown parts, sizes, devices and images, images that do not fit, and a zoo that does not tell enough."""
    zoo = fetch_zoo("digits_cnn_s", subset="test", epochs="last")
    for arguments, message in (
        ({"part": "training"}, "part must be one of train, val, test, not 'training'"),
        ({"batch_size": 0}, "batch_size"),
        ({"device": "tpu"}, "device 'tpu' is unknown"),
        ({"images": "digit"}, "digits"),
        ({"images": replace(images, train=images.train.expand(-1, 3, -1, -1))}, "3 channels"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(zoo, **arguments)
    with pytest.raises(ValueError, match="which images its models were trained on; name them"):
        evaluate(load_zoo(data_dir / ZOOS[0], epochs=0))
    contents = zoo.to_contents()
    layout = WeightLayout(contents.layout.to_dict()["tensors"])
    bare = ZooContents("bare", contents.weights, contents.properties.drop(columns="activation"), layout)
    with pytest.raises(ValueError, match="'bare' does not say which activation"):
        evaluate(Zoo.from_contents(bare), "digits")
