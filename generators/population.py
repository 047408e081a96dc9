"""Training of whole zoos: many models in parallel, resumable, into one zoo."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.generators.parallel import resolve_jobs, unordered
from zoobench.generators.parts import PARTS, read_part, training_into, write_part
from zoobench.generators.progress import Progress
from zoobench.generators.recipes import ModelSettings, Recipe, find_recipe
from zoobench.readers.room import DiskRoom
from zoobench.store import is_zoo, read_index, write_zoo
from zoobench.warning import warn_user
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData
    from zoobench.generators.training import TrainedModel, Watch

#: The zoo's weights, in its folder, while they are put together: a large zoo does not fit into memory.
_ASSEMBLING = ".assembling"

#: Models that the compiled engine trains side by side in one process. Part of no fingerprint: it changes no model.
_CHUNK = 16

#: Of PyTorch's operations on many models: models that step together at most, and images that they see in a step. On an
#: accelerator that takes some gigabytes; a processor gains nothing from more.
_MODELS_A_STEP, _IMAGES_A_STEP = {"cpu": 32, "cuda": 1_000}, 10_000


def make_zoo(
    recipe: Recipe | str | Path,
    *,
    device: str = "auto",
    n_jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
) -> Zoo:
    """Train the zoo that a recipe describes.

    A model depends on its own settings and seed alone: neither ``n_jobs`` nor the other models of the recipe change
    it. The global random state is not touched.

    On the CPU, sixteen models of one activation are trained side by side by compiled code, which is built when it is
    first needed (with the system's C++ compiler; ``$CXX`` names another). Where there is none, PyTorch's operations
    train up to 32 models together, which is slower, as a warning says; models then are the same up to rounding. On
    CUDA, up to a thousand models of one activation and optimizer step together. ResNet-18, and architectures of your
    own, are trained one by one.

    Under ``joblib.parallel_config(backend="ray")`` or ``"dask"`` the work is spread over a cluster, whose machines need
    no folder in common. Ray's backend is known to joblib once ``make_zoo`` has been imported.

    Parameters
    ----------
    recipe : Recipe, str or path-like
        A recipe, the name of a bundled one (such as ``"digits_cnn_s_seed"``), or the path of a TOML file.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where to train. ``"auto"`` is the CPU.
    n_jobs : int, optional
        Chunks trained at the same time (single models, where they are trained one by one), as in joblib: None is 1
        outside a ``joblib.parallel_config``, -1 all cores. On CUDA, no more than fit into the device's memory.
    out : path-like, optional
        Folder for the zoo, in the zoo format: new, empty, what an interrupted run left, or this recipe's zoo. Each
        chunk is kept as soon as it is trained. Default: the zoo stays in memory.
    resume : bool, default=True
        Train only what ``out`` does not hold yet. False trains every model anew.

    Returns
    -------
    Zoo
        Rows in (epoch, model) order, models in the order of ``recipe.models()``. Properties: epoch, losses and
        accuracies of the three parts of the images, ``ggap``, the hyper-parameters and the seed. As everywhere, states
        with weights that are not finite are stored, but left out of what is returned.

    Raises
    ------
    ValueError
        If the recipe's name is unknown, the device is not there, or ``out`` holds the zoo of another recipe.
    FileExistsError
        If ``out`` is a file, or holds something that is no zoo.
    RuntimeError
        If another process is training into ``out``.

    Examples
    --------
    >>> from zoobench import make_zoo
    >>> from zoobench.generators import Recipe
    >>> make_zoo(Recipe(seeds=[1, 2], n_epochs=1, batch_size=100, name="tiny"))
    Zoo(tiny: 4 states of 2 models, 2464 weights, epochs 0, 1, target test_acc)
    """
    from zoobench.generators.devices import resolve_device

    recipe = find_recipe(recipe)
    device = "cpu" if device == "auto" else resolve_device(device)
    if out is None:
        engine = choose_engine(recipe, device)
        models = recipe.models()
        trained = dict(_train(recipe, models, device, engine, n_jobs))
        weights = np.stack([trained[model.name].weights for model in models], axis=1).reshape(recipe.n_states, -1)
        metrics = np.stack([trained[model.name].metrics for model in models], axis=1)
        return Zoo.from_contents(_contents(recipe, weights, metrics, device, engine))
    # Absolute, because workers may have been started elsewhere.
    folder = Path(out).absolute()
    with training_into(folder):
        if is_zoo(folder):
            if read_index(folder)["recipe"] != recipe.to_dict():
                raise ValueError(f"{folder} holds the zoo of another recipe; choose another folder or delete it")
            if resume:
                # A kill may have come between the zoo's last file and the end of these.
                shutil.rmtree(folder / PARTS, ignore_errors=True)
                (folder / _ASSEMBLING).unlink(missing_ok=True)
                return _loaded(folder)
        _train_into(folder, recipe, device, n_jobs, resume)
        return _loaded(folder)


def _train_into(folder: Path, recipe: Recipe, device: str, n_jobs: int | None, resume: bool) -> None:
    parts = folder / PARTS
    if not resume:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(exist_ok=True)
    engine = choose_engine(recipe, device)
    # What a graphics card has begun is not what a processor would go on with: their last bits differ.
    by = engine if _is_cpu(device) else f"{engine} on cuda"
    missing = {model.name: model for model in recipe.models() if read_part(parts, recipe, model, by) is None}
    # On disk at once, and not kept here: a large zoo would fill the memory.
    for name, result in _train(recipe, list(missing.values()), device, engine, n_jobs):
        write_part(parts, recipe, missing[name], result, by)
    scratch = folder / _ASSEMBLING
    try:
        weights, metrics = _assembled(scratch, parts, recipe, by)
        write_zoo(folder, _contents(recipe, weights, metrics, device, engine))
    finally:
        scratch.unlink(missing_ok=True)
    shutil.rmtree(parts, ignore_errors=True)


def _assembled(scratch: Path, parts: Path, recipe: Recipe, by: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights of all states, in a file, and measurements of shape (n_epochs, n_models, n_metrics)."""
    from zoobench.generators.training import METRICS

    n_epochs, n_models = len(recipe.epochs), recipe.n_models
    weights = DiskRoom(scratch).matrix(recipe.n_states, recipe.layout.n_weights)
    by_model = weights.reshape(n_epochs, n_models, -1)
    metrics = np.empty((n_epochs, n_models, len(METRICS)))
    for place, model in enumerate(recipe.models()):
        part = read_part(parts, recipe, model, by)
        if part is None:
            raise RuntimeError(f"trained models are no longer in {parts}; run the same command again")
        by_model[:, place], metrics[:, place] = part.weights, part.metrics
    return weights, metrics


def _train(
    recipe: Recipe, wanted: list[ModelSettings], device: str, engine: str, n_jobs: int | None
) -> Iterator[tuple[str, TrainedModel]]:
    """Name and result of each wanted model, in the order in which they are finished."""
    chunks = chunks_of(recipe, wanted, engine, device)
    n_jobs = resolve_jobs(n_jobs)
    if engine == "stacked" and not _is_cpu(device) and n_jobs != 1:
        from zoobench.generators.stacked import limited_jobs

        n_jobs = limited_jobs(n_jobs, recipe, max((len(chunk) for chunk in chunks), default=1), device)
    with Progress(recipe, recipe.n_models - len(wanted)) as progress:
        if n_jobs == 1:
            results: Iterator[dict[str, TrainedModel]] = (
                _train_chunk(recipe, chunk, device, engine, progress.watch) for chunk in chunks
            )
        else:
            results = unordered(_train_chunk, [(recipe, chunk, device, engine) for chunk in chunks], n_jobs)
        for result in results:
            progress.finished(result.values())
            yield from result.items()


def chunks_of(
    recipe: Recipe, wanted: list[ModelSettings], engine: str, device: str = "cpu"
) -> list[list[ModelSettings]]:
    """What is trained side by side. The recipe alone decides; what is finished already is left out of it."""
    if engine == "torch":
        return [[model] for model in wanted]
    shared = ("activation", "batch_size") if engine == "native" else ("activation", "batch_size", "optimizer")
    alike: dict[tuple[Any, ...], list[ModelSettings]] = {}
    for model in recipe.models():
        values = recipe.training_values(model)
        alike.setdefault(tuple(values[axis] for axis in shared), []).append(model)
    names = {model.name for model in wanted}
    chunks: list[list[ModelSettings]] = []
    for (_, batch_size, *_), models in alike.items():
        size = _CHUNK if engine == "native" else _stack_size(len(models), batch_size, device)
        for start in range(0, len(models), size):
            chunk = models[start : start + size]
            kept = [model for model in chunk if model.name in names]
            if kept and engine == "stacked":
                # As many as always and each in its place, on which the last bits of batched products may depend:
                # copies stand where a model is finished, and where the last chunk ends.
                places = [model if model.name in names else kept[-1] for model in chunk]
                kept = places + kept[-1:] * (size - len(chunk))
            if kept:
                chunks.append(kept)
    return chunks


def _stack_size(n_models: int, batch_size: int, device: str) -> int:
    """Models of a chunk of stacked operations: as many as there may be, in chunks of one size."""
    most = max(1, min(_MODELS_A_STEP["cpu" if _is_cpu(device) else "cuda"], _IMAGES_A_STEP // batch_size))
    return -(-n_models // -(-n_models // most))


def _train_chunk(
    recipe: Recipe, models: list[ModelSettings], device: str, engine: str, watch: Watch | None = None
) -> dict[str, TrainedModel]:
    trained = train_chunk(recipe, models, _images(recipe.dataset, recipe.architecture), device, engine, watch)
    return {model.name: result for model, result in zip(models, trained, strict=True)}


def train_chunk(
    recipe: Recipe,
    models: list[ModelSettings],
    images: ImageData,
    device: str,
    engine: str,
    watch: Watch | None = None,
) -> list[TrainedModel]:
    """Train models side by side, with an engine that :func:`choose_engine` has chosen."""
    if engine == "native":
        from zoobench.generators.compiling import NoEngineError
        from zoobench.generators.engine import train_models

        try:
            return train_models(recipe, models, images, watch)
        except NoEngineError as error:
            raise RuntimeError(f"a machine that takes part cannot train with the compiled engine: {error}") from error
    if engine == "stacked":
        from zoobench.generators.stacked import train_stacked

        return train_stacked(recipe, models, images, device, watch)
    from zoobench.generators.training import train_model

    return [train_model(recipe, model, images, device=device, watch=watch) for model in models]


def choose_engine(recipe: Recipe, device: str) -> str:
    """What trains a recipe on a device: "native", "stacked" or "torch", which is PyTorch, one model at a time."""
    from zoobench.generators.compiling import NoEngineError, load_library
    from zoobench.generators.engine import can_train

    if not can_train(recipe):
        return "torch"
    if _is_cpu(device):
        try:
            load_library()
        except NoEngineError as error:
            warn_user(f"PyTorch trains, which is several times slower than the compiled engine, because {error}")
        else:
            return "native"
    return "stacked"


def _is_cpu(device: str) -> bool:
    return device.startswith("cpu")


@lru_cache(maxsize=2)
def _images(name: str, architecture: str) -> ImageData:
    """Loaded once a process, not sent to it with every model."""
    from zoobench.generators.images import load_images

    return load_images(name, architecture)


# -- the zoo -----------------------------------------------------------------------------------------------------------


def _contents(recipe: Recipe, weights: np.ndarray, metrics: np.ndarray, device: str, engine: str) -> ZooContents:
    """All rows of the zoo; ``metrics`` has the shape (n_epochs, n_models, n_metrics)."""
    import torch

    from zoobench import __version__
    from zoobench.generators.training import METRICS

    models, epochs = recipe.models(), recipe.epochs
    names = [model.name for model in models]
    table = pd.DataFrame(
        {
            "model": pd.Categorical.from_codes(np.tile(np.arange(len(names)), len(epochs)), categories=names),
            "epoch": np.repeat(np.array(epochs, dtype=np.int32), len(names)),
        }
    )
    for column, metric in enumerate(METRICS):
        table[metric] = metrics[:, :, column].ravel()
    table["ggap"] = table["train_acc"] - table["test_acc"]
    for axis in recipe.grid:
        values = [model.hyperparameters[axis] for model in models] * len(epochs)
        table[axis] = pd.Categorical(values) if isinstance(values[0], str) else np.array(values, dtype=np.float64)
    table["seed"] = np.tile(np.array([model.seed for model in models], dtype=np.int64), len(epochs))
    provenance: dict[str, Any] = {
        "source": "trained by zoobench",
        "zoobench": __version__,
        "torch": torch.__version__,
        "device": device,
        "engine": engine,
    }
    return ZooContents(
        name=str(recipe.name),
        weights=weights,
        properties=table,
        layout=recipe.layout,
        provenance=provenance,
        card=_card(recipe),
        recipe=recipe.to_dict(),
    )


def _card(recipe: Recipe) -> dict[str, Any] | None:
    """The registry's card of the zoo that the recipe makes, where it is one of the registry's."""
    from zoobench.datasets_registry.cards import read_cards

    card = read_cards().get(str(recipe.name))
    if card is None or card.recipe is None or find_recipe(card.recipe) != recipe:
        return None
    return card.to_dict()


def _loaded(folder: Path) -> Zoo:
    from zoobench.loading import load_zoo

    zoo: Zoo = load_zoo(folder)
    return zoo
