"""What a recipe costs, told before anything is trained: models, steps, bytes, and the time that this machine takes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoobench.download.disk import human
from zoobench.generators.chunks import choose_engine, chunks_of
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.memory import fitting_jobs
from zoobench.generators.parallel import count_jobs
from zoobench.generators.population import train_chunk
from zoobench.generators.recipes import ModelSettings, Recipe

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData

#: Seconds of training that are long enough to be measured, and images that the first attempt trains on.
_LONG_ENOUGH, _FEW_IMAGES = 0.1, 8

_ENGINES = {
    "native": "the compiled engine",
    "stacked": "PyTorch, many models at a time",
    "torch": "PyTorch, one model after the other",
}


@dataclass(frozen=True)
class Estimate:
    """What a recipe costs.

    Attributes
    ----------
    recipe : Recipe
        What is to be trained.
    n_steps : int
        Steps of the optimizer, of all models together.
    n_bytes : int
        Size of the zoo's weights on disk.
    engine, n_jobs : str, int
        What trains, and how many chunks at a time.
    seconds : float
        About the time that it takes, from some steps that were made on this machine.
    """

    recipe: Recipe
    n_steps: int
    n_bytes: int
    engine: str
    n_jobs: int
    seconds: float

    def describe(self) -> str:
        """The estimate in words."""
        recipe = self.recipe
        jobs = "1 job" if self.n_jobs == 1 else f"{self.n_jobs} jobs"
        return (
            f"{recipe.n_models} models of {recipe.n_epochs} epochs, {recipe.n_states} states to keep\n"
            f"{self.n_steps:,} steps in all, about {human(self.n_bytes)} on disk\n"
            f"about {_duration(self.seconds)} on this machine, with {jobs} of {_ENGINES[self.engine]}"
        )


def estimate(recipe: Recipe, *, device: str = "auto", n_jobs: int | None = None) -> Estimate:
    """Estimate what a recipe costs on this machine.

    Some steps are made, and some images evaluated, with the engine that would train the recipe, for each of its
    activations. The images are random numbers of the right shape: nothing is downloaded.

    Parameters
    ----------
    recipe : Recipe
        What is to be trained.
    device, n_jobs : str, int or None
        As in :func:`zoobench.make_zoo`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If the device is unknown or not there.

    Notes
    -----
    The time is that of a machine as busy as it is now. Several jobs are taken to be as fast as one each.
    """
    from zoobench.generators.devices import resolve_device

    device = resolve_device(device)
    setting = find_image_set(recipe.dataset).setting(recipe.architecture)
    n_test = find_image_set(recipe.dataset).n_test
    engine = choose_engine(recipe, device)
    models = recipe.models()
    n_steps = sum(-(-setting.n_train // recipe.training_values(model)["batch_size"]) for model in models)
    chunks = chunks_of(recipe, models, engine, device)
    measured: dict[str, tuple[int, float, float]] = {}
    seconds = 0.0
    for chunk in chunks:
        activation = chunk[0].hyperparameters["activation"]
        if activation not in measured:
            measured[activation] = _measured(recipe, chunk, device, engine)
        at_once, to_train, to_evaluate = measured[activation]
        trained = recipe.epochs[-1] * setting.n_train
        evaluated = len(recipe.epochs) * (setting.n_val + n_test) + (0 in recipe.epochs) * setting.n_train
        seconds += -(-len(chunk) // at_once) * (trained * to_train + evaluated * to_evaluate)
    n_jobs = min(count_jobs(fitting_jobs(n_jobs, recipe, chunks, engine, device)), len(chunks))
    return Estimate(
        recipe=recipe,
        n_steps=recipe.epochs[-1] * n_steps,
        n_bytes=4 * recipe.n_states * recipe.layout.n_weights,
        engine=engine,
        n_jobs=n_jobs,
        seconds=seconds / n_jobs,
    )


def _measured(recipe: Recipe, models: list[ModelSettings], device: str, engine: str) -> tuple[int, float, float]:
    """Models that step at once, and the seconds in which all of them are trained on, and evaluated on, an image."""
    batch_size: int = recipe.training_values(models[0])["batch_size"]
    # The first epoch warms up, the second only trains, the third is followed by an evaluation.
    probe = replace(recipe, n_epochs=3, checkpoint_epochs=[3])
    n_images = _FEW_IMAGES
    while True:
        times: list[tuple[int, float]] = []

        def watch(n_models: int, _: int, __: float, times: list[tuple[int, float]] = times) -> None:
            times.append((n_models, time.perf_counter()))

        train_chunk(probe, models, _noise(recipe, n_images), device, engine, watch)
        # The models of a chunk may step in several groups; the first is looked at.
        at_once = times[0][0]
        _, begin, middle, end = (moment for _, moment in times[:4])
        trained, evaluated = middle - begin, max(0.0, end - middle - (middle - begin))
        if trained > _LONG_ENOUGH or n_images > 1000 * batch_size:
            return at_once, trained / n_images, evaluated / (2 * n_images)
        n_images *= 4


def _noise(recipe: Recipe, n_images: int) -> ImageData:
    """Random numbers of the shape of the recipe's images, so many for each part."""
    import torch

    from zoobench.generators.images import ImageData

    facts = find_image_set(recipe.dataset)
    setting = facts.setting(recipe.architecture)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n_images, setting.channels, setting.size, setting.size, generator=generator)
    labels = torch.randint(facts.n_classes, (n_images,), generator=generator)
    black = (0.0,) * setting.channels
    return ImageData(recipe.dataset, *(images, labels) * 3, augmentation=setting.augmentation, black=black)


def _duration(seconds: float) -> str:
    """For people, in two digits."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.2g} {unit}s" if seconds < 100 * length else f"{seconds / length:,.0f} {unit}s"
    return f"{max(1, round(seconds))} seconds"
