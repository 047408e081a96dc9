"""The images that belong to a zoo's networks, and whether other images fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from zoobench.architecture_shapes import VARIANTS
from zoobench.generators.chains import Chain, is_chain
from zoobench.generators.image_sets import IMAGE_SETS
from zoobench.generators.images import ImageData, load_images
from zoobench.network import build_network, origin_of
from zoobench.zoo import Zoo

PARTS = ("train", "val", "test")


def check_is_zoo(zoo: Any) -> None:
    """Refuse what is no zoo, such as the name of one."""
    if not isinstance(zoo, Zoo):
        remedy = f"; fetch it first, as in fetch_zoo({zoo!r})" if isinstance(zoo, str) else ""
        raise ValueError(f"zoo must be a Zoo, not {zoo!r}{remedy}")


def architecture_of(zoo: Zoo) -> str | None:
    """Name of the architecture of a zoo's networks: one's own that its recipe names, or the one of these shapes."""
    own = _origin(zoo).get("architecture")
    # One's own may have the shapes of a named one, and compute something else.
    return zoo.layout.architecture if own is None or own in VARIANTS else str(own)


def network_at(zoo: Zoo, i: int, activation: str) -> torch.nn.Module:
    """The network of a state, in evaluation mode, with an activation that its row need not tell."""
    contents = zoo.to_contents()
    values = {"dropout": zoo.properties.iloc[i].get("dropout", 0.0), "activation": activation}
    return build_network(contents.name, zoo.layout, values, zoo.state_dict(i), _origin(zoo))


def dataset_of(zoo: Zoo) -> str:
    """Name of the images that a zoo was trained on.

    Raises
    ------
    ValueError
        If neither its recipe nor its card tells.
    """
    contents = zoo.to_contents()
    twins = contents.provenance.get("twins") or {}
    for dataset in ((contents.recipe or {}).get("dataset"), (contents.card or {}).get("dataset"), twins.get("images")):
        if dataset:
            return str(dataset)
    raise ValueError(
        f"zoo {contents.name!r} does not say which images its models were trained on; "
        "name them, such as images='digits'"
    )


def images_of(zoo: Zoo, images: str | ImageData | None) -> ImageData:
    """The image data that an ``images`` argument stands for, checked to fit the zoo's networks.

    Parameters
    ----------
    zoo : Zoo
        Its first state stands for all.
    images : str, ImageData or None
        None is what the zoo was trained on.

    Returns
    -------
    ImageData

    Raises
    ------
    ValueError
        If the images are unknown, are no image data, or are not such as the networks take.
    """
    if images is None:
        images = dataset_of(zoo)
    if not isinstance(images, (str, ImageData)):
        raise ValueError(f"images must be the name of an image set or an ImageData, not {images!r}")
    data = images if isinstance(images, ImageData) else load_images(images, architecture_of(zoo) or "cnn_s")
    _check_data(data)
    _check_fit(zoo, data)
    return data


def _origin(zoo: Zoo) -> Mapping[str, Any]:
    contents = zoo.to_contents()
    return origin_of(contents.recipe, contents.provenance)


def _check_data(data: ImageData) -> None:
    """Each part has images, as numbers, and as many labels."""
    for part in PARTS:
        images, labels, where = getattr(data, part), getattr(data, f"{part}_labels"), f"images {data.name!r}, {part}:"
        if images.ndim != 4 or images.dtype != torch.float32:
            raise ValueError(
                f"{where} expected torch.float32 of shape (n_images, channels, height, width), found {images.dtype} of "
                f"shape {tuple(images.shape)}"
            )
        if not len(images):
            raise ValueError(f"{where} there are none; each of {', '.join(PARTS)} needs at least one image")
        if images.shape[1:] != data.train.shape[1:]:
            shapes = f"{tuple(images.shape[1:])}, those of train {tuple(data.train.shape[1:])}"
            raise ValueError(f"{where} the images have the shape {shapes}; all parts must have one shape")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"{where} expected {len(images)} labels of int64, one an image, found {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )


def _check_fit(zoo: Zoo, data: ImageData) -> None:
    """The networks take such images, and have an output for each class."""
    name, architecture = zoo.to_contents().name, architecture_of(zoo)
    networks = f"the networks of zoo {name!r} (architecture {architecture!r})"
    channels, height, width = data.train.shape[1:]
    named = architecture is not None and architecture == zoo.layout.architecture
    wanted = zoo.layout.tensors[0].shape[1] if named else channels
    if channels != wanted:
        raise ValueError(
            f"images {data.name!r} have {channels} channels, but {networks} take {wanted}; give images with "
            f"{wanted} channel{'s' * (wanted > 1)}"
        )
    compute = _networks_of(zoo)
    try:
        with torch.inference_mode():
            n_classes = compute(data.train[:1].cpu()).shape[-1]
    except RuntimeError as error:
        side = _side_of(zoo, architecture)
        take = f"take {side} x {side}; resize them" if side else "cannot compute them"
        reason = str(error).partition("\n")[0]
        found = f"images {data.name!r} are {height} x {width} pixels"
        raise ValueError(f"{found}, but {networks} {take} ({reason})") from None
    for part in PARTS:
        labels = getattr(data, f"{part}_labels")
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= n_classes:
            raise ValueError(
                f"images {data.name!r} have labels from {least} to {most}, but {networks} tell {n_classes} classes "
                f"apart, 0 to {n_classes - 1}; give images of those classes"
            )


def _networks_of(zoo: Zoo) -> Callable[[torch.Tensor], torch.Tensor]:
    """What computes logits as the zoo's networks do, with other numbers perhaps."""
    if is_chain(architecture_of(zoo)):
        # Their activation need not be known here.
        chain, vector = Chain(zoo.layout, "relu"), torch.zeros(1, zoo.layout.n_weights)
        return lambda images: chain.logits(vector, images[None])[0]
    return network_at(zoo, 0, "relu")


def _side_of(zoo: Zoo, architecture: str | None) -> int | None:
    """Pixels of a side of the images that networks of the architecture are trained on, if that is known."""
    if architecture is None:
        return None
    dataset = _origin(zoo).get("dataset")
    if dataset in IMAGE_SETS:
        return IMAGE_SETS[dataset].setting(architecture).size
    sizes = [images.settings[architecture].size for images in IMAGE_SETS.values() if architecture in images.settings]
    return sizes[0] if sizes else None
