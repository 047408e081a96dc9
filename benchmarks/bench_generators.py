"""Three ways of training a population, in the same run: CNN-s, batches of ten, one thread.

The baseline is a plain PyTorch loop that trains one model at a time. Of the compiled engine, four times as many
model-steps a second and core are promised, ten times as many are aimed at. The stacked torch operations are made for
accelerators, and are what the CPU falls back to where there is no compiler.

The three take turns, so that a machine that slows down in the meantime slows all; initialisation and the last
evaluation, which are small here, count for each. Times are those of the processor, not of the clock on the wall.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import Beside
from zoobench.generators.compiling import load_library
from zoobench.generators.engine import train_models
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.generators.stacked import train_stacked
from zoobench.generators.training import train_model

ROUNDS = 3


@pytest.fixture(scope="module")
def images() -> ImageData:
    """110 steps an epoch, and next to nothing to evaluate."""
    whole = load_images("digits")
    few = {part: getattr(whole, part)[:10] for part in ("val", "test", "val_labels", "test_labels")}
    return replace(whole, **few)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Rows of the table in docs/generators.md, printed at the end."""
    rows: list[str] = []
    torch.set_num_threads(1)
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n\n{_processor()}, torch {torch.__version__}; milliseconds of one core a model and step")
        print("| population | plain loop | stacked torch operations | compiled engine | ratio |\n|--|--|--|--|--|")
        print("\n".join(rows))


@pytest.mark.parametrize(
    ("activation", "dropout", "n_models"),
    [("tanh", 0.0, 16), ("gelu", 0.0, 16), ("relu", 0.5, 16), ("tanh", 0.0, 64)],
)
def test_three_ways_of_training(
    benchmark: BenchmarkFixture,
    beside: Beside,
    table: list[str],
    images: ImageData,
    activation: str,
    dropout: float,
    n_models: int,
) -> None:
    """Milliseconds a model and step, and how many times faster the engine is than the plain loop."""
    grid = {"activation": [activation], "dropout": [dropout]}
    recipe = Recipe(grid=grid, seeds=range(n_models), n_epochs=1, checkpoint_epochs=[1])
    models = recipe.models()
    load_library()  # compiles it, where that was not done before
    times: dict[str, list[float]] = {"plain": [], "stacked": [], "native": []}

    def timed(name: str, train: Callable[[list[ModelSettings]], object], some: list[ModelSettings]) -> None:
        begin = time.process_time()
        train(some)
        n_steps = -(-len(images.train) // recipe.batch_size) * len(some)
        times[name].append((time.process_time() - begin) / n_steps * 1e3)

    def others() -> None:
        turn = len(times["plain"]) % n_models
        timed("plain", lambda some: train_model(recipe, some[0], images), models[turn : turn + 1])
        # As many as one chunk holds on the CPU; more share no more.
        timed("stacked", lambda some: train_stacked(recipe, some, images), models[:32])

    others()  # torch's first steps are slow
    for of_one in times.values():
        of_one.clear()
    benchmark.pedantic(
        lambda: timed("native", lambda some: train_models(recipe, some, images), models), setup=others, rounds=ROUNDS
    )
    plain, stacked, native = (statistics.median(times[name]) for name in ("plain", "stacked", "native"))
    benchmark.extra_info.update(plain_ms=plain, stacked_ms=stacked, native_ms=native, times_faster=plain / native)
    what = f"{n_models} models, {activation}" + (f", dropout {dropout}" if dropout else "")
    for name, milliseconds in (("compiled engine", native), ("stacked torch operations", stacked)):
        beside(f"{name}, a step of {what}", milliseconds / 1e3, "plain PyTorch loop", plain / 1e3)
    table.append(f"| {what} | {plain:.2f} | {stacked:.2f} | {native:.3f} | {plain / native:.0f} |")


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
