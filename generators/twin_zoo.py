"""What sparsified twins start from, and the zoo that they become."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.generators.chains import is_chain
from zoobench.generators.evaluation import single_value
from zoobench.generators.image_fit import PARTS, architecture_of, images_of
from zoobench.generators.images import ImageData
from zoobench.generators.recipe_checks import DEFAULT_MOMENTUM, check_hyperparameter, hint
from zoobench.generators.registration import registered
from zoobench.generators.training import METRICS
from zoobench.generators.twin_networks import TwinChunk
from zoobench.generators.twin_training import TrainedTwins
from zoobench.network import origin_of
from zoobench.properties import IDENTITY, MEASURED
from zoobench.store import is_zoo, read_index
from zoobench.zoo import Zoo

#: What the models of a chunk have in common, and what each has for itself.
_SHARED, _OWN = ("activation", "optimizer", "batch_size"), ("lr", "weight_decay", "dropout", "momentum")

#: What the Model Zoos use where a zoo does not tell.
_USUAL: dict[str, Any] = {"batch_size": 10, "dropout": 0.0, "momentum": DEFAULT_MOMENTUM}

#: Models of a chunk of chains at most, by kind of device: what fits into a processor's caches, or keeps an accelerator
#: busy. Other networks are sparsified one by one.
_CHUNK = {"cpu": 16, "cuda": 256}


def last_states(zoo: Zoo, n_models: int | None) -> Zoo:
    """Each model's last state, those with weights that are not finite included, in the zoo's order of models."""
    if architecture_of(zoo) is None:
        raise ValueError(
            f"the models of zoo {zoo.to_contents().name!r} cannot be sparsified: their architecture is not one that is "
            "known, and no recipe names it; register it, and train the zoo by a recipe"
        )
    last = zoo.select(epochs="last", drop_nan=False, as_frame=False)
    order = np.argsort(last.groups, kind="stable")[:n_models]
    contents = last.to_contents()
    table = contents.properties.iloc[order].reset_index(drop=True)
    table["model"] = table["model"].cat.remove_unused_categories()
    # A slice of a memory map stays one: large networks do not come into memory together.
    rows = slice(len(order)) if np.array_equal(order, np.arange(len(order))) else order
    contents.weights, contents.properties = contents.weights[rows], table
    contents.peaks = None if contents.peaks is None else contents.peaks[order]
    return Zoo._whole(contents, "hash", None)


def settings_of(
    start: Zoo, images: str | ImageData | None, hyperparameters: Any, settings: dict[str, Any]
) -> tuple[ImageData, dict[str, Any]]:
    """The image data, and everything that the twins depend on, as plain data."""
    if not isinstance(hyperparameters, Mapping):
        raise ValueError(f"hyperparameters must map names to values, not {hyperparameters!r}")
    unknown = [name for name in hyperparameters if name not in (*_SHARED, *_OWN)]
    if unknown:
        raise ValueError(f"there is no hyper-parameter {unknown[0]!r}{hint(unknown[0], (*_SHARED, *_OWN))}")
    given = {name: check_hyperparameter(name, value) for name, value in hyperparameters.items()}
    data = images_of(start, images)
    digest = hashlib.sha256()
    for part in PARTS:
        for tensor in (getattr(data, part), getattr(data, f"{part}_labels")):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    of_models = hashlib.sha256()
    for vector in start.data:
        of_models.update(vector.tobytes())
    of_models.update("\n".join(start.properties["model"].astype(str)).encode())
    return data, {
        "twin_of": start.to_contents().name,
        **_origin(start),
        **settings,
        "hyperparameters": given,
        "images": data.name,
        "images_sha256": digest.hexdigest(),
        **({"augmentation": data.augmentation, "black": list(data.black)} if data.augmentation else {}),
        "start_sha256": of_models.hexdigest(),
    }


def _origin(start: Zoo) -> dict[str, Any]:
    """Of an architecture that was registered: its name and the zoo's image set, by which its networks are built."""
    architecture, contents = architecture_of(start), start.to_contents()
    if architecture is None or registered(architecture) is None:
        return {}
    return {"architecture": architecture, "dataset": origin_of(contents.recipe, contents.provenance)["dataset"]}


def chunks_of(start: Zoo, hyperparameters: Mapping[str, Any], device: str) -> list[TwinChunk]:
    """The models in chunks that step together. The zoo and the kind of device alone decide who is in which."""
    origin = _origin(start)
    values = pd.DataFrame(
        {name: _values(start, hyperparameters, name) for name in (*_SHARED, *_OWN)}, index=range(len(start.groups))
    )
    for name in ("optimizer", "activation"):
        known = {"optimizer": ("adam", "adamw", "sgd"), "activation": ("tanh", "sigmoid", "relu", "gelu")}[name]
        unknown = sorted(set(values[name]) - set(known))
        if unknown:
            raise ValueError(f"{name} {unknown[0]!r} is unknown{hint(unknown[0], known)}")
    names = start.properties["model"].astype(str).to_numpy()
    most = _CHUNK[device.partition(":")[0]] if is_chain(architecture_of(start)) else 1
    chunks: list[TwinChunk] = []
    for key, group in values.groupby(list(_SHARED), sort=False):
        shared = dict(zip(_SHARED, key, strict=True))
        rows = group.index.to_numpy()
        size = -(-len(rows) // -(-len(rows) // most))  # as few chunks as there can be, all as large
        for first in range(0, len(rows), size):
            these = rows[first : first + size]
            together = len(these) == size and these[-1] - these[0] == size - 1
            # Copies fill the last chunk: of how many models there are, the last bits of sums may depend.
            these = np.concatenate([these, np.repeat(these[:1], size - len(these))])
            own = {name: tuple(float(value) for value in values[name].to_numpy()[these]) for name in _OWN}
            chunks.append(
                TwinChunk(
                    tuple(names[these]),
                    start.data[these[0] : these[-1] + 1] if together else start.data[these],
                    start.layout,
                    shared | {"batch_size": int(shared["batch_size"])},
                    own,
                    origin,
                )
            )
    return chunks


def _values(start: Zoo, hyperparameters: Mapping[str, Any], name: str) -> Any:
    """A hyper-parameter of each model: as asked for, else the model's own, else what the zoo's card or recipe says."""
    if name in hyperparameters:
        return hyperparameters[name]
    if name in start.properties and not start.properties[name].isna().any():
        column = start.properties[name]
        return column.to_numpy() if pd.api.types.is_numeric_dtype(column) else column.astype(str).to_numpy()
    contents = start.to_contents()
    for value in (single_value(start, name), (contents.recipe or {}).get(name), _USUAL.get(name)):
        if value is not None:
            return value
    raise ValueError(
        f"zoo {contents.name!r} does not say which {name} its models were trained with; "
        f"give it, as in hyperparameters={{{name!r}: ...}}"
    )


def twin_name(settings: Mapping[str, Any]) -> str:
    """Name of a zoo of twins."""
    name = f"{settings['twin_of']}_sparse"
    return name if settings["method"] != "magnitude" else f"{name}_magnitude_{100 * settings['sparsity']:g}"


def twin_contents(
    start: Zoo,
    settings: dict[str, Any],
    chunks: list[TwinChunk],
    trained: Callable[[int], TrainedTwins],
    weights: np.ndarray,
    device: str,
    code: str | None,
) -> ZooContents:
    """All rows of the twins; ``trained`` gives what a chunk has become, which ``weights`` is filled with."""
    import torch

    from zoobench import __version__

    epochs = settings["epochs"]
    models = start.properties["model"].cat
    place = {name: number for number, name in enumerate(models.categories)}
    by_model = weights.reshape(len(epochs), len(place), -1)
    metrics = np.empty((len(epochs), len(place), len(METRICS) + 1))
    for number, chunk in enumerate(chunks):
        twins = trained(number)
        for i, name in enumerate(dict.fromkeys(chunk.names)):
            by_model[:, place[name]] = twins.weights[i]
            metrics[:, place[name]] = twins.metrics[i]
    rows = np.tile(np.arange(len(place)), len(epochs))
    old = start.properties.iloc[rows].reset_index(drop=True)
    table = old[[name for name in IDENTITY if name in old and name != "split"]].copy()
    table["epoch"] = np.repeat(np.array(epochs, dtype=np.int32), len(place))
    for column, metric in enumerate((*METRICS, "sparsity")):
        table[metric] = metrics[:, :, column].ravel()
    table["ggap"] = table["train_acc"] - table["test_acc"]
    for name in old:
        if name not in MEASURED and name not in IDENTITY:
            table[name] = old[name]
    for name, value in settings["hyperparameters"].items():  # with which the models themselves were not trained
        values = [value] * len(table)
        table[name] = pd.Categorical(values) if isinstance(value, str) else np.array(values, dtype=np.float64)
    name = twin_name(settings)
    provenance = {
        "source": "sparsified by zoobench",
        "twins": settings,
        "zoobench": __version__,
        "torch": torch.__version__,
        "device": device,
    }
    if code:
        provenance["architecture_code"] = code
    return ZooContents(
        name=name,
        weights=weights,
        properties=table,
        layout=start.layout,
        provenance=provenance,
        card=_card(name, settings),
    )


def _card(name: str, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The registry's card, where these are the twins that come with the package: same start, images and settings."""
    from zoobench.datasets_registry.cards import read_cards

    card = read_cards().get(name)
    if card is None or card.bundled is None or not is_zoo(card.bundled):
        return None
    return card.to_dict() if read_index(card.bundled)["provenance"].get("twins") == settings else None
