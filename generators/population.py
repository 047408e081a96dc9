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
from zoobench.generators.parts import PARTS, read_part, training_into, write_part
from zoobench.generators.recipes import ModelSettings, Recipe, find_recipe
from zoobench.properties import CATEGORICAL, HYPERPARAMETERS
from zoobench.store import is_zoo, read_index, write_zoo
from zoobench.warning import warn_user
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData
    from zoobench.generators.training import TrainedModel

    Results = list[tuple[str, TrainedModel]]

#: Models that the engine trains side by side in one process. Part of no fingerprint: it changes no model.
_CHUNK = 16


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
    first needed (with the system's C++ compiler; ``$CXX`` names another). Where there is none, and on other devices,
    PyTorch trains one model after the other, which a warning says; models then are the same up to rounding.

    Parameters
    ----------
    recipe : Recipe, str or path-like
        A recipe, the name of a bundled one (such as ``"digits_cnn_s_seed"``), or the path of a TOML file.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where to train. ``"auto"`` is the CPU: networks as small as these keep no accelerator busy one by one.
    n_jobs : int, optional
        Chunks of sixteen models trained at the same time (single models, without the engine), as in joblib: None is 1
        outside a ``joblib.parallel_config``, -1 all cores.
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
    recipe = find_recipe(recipe)
    device = _resolve_device(device)
    if out is None:
        engine = _engine_for(device)
        trained = dict(_train(recipe, recipe.models(), device, engine, n_jobs))
        return Zoo.from_contents(_contents(recipe, [trained[model.name] for model in recipe.models()], device, engine))
    # Absolute, because workers may have been started elsewhere.
    folder = Path(out).absolute()
    with training_into(folder):
        if is_zoo(folder):
            if read_index(folder)["recipe"] != recipe.to_dict():
                raise ValueError(f"{folder} holds the zoo of another recipe; choose another folder or delete it")
            if resume:
                return _loaded(folder)
        _train_into(folder, recipe, device, n_jobs, resume)
        return _loaded(folder)


def _train_into(folder: Path, recipe: Recipe, device: str, n_jobs: int | None, resume: bool) -> None:
    parts = folder / PARTS
    if not resume:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(exist_ok=True)
    engine = _engine_for(device)
    models = recipe.models()
    missing = [model for model in models if read_part(parts, recipe, model, engine) is None]
    for _ in _train(recipe, missing, device, engine, n_jobs, parts=parts):
        pass  # On disk already; kept here, a large zoo would fill the memory twice.
    finished = [read_part(parts, recipe, model, engine) for model in models]
    lost = sum(part is None for part in finished)
    if lost:
        raise RuntimeError(f"{lost} trained models are no longer in {parts}; run the same command again")
    write_zoo(folder, _contents(recipe, [part for part in finished if part is not None], device, engine))
    shutil.rmtree(parts, ignore_errors=True)


def _train(
    recipe: Recipe,
    wanted: list[ModelSettings],
    device: str,
    engine: str,
    n_jobs: int | None,
    *,
    parts: Path | None = None,
) -> Iterator[tuple[str, TrainedModel]]:
    """Name and result of each wanted model, in the order in which they are finished."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    # Processes, because the Python part of the plain loop is what takes its time.
    parallel = Parallel(n_jobs=n_jobs, prefer="processes", return_as="generator_unordered")
    results = parallel(
        delayed(_train_chunk)(recipe, chunk, device, engine, parts) for chunk in _chunks(recipe, wanted, engine)
    )
    n_models = recipe.n_models
    with tqdm(total=n_models, initial=n_models - len(wanted), desc=f"training {recipe.name}", unit="model") as bar:
        for result in results:
            bar.update(len(result))
            yield from result


def _chunks(recipe: Recipe, wanted: list[ModelSettings], engine: str) -> list[list[ModelSettings]]:
    """What is trained side by side. The recipe alone decides; of a chunk, only the models that are wanted remain."""
    if engine == "torch":
        return [[model] for model in wanted]
    by_activation: dict[str, list[ModelSettings]] = {}
    for model in recipe.models():
        by_activation.setdefault(model.hyperparameters["activation"], []).append(model)
    names = {model.name for model in wanted}
    chunks = [models[i : i + _CHUNK] for models in by_activation.values() for i in range(0, len(models), _CHUNK)]
    chunks = [[model for model in chunk if model.name in names] for chunk in chunks]
    return [chunk for chunk in chunks if chunk]


def _train_chunk(recipe: Recipe, models: list[ModelSettings], device: str, engine: str, parts: Path | None) -> Results:
    if engine == "native":
        from zoobench.generators.compiling import NoEngineError
        from zoobench.generators.engine import train_models

        try:
            trained = train_models(recipe, models, _images(recipe.dataset))
        except NoEngineError as error:
            raise RuntimeError(f"a machine that takes part cannot train with the compiled engine: {error}") from error
    else:
        from zoobench.generators.training import train_model

        trained = [train_model(recipe, model, _images(recipe.dataset), device=device) for model in models]
    if parts is not None:
        for model, result in zip(models, trained, strict=True):
            write_part(parts, recipe, model, result, engine)
    return [(model.name, result) for model, result in zip(models, trained, strict=True)]


def _engine_for(device: str) -> str:
    """What trains on a device: "native" or "torch"."""
    from zoobench.generators.compiling import NoEngineError, load_library

    slowly = "PyTorch trains one model after the other, which is several times slower"
    if device != "cpu":
        warn_user(f"{slowly} than the compiled engine, because that trains on the CPU alone and not on {device!r}")
        return "torch"
    try:
        load_library()
    except NoEngineError as error:
        warn_user(f"{slowly} than the compiled engine, because {error}")
        return "torch"
    return "native"


@lru_cache(maxsize=2)
def _images(name: str) -> ImageData:
    """Loaded once a process, not sent to it with every model."""
    from zoobench.generators.images import load_images

    return load_images(name)


# -- the zoo -----------------------------------------------------------------------------------------------------------


def _contents(recipe: Recipe, trained: list[TrainedModel], device: str, engine: str) -> ZooContents:
    """All rows of the zoo, from the trained models in the recipe's order."""
    import torch

    from zoobench import __version__
    from zoobench.generators.training import METRICS

    models, epochs = recipe.models(), recipe.epochs
    weights = np.stack([model.weights for model in trained], axis=1).reshape(-1, trained[0].weights.shape[1])
    metrics = np.stack([model.metrics for model in trained], axis=1).reshape(-1, len(METRICS))
    names = [model.name for model in models]
    table = pd.DataFrame(
        {
            "model": pd.Categorical.from_codes(np.tile(np.arange(len(names)), len(epochs)), categories=names),
            "epoch": np.repeat(np.array(epochs, dtype=np.int32), len(names)),
        }
    )
    for column, metric in enumerate(METRICS):
        table[metric] = metrics[:, column]
    table["ggap"] = table["train_acc"] - table["test_acc"]
    for axis in HYPERPARAMETERS:
        values = [model.hyperparameters[axis] for model in models] * len(epochs)
        table[axis] = pd.Categorical(values) if axis in CATEGORICAL else np.array(values, dtype=np.float64)
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


def _resolve_device(device: str) -> str:
    import torch

    if device == "auto":
        return "cpu"
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ValueError(f"device {device!r} is unknown; use 'auto', 'cpu' or 'cuda'") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} cannot train zoos; use 'auto', 'cpu' or 'cuda'")
    if kind == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available on this machine (no CUDA); use 'cpu' or 'auto'")
    return device
