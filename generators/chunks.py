"""Which models of a recipe are trained side by side, and by what: the recipe decides, and the kind of the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zoobench.generators.image_sets import find_image_set
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.generators.registration import architecture_code
from zoobench.warning import warn_user

#: Models that the compiled engine trains side by side: as many single numbers as the widest vectors hold. More would
#: be no faster, and there would be less to give to several jobs, and more to lose in a kill.
_COMPILED = 16

#: Of PyTorch's operations on many models: models that step together at most, and images that they see in a step. On an
#: accelerator that takes some gigabytes; a processor gains nothing from more.
_MODELS_A_STEP, _IMAGES_A_STEP = {"cpu": 32, "cuda": 1_000}, 10_000


def choose_engine(recipe: Recipe, device: str) -> str:
    """What trains a recipe on a device: "native", "stacked" or "torch", which is PyTorch, one model at a time."""
    from zoobench.generators.compiling import NoEngineError, load_library
    from zoobench.generators.engine import can_train

    if not can_train(recipe):
        return "torch"
    if is_cpu(device):
        try:
            load_library()
        except NoEngineError as error:
            warn_user(f"PyTorch trains, which is several times slower than the compiled engine, because {error}")
        else:
            return "native"
    return "stacked"


def is_cpu(device: str) -> bool:
    """Whether a device is the processor."""
    return device.startswith("cpu")


def chunks_of(
    recipe: Recipe, wanted: list[ModelSettings], engine: str, device: str = "cpu"
) -> list[list[ModelSettings]]:
    """What is trained side by side. What is finished already is left out of it.

    Parameters
    ----------
    recipe : Recipe
        All models there are: they alone put each into its chunk.
    wanted : list of ModelSettings
        Those that are still to be trained.
    engine : str
        As of :func:`choose_engine`.
    device : str, default="cpu"
        Where to train.

    Returns
    -------
    list of list of ModelSettings
        Of stacked operations, all of one length that share activation, optimizer and batch size, with copies in place
        of models that are not there.
    """
    if engine == "torch":
        return [[model] for model in wanted]
    names = {model.name for model in wanted}
    chunks: list[list[ModelSettings]] = []
    for chunk, size in _whole_chunks(recipe, engine, device):
        kept = [model for model in chunk if model.name in names]
        if kept and engine == "stacked":
            # As many as always and each in its place, on which the last bits of batched products may depend: copies
            # stand where a model is finished, and where the last chunk ends.
            places = [model if model.name in names else kept[-1] for model in chunk]
            kept = places + kept[-1:] * (size - len(chunk))
        if kept:
            chunks.append(kept)
    return chunks


def trained_by(recipe: Recipe, engine: str, device: str) -> dict[str, str]:
    """Name of each model -> what trains it, as far as its settings do not say so and its last bits may show it."""
    # What a graphics card has begun is not what a processor would go on with.
    by = engine if is_cpu(device) else f"{engine} on cuda"
    if code := code_of(recipe):
        by += f" of {code}"
    if engine != "stacked":
        return {model.name: by for model in recipe.models()}
    return {
        model.name: f"{by}, {place} of {size}"
        for chunk, size in _whole_chunks(recipe, engine, device)
        for place, model in enumerate(chunk)
    }


def code_of(recipe: Recipe) -> str | None:
    """Digest of the code of a recipe's architecture, where a user has registered it."""
    channels = find_image_set(recipe.dataset).setting(recipe.architecture).channels
    return architecture_code(recipe.architecture, channels=channels, n_classes=recipe.n_classes)


def _whole_chunks(recipe: Recipe, engine: str, device: str) -> Iterator[tuple[list[ModelSettings], int]]:
    """The chunks of all models of a recipe, and the length of each, of which the last models may fall short."""
    shared = ("activation", "batch_size") if engine == "native" else ("activation", "batch_size", "optimizer")
    alike: dict[tuple[Any, ...], list[ModelSettings]] = {}
    for model in recipe.models():
        values = recipe.training_values(model)
        alike.setdefault(tuple(values[axis] for axis in shared), []).append(model)
    for (_, batch_size, *_), models in alike.items():
        size = _COMPILED if engine == "native" else stack_size(len(models), batch_size, device)
        for start in range(0, len(models), size):
            yield models[start : start + size], size


def stack_size(n_models: int, batch_size: int, device: str) -> int:
    """Models of a chunk of stacked operations: as many as there may be, in chunks of one size."""
    most = max(1, min(_MODELS_A_STEP["cpu" if is_cpu(device) else "cuda"], _IMAGES_A_STEP // batch_size))
    return -(-n_models // -(-n_models // most))
