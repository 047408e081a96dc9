"""Loss, accuracy and predictions of many states of a zoo at once, on any image data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from zoobench.generators.chains import Chain, is_chain, losses_and_hits
from zoobench.generators.devices import resolve_device
from zoobench.generators.image_fit import PARTS, architecture_of, check_is_zoo, images_of, network_at
from zoobench.generators.images import ImageData
from zoobench.generators.recipe_checks import check_count
from zoobench.zoo import Zoo

#: Computes images (float64) again, with one of the states of a call.
Again = Callable[[int, torch.Tensor], torch.Tensor]

#: Logits that differ by less than this share of the largest are not told apart by float32.
_CLOSE = 1e-5

#: Images of all states of a call together. On the CPU one state fills the caches; CUDA wants many.
_IMAGES_A_CALL = {"cpu": 400, "cuda": 50_000}


def evaluate(
    zoo: Zoo,
    *,
    images: str | ImageData | None = None,
    part: str = "test",
    predictions: bool = False,
    device: str = "auto",
    batch_size: int = 500,
) -> Bunch:
    """Loss and accuracy of every state of a zoo.

    Many states are evaluated together. Networks that are no chain of layers, which are ResNet-18 and architectures of
    your own, are evaluated one by one.

    Parameters
    ----------
    zoo : Zoo
        Any states; each row's ``activation`` has to be known.
    images : str or ImageData, optional
        Name of an image set, or image data of your own. Default: the images that the zoo was trained on, where its
        recipe or its card tells.
    part : {"train", "val", "test"}, default="test"
        Part of the images.
    predictions : bool, default=False
        Also return the class that each state predicts for each image.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where to evaluate. ``"auto"`` is CUDA where there is any.
    batch_size : int, default=500
        Images at a time. It changes memory and speed, and results by rounding at most.

    Returns
    -------
    Bunch
        ``frame``: DataFrame with a row a state, in the zoo's order, and the columns ``model``, ``epoch``, ``loss``
        (mean negative log-likelihood) and ``accuracy`` (from 0 to 1). ``predictions``: ndarray of shape
        (n_states, n_images), int64, or None. ``labels``: ndarray of shape (n_images,), int64.

    Raises
    ------
    ValueError
        For a name in place of a zoo; if the images, the part or the device are unknown; if the images have another
        number of channels, another size or more classes than the networks take, or are no float32 images with int64
        labels; if the zoo does not say which activation its models use, or, without ``images``, what it was trained on.

    Notes
    -----
    A state with weights that are not finite has a loss of NaN, and mostly the accuracy of always choosing class 0.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.generators import evaluate
    >>> zoo = fetch_zoo("digits_cnn_s", subset="test", epochs="last")
    >>> result = evaluate(zoo, part="val", predictions=True)
    >>> list(result.frame), result.predictions.shape == (len(zoo.data), 300)
    (['model', 'epoch', 'loss', 'accuracy'], True)
    >>> bool(abs(result.frame["accuracy"] - zoo.properties["val_acc"]).max() < 1e-6)
    True
    """
    check_is_zoo(zoo)
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    check_count("batch_size", batch_size, least=1)
    device = resolve_device(device)
    data = images_of(zoo, images)
    inputs, labels = getattr(data, part).to(device), getattr(data, f"{part}_labels").to(device)
    n_states, n_images = len(zoo.properties), len(labels)
    loss, right = np.zeros(n_states), np.zeros(n_states, dtype=np.int64)
    predicted = np.zeros((n_states, n_images), dtype=np.int64) if predictions else None
    with torch.inference_mode():
        for rows, start, logits, again in _logits(zoo, inputs, device, batch_size):
            these = slice(start, start + logits.shape[1])
            wanted = labels[these].expand(len(rows), -1)
            chosen = _choices(logits, inputs[these], again)
            loss[rows] += losses_and_hits(logits, wanted)[0].double().sum(1).cpu().numpy()
            right[rows] += (chosen == wanted).sum(1).cpu().numpy()
            if predicted is not None:
                predicted[rows, these] = chosen.cpu().numpy()
    frame = zoo.properties[["model", "epoch"]].assign(loss=loss / n_images, accuracy=right / n_images)
    return Bunch(frame=frame, predictions=predicted, labels=labels.cpu().numpy())


def single_value(zoo: Zoo, name: str) -> Any:
    """The value of a hyper-parameter that the zoo's card gives to all models; None where it does not."""
    values = (zoo.card.get("grid") or {}).get(name, ())
    return values[0] if len(values) == 1 else None


def _choices(logits: torch.Tensor, inputs: torch.Tensor, again: Again) -> torch.Tensor:
    """The class that each state chooses for each image. Which of two is larger by less than float32 tells is computed
    again in float64: it must not depend on the batch, the machine or the order of a sum.
    """
    chosen = logits.argmax(2)
    first, second = logits.topk(2, dim=2).values.unbind(2)
    close = first - second <= _CLOSE * logits.abs().amax(2)
    for row in close.any(1).nonzero().flatten().tolist():
        # A network of one's own may not compute in double precision; then single precision decides.
        with suppress(RuntimeError):
            chosen[row, close[row]] = again(row, inputs[close[row]].double()).argmax(1)
    return chosen


def _logits(
    zoo: Zoo, inputs: torch.Tensor, device: str, batch_size: int
) -> Iterator[tuple[np.ndarray, int, torch.Tensor, Again]]:
    """Rows, number of the first image, logits (n_rows, n_images, n_classes), and what computes some of them again."""
    if not is_chain(architecture_of(zoo)):
        for activation, rows in rows_by_activation(zoo).items():
            for i in rows:
                module = network_at(zoo, i, activation).to(device)
                for start in range(0, len(inputs), batch_size):
                    logits = module(inputs[start : start + batch_size])[None]
                    yield np.array([i]), start, logits, partial(_again, module)
        return
    weights = zoo.to_contents().weights
    batch_size = min(batch_size, len(inputs))
    n_together = max(1, _IMAGES_A_CALL[torch.device(device).type] // batch_size)
    for activation, of_activation in rows_by_activation(zoo).items():
        chain = Chain(zoo.layout, activation)
        for first in range(0, len(of_activation), n_together):
            rows = of_activation[first : first + n_together]
            vectors = torch.from_numpy(np.array(weights[rows], dtype=np.float32)).to(device)
            for start in range(0, len(inputs), batch_size):
                logits = chain.logits(vectors, inputs[None, start : start + batch_size])
                yield rows, start, logits, partial(_one_of, chain, vectors)


def _again(module: torch.nn.Module, row: int, inputs: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = deepcopy(module).double()(inputs)
    return logits


def _one_of(chain: Chain, vectors: torch.Tensor, row: int, inputs: torch.Tensor) -> torch.Tensor:
    return chain.logits(vectors[row : row + 1].double(), inputs[None])[0]


def rows_by_activation(zoo: Zoo) -> dict[str, np.ndarray]:
    """Rows of each activation; of all, where only the card tells it."""
    if "activation" in zoo.properties:
        column = zoo.properties["activation"]
        if not column.isna().any():
            return {str(value): np.flatnonzero(column == value) for value in column.unique()}
    elif (value := single_value(zoo, "activation")) is not None:
        return {str(value): np.arange(len(zoo.properties))}
    raise ValueError(
        f"zoo {zoo.to_contents().name!r} does not say which activation its models use, and without it a network cannot "
        "be computed"
    )
