"""Training of whole zoos: many models in parallel, resumable, into one zoo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.generators.chunks import choose_engine, chunks_of, code_of, trained_by
from zoobench.generators.memory import fitting_jobs
from zoobench.generators.parallel import unordered
from zoobench.generators.parts import (
    ASSEMBLING,
    PARTS,
    begin_anew,
    clear_up,
    is_finished,
    read_part,
    training_into,
    write_part,
)
from zoobench.generators.progress import Progress
from zoobench.generators.recipes import ModelSettings, Recipe, find_recipe
from zoobench.readers.room import DiskRoom
from zoobench.store import is_zoo, read_index, write_zoo
from zoobench.warning import warn_user
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData
    from zoobench.generators.training import TrainedModel, Watch

#: Diverged models that a warning names.
_TOLD = 3


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
        Where to train. ``"auto"`` is CUDA where there is any, else the CPU. A recipe gives the same bits again on one
        machine's CPU; CUDA rounds differently, and not always alike, so name the CPU if others are to repeat it.
    n_jobs : int, optional
        Chunks trained at the same time (single models, where they are trained one by one), as in joblib: None is 1
        outside a ``joblib.parallel_config``, -1 all cores. On this machine, no more than fit into the memory of the
        device; how many a cluster's machines can take is for its scheduler to know.
    out : path-like, optional
        Folder for the zoo, in the zoo format: new, empty, what an interrupted run left, or this recipe's zoo. Each
        chunk is kept as soon as it is trained. Default: the zoo stays in memory.
    resume : bool, default=True
        Train only what ``out`` does not hold yet. False trains every model anew; the zoo that was there stays until
        the new one is whole, and if that is interrupted, the next call goes on with it.

    Returns
    -------
    Zoo
        Rows in (epoch, model) order, models in the order of ``recipe.models()``. Properties: epoch, losses and
        accuracies of the three parts of the images, ``ggap``, the hyper-parameters and the seed. As everywhere, states
        with weights that are not finite are stored, but left out of what is returned; a warning names their models,
        and ``diverged`` of the provenance in ``zoo.json`` lists them.

    Raises
    ------
    ValueError
        If the recipe's name is unknown, the device is not there, or ``out`` holds the zoo of another recipe, or of
        another function that builds an architecture of your own.
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
    device = resolve_device(device)
    if out is None:
        engine = choose_engine(recipe, device)
        models = recipe.models()
        trained = dict(_train(recipe, models, device, engine, n_jobs))
        weights = np.stack([trained[model.name].weights for model in models], axis=1).reshape(recipe.n_states, -1)
        metrics = np.stack([trained[model.name].metrics for model in models], axis=1)
        diverged = [model.name for model in models if has_diverged(trained[model.name])]
        contents = _contents(recipe, weights, metrics, diverged, device, engine)
        zoo: Zoo = Zoo.from_contents(contents)
        _tell_of_diverged(contents.provenance, recipe)
        return zoo
    # Absolute, because workers may have been started elsewhere.
    folder = Path(out).absolute()
    with training_into(folder):
        if is_zoo(folder) and read_index(folder)["recipe"] != recipe.to_dict():
            raise ValueError(f"{folder} holds the zoo of another recipe; choose another folder or delete it")
        if resume and is_finished(folder):
            if read_index(folder)["provenance"].get("architecture_code") != code_of(recipe):
                raise ValueError(
                    f"{folder} holds the zoo of another architecture {recipe.architecture!r}: the function that builds "
                    "it has changed; choose another folder, or ask for resume=False to train it again"
                )
            # A kill may have come between the zoo's last file and the end of these.
            clear_up(folder)
            return _loaded(folder, recipe)
        _train_into(folder, recipe, device, n_jobs, resume)
        return _loaded(folder, recipe)


def _train_into(folder: Path, recipe: Recipe, device: str, n_jobs: int | None, resume: bool) -> None:
    parts = folder / PARTS
    if not resume:
        begin_anew(folder)
    parts.mkdir(exist_ok=True)
    engine = choose_engine(recipe, device)
    by = trained_by(recipe, engine, device)
    missing = {m.name: m for m in recipe.models() if read_part(parts, recipe, m, by[m.name]) is None}
    # On disk at once, and not kept here: a large zoo would fill the memory.
    for name, result in _train(recipe, list(missing.values()), device, engine, n_jobs):
        write_part(parts, recipe, missing[name], result, by[name])
    scratch = folder / ASSEMBLING
    try:
        weights, metrics, diverged = _assembled(scratch, parts, recipe, by)
        write_zoo(folder, _contents(recipe, weights, metrics, diverged, device, engine))
    finally:
        scratch.unlink(missing_ok=True)
    clear_up(folder)


def _assembled(
    scratch: Path, parts: Path, recipe: Recipe, by: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Weights of all states, in a file, measurements of shape (n_epochs, n_models, n_metrics), and who diverged."""
    from zoobench.generators.training import METRICS

    n_epochs, n_models = len(recipe.epochs), recipe.n_models
    weights = DiskRoom(scratch).matrix(recipe.n_states, recipe.layout.n_weights)
    by_model = weights.reshape(n_epochs, n_models, -1)
    metrics = np.empty((n_epochs, n_models, len(METRICS)))
    diverged: list[str] = []
    for place, model in enumerate(recipe.models()):
        part = read_part(parts, recipe, model, by[model.name])
        if part is None:
            raise RuntimeError(f"trained models are no longer in {parts}; run the same command again")
        by_model[:, place], metrics[:, place] = part.weights, part.metrics
        if has_diverged(part):
            diverged.append(model.name)
    return weights, metrics, diverged


def _train(
    recipe: Recipe, wanted: list[ModelSettings], device: str, engine: str, n_jobs: int | None
) -> Iterator[tuple[str, TrainedModel]]:
    """Name and result of each wanted model, in the order in which they are finished."""
    chunks = chunks_of(recipe, wanted, engine, device)
    n_jobs = fitting_jobs(n_jobs, recipe, chunks, engine, device)
    with Progress(recipe, recipe.n_models - len(wanted)) as progress:
        if n_jobs == 1:
            results: Iterator[dict[str, TrainedModel]] = (
                _train_chunk(recipe, chunk, device, engine, progress.watch) for chunk in chunks
            )
        else:
            calls = [(recipe, chunk, device, engine, progress.reporter(chunk)) for chunk in chunks]
            results = unordered(_train_chunk, calls, n_jobs)
        for result in results:
            progress.finished(result.values(), first=next(iter(result)))
            yield from result.items()


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


@lru_cache(maxsize=2)
def _images(name: str, architecture: str) -> ImageData:
    """Loaded once a process, not sent to it with every model."""
    from zoobench.generators.images import load_images

    return load_images(name, architecture)


# -- the zoo -----------------------------------------------------------------------------------------------------------


def _contents(
    recipe: Recipe, weights: np.ndarray, metrics: np.ndarray, diverged: list[str], device: str, engine: str
) -> ZooContents:
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
    if diverged:
        provenance["diverged"] = diverged
    if code := code_of(recipe):
        provenance["architecture_code"] = code
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


def _loaded(folder: Path, recipe: Recipe) -> Zoo:
    from zoobench.loading import load_zoo

    zoo: Zoo = load_zoo(folder)
    _tell_of_diverged(read_index(folder)["provenance"], recipe)
    return zoo


def has_diverged(trained: TrainedModel) -> bool:
    """Whether a model's weights are no longer finite: it stays so, so that the last checkpoint tells."""
    return not np.isfinite(trained.weights[-1]).all()


def _tell_of_diverged(provenance: Mapping[str, Any], recipe: Recipe) -> None:
    names = provenance.get("diverged", [])
    if names:
        shown = ", ".join(map(repr, names[:_TOLD])) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
        warn_user(
            f"{len(names)} of {recipe.n_models} models of {recipe.name} diverged: {shown}; their states are stored as "
            "they are, and the zoo's provenance lists them all"
        )
