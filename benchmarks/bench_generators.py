"""The compiled engine against a plain PyTorch loop that trains one model at a time: CNN-s, batches of ten, one thread.

Promised are four times as many model-steps a second and core, and aimed at are ten times as many.

Baseline and engine take turns, so that a machine that slows down in the meantime slows both; initialisation and the
last evaluation, which are small here, count for both.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from zoobench.generators.compiling import load_library
from zoobench.generators.engine import train_models
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.recipes import Recipe
from zoobench.generators.training import train_model

N_MODELS = 16
ROUNDS = 5


@pytest.fixture(scope="module")
def images() -> ImageData:
    """110 steps an epoch, and next to nothing to evaluate."""
    whole = load_images("digits")
    few = {part: getattr(whole, part)[:10] for part in ("val", "test", "val_labels", "test_labels")}
    return replace(whole, **few)


@pytest.mark.parametrize(("activation", "dropout"), [("tanh", 0.0), ("gelu", 0.0), ("relu", 0.5)])
def test_engine_against_plain_loop(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    images: ImageData,
    activation: str,
    dropout: float,
) -> None:
    """Model-steps a second and core."""
    grid = {"activation": [activation], "dropout": [dropout]}
    recipe = Recipe(grid=grid, seeds=range(N_MODELS), n_epochs=1, checkpoint_epochs=[1])
    models = recipe.models()
    steps = -(-len(images.train) // recipe.batch_size)
    load_library()  # compiles it, where that was not done before
    plain: list[float] = []
    native: list[float] = []

    def baseline() -> None:
        begin = time.process_time()
        train_model(recipe, models[len(plain) % N_MODELS], images)
        plain.append((time.process_time() - begin) / steps)

    def engine() -> None:
        begin = time.process_time()
        train_models(recipe, models, images)
        native.append((time.process_time() - begin) / steps / N_MODELS)

    baseline()  # torch's first steps are slow
    plain.clear()
    benchmark.pedantic(engine, setup=baseline, rounds=ROUNDS)
    plain_ms, native_ms = (statistics.median(times) * 1e3 for times in (plain, native))
    ratio = plain_ms / native_ms
    benchmark.extra_info.update(plain_ms=plain_ms, engine_ms=native_ms, times_faster=ratio)
    with capsys.disabled():
        print(
            f"\n{activation}, dropout {dropout}: a model and step takes the plain loop {plain_ms:.2f} ms "
            f"({1e3 / plain_ms:.0f} a second), the engine {native_ms:.3f} ms ({1e3 / native_ms:.0f}): "
            f"{ratio:.0f} times faster"
        )
