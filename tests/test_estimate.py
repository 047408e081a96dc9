"""What a recipe costs, told before it is trained: exact numbers, and a time that was measured."""

from __future__ import annotations

import math

import pytest

from zoobench.cli import main
from zoobench.generators import estimate as module
from zoobench.generators.estimate import estimate
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe


def test_a_published_recipe_is_estimated_without_its_images(capsys, data_home):
    """`generate mnist_cnn_s_seed --dry-run` needs no network: models, steps, bytes and a time; nothing is kept."""
    assert main(["generate", "mnist_cnn_s_seed", "--dry-run"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "1000 models of 50 epochs, 51000 states to keep"
    # 50,000 training images in batches of ten, 50 times, of 1000 models; and 51,000 rows of 2464 numbers of 4 bytes.
    assert second == "250,000,000 steps in all, about 503 MB on disk"
    assert third.startswith("about ") and " on this machine, with 1 job of " in third
    assert list(data_home.iterdir()) == []


def test_numbers_are_those_of_the_zoo(monkeypatch):
    """Bytes are those of the weights that are written, and batches that are not full are steps too."""
    grid = {"activation": ["tanh", "relu"], "batch_size": [400, 1000]}
    recipe = Recipe(grid=grid, seeds=[1], n_epochs=2, checkpoint_epochs=[0, 2], name="tiny")
    monkeypatch.setattr(module, "_LONG_ENOUGH", 0.0)  # whatever was measured
    found = estimate(recipe)
    # 1100 images: three steps and two steps an epoch.
    assert found.n_steps == 2 * 2 * (3 + 2)
    assert found.n_bytes == make_zoo(recipe).data.nbytes
    assert found.n_jobs == 1
    assert found.seconds > 0
    monkeypatch.setattr(module, "_measured", lambda *_: (16, 1e-3, 1e-4))
    assert estimate(recipe, n_jobs=2).n_jobs == 2
    assert estimate(recipe, n_jobs=50).n_jobs == 4  # chunks: nothing more can be done at a time


def test_the_time_grows_with_the_work(monkeypatch):
    """Epochs, chunks and checkpoints each add their share of what was measured."""
    monkeypatch.setattr(module, "_measured", lambda recipe, models, device, engine: (16, 1e-3, 1e-4))

    def seconds(**changes):
        return estimate(Recipe(**{"seeds": range(16), "n_epochs": 1, "checkpoint_epochs": [1]} | changes)).seconds

    # Trained on 1100 images, evaluated on 300 and 397.
    assert seconds() == pytest.approx(1100e-3 + 697e-4)
    assert seconds(seeds=range(8)) == pytest.approx(seconds())
    assert seconds(seeds=range(33)) == pytest.approx(3 * seconds())
    assert seconds(n_epochs=2, checkpoint_epochs=[2]) == pytest.approx(2200e-3 + 697e-4)
    # Before the first epoch the training images are evaluated too.
    assert seconds(checkpoint_epochs=[0, 1]) == pytest.approx(1100e-3 + 2 * 697e-4 + 1100e-4)


def test_whatever_trains_is_measured(monkeypatch):
    """PyTorch too, one model after the other or many at a time; times are finite and of the same models."""
    recipe = Recipe(seeds=[1, 2], n_epochs=1)
    for engine in ("torch", "stacked"):
        monkeypatch.setattr(module, "choose_engine", lambda recipe, device, engine=engine: engine)
        monkeypatch.setattr(module, "_LONG_ENOUGH", 0.0)
        found = estimate(recipe)
        assert found.engine == engine
        assert math.isfinite(found.seconds) and found.seconds > 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 seconds"),
        (90, "90 seconds"),
        (600, "10 minutes"),
        (9000, "2.5 hours"),
        (3e5, "3.5 days"),
        (3e8, "3,472 days"),
    ],
)
def test_times_are_said_in_two_digits(seconds, said):
    """In the unit that a person would use."""
    assert module._duration(seconds) == said


def test_devices_that_are_not_there_are_named(capsys):
    """As by the training itself."""
    assert main(["generate", "digits_cnn_s_seed", "--dry-run", "--device", "gpu"]) == 2
    assert "'gpu' is unknown" in capsys.readouterr().err
