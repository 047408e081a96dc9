"""How diverse the models of a zoo are, epoch by epoch: performance, predictions, weights and representations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from tqdm import tqdm

from zoobench.benchmark.similarity import Spread, agreement, draw_pairs, linear_cka, spread_of, weight_distances
from zoobench.selection import largest_weights
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData

#: What can be measured, in the order of the table.
MEASURES = ("accuracy", "agreement", "distance", "cka")

#: Values of representations that are held at once: 64 MB.
_VALUES = 16_000_000


def analyze_zoo(
    zoo: Zoo,
    *,
    images: str | ImageData | None = None,
    measures: Sequence[str] = MEASURES,
    n_pairs: int = 200,
    n_images: int = 500,
    device: str = "auto",
    random_state: int | np.random.RandomState | None = 0,
) -> pd.DataFrame:
    """Measures of the diversity of a zoo's models, one row an epoch.

    They are those by which "Model Zoos" describes its populations [1]_: how performance spreads, how often models
    predict the same, how far apart their weights lie, and how alike their representations are.

    Parameters
    ----------
    zoo : Zoo
        Any zoo; ``select`` chooses models and epochs.
    images : str or ImageData, optional
        What the models look at: the name of an image set, or image data of your own, of which the test part is taken.
        Default: the images that the zoo was trained on.
    measures : sequence of {"accuracy", "agreement", "distance", "cka"}
        What to compute, all by default. ``["distance"]`` alone needs no images.
    n_pairs : int, default=200
        Pairs of models that CKA is computed of, drawn at random; all where there are no more. The other measures are
        of all pairs.
    n_images : int, default=500
        Test images that CKA is computed on, drawn at random; all where there are no more. The other measures are on
        all test images.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where networks are computed.
    random_state : int, RandomState instance or None, default=0
        Draws pairs and images, once for all epochs: those with the same number of models have the same pairs.

    Returns
    -------
    DataFrame
        Index ``epoch``; columns ``n_models`` and, of the chosen measures,

        - ``accuracy_mean``, ``accuracy_std``, ``accuracy_min``, ``accuracy_max``: test accuracy, from 0 to 1;
        - ``agreement_mean``, ``agreement_std``: share of images for which two models predict the same class;
        - ``l2_mean``, ``l2_std``: Euclidean distance of two models' parameters, by the mean norm of all models';
        - ``cosine_mean``, ``cosine_std``: 1 minus the cosine of the angle between two models' parameters;
        - ``cka_mean``, ``cka_std``, ``cka_pairs``: linear centred kernel alignment of what two models' last linear
          layers read, and the number of pairs that have one: a model that represents all images alike has none.

        Standard deviations are those of the population of models or pairs. NaN where an epoch has a single model.

    Raises
    ------
    ValueError
        For an unknown measure, numbers that are too small, images that do not fit, weights that are not finite, or a
        zoo that does not tell its images or activations where they are needed.

    Notes
    -----
    Distances count weights and biases, not running statistics of normalisations. Networks compute the same function
    with their units in another order: distances say how far apart the vectors are, not the functions.

    Time grows with the square of the number of models, memory does not.

    References
    ----------
    .. [1] Schürholt, K., Taskiran, D., Knyazev, B., Giró-i-Nieto, X. and Borth, D., "Model Zoos: A Dataset of Diverse
       Populations of Neural Network Models", NeurIPS 2022.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.benchmark import analyze_zoo
    >>> table = analyze_zoo(fetch_zoo("digits_cnn_s"), measures=["distance"])
    >>> table["l2_mean"].round(2).to_dict()
    {5: 0.81, 25: 1.15, 50: 1.26}
    """
    _check(zoo, measures, n_pairs, n_images)
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    looks = any(measure in measures for measure in ("accuracy", "agreement", "cka"))
    data = _images_of(zoo, images) if looks else None
    rows = {}
    epochs = np.unique(zoo.properties["epoch"]).tolist()
    for epoch in tqdm(epochs, desc="analyze", unit="epoch", disable=None):
        part = zoo.select(epochs=[epoch], drop_nan=False)
        row: dict[str, float] = {"n_models": len(part.properties)}
        if "accuracy" in measures or "agreement" in measures:
            row |= _of_predictions(part, data, measures, device)
        if "distance" in measures:
            counts = part.layout.mask(roles=[t.role for t in part.layout.tensors if not t.is_buffer])
            l2, cosine = weight_distances(part.to_contents().weights, counts)
            row |= {**_columns("l2", l2), **_columns("cosine", cosine)}
        if "cka" in measures:
            of_pairs = spread_of(_cka(part, data, n_pairs, n_images, device, seed))
            row |= {**_columns("cka", of_pairs), "cka_pairs": of_pairs.n}
        rows[epoch] = row
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("epoch")
    counted = [name for name in ("n_models", "cka_pairs") if name in table]
    return table.astype(dict.fromkeys(counted, np.int64))


def _check(zoo: Any, measures: Sequence[str], n_pairs: Any, n_images: Any) -> None:
    if not isinstance(zoo, Zoo):
        remedy = f"; fetch it first, as in fetch_zoo({zoo!r})" if isinstance(zoo, str) else ""
        raise ValueError(f"zoo must be a Zoo, not {zoo!r}{remedy}")
    if isinstance(measures, str) or not len(measures):
        raise ValueError(f"measures must be a list of some of {', '.join(MEASURES)}, not {measures!r}")
    for measure in measures:
        if measure not in MEASURES:
            raise ValueError(f"measure {measure!r} is unknown; there are {', '.join(MEASURES)}")
    for name, value, least in (("n_pairs", n_pairs, 1), ("n_images", n_images, 2)):
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")
    contents = zoo.to_contents()
    peaks = largest_weights(contents.weights, zoo.layout) if contents.peaks is None else contents.peaks
    wrong = np.flatnonzero(~np.isfinite(peaks))
    if len(wrong):
        raise ValueError(
            f"{len(wrong)} states of {zoo!r} have weights that are NaN or infinite, the first in row {wrong[0]}; leave "
            "such states out by zoo.select()"
        )


def _images_of(zoo: Zoo, images: str | ImageData | None) -> ImageData:
    from zoobench.generators.image_fit import images_of

    return images_of(zoo, images)


def _of_predictions(zoo: Zoo, data: Any, measures: Sequence[str], device: str) -> dict[str, float]:
    from zoobench.generators.evaluation import evaluate

    found = evaluate(zoo, images=data, predictions="agreement" in measures, device=device)
    row: dict[str, float] = {}
    if "accuracy" in measures:
        accuracy = found.frame["accuracy"].to_numpy()
        row |= _columns("accuracy", spread_of(accuracy))
        row |= {"accuracy_min": float(accuracy.min()), "accuracy_max": float(accuracy.max())}
    if "agreement" in measures:
        row |= _columns("agreement", agreement(found.predictions))
    return row


def _cka(zoo: Zoo, data: Any, n_pairs: int, n_images: int, device: str, seed: int) -> np.ndarray:
    """CKA of some pairs of the zoo's models, in blocks whose representations fit into memory."""
    from zoobench.generators.activations import last_hidden
    from zoobench.generators.devices import resolve_device

    device = resolve_device(device)
    rng = np.random.RandomState(seed)
    images = data.test
    if len(images) > n_images:
        images = images[np.sort(rng.permutation(len(images))[:n_images])]
    pairs = draw_pairs(len(zoo.properties), n_pairs, rng)
    if not len(pairs):
        return np.empty(0)
    size = last_hidden(zoo, images[:1], [0], device=device).shape[2] * len(images)
    at_once = max(1, _VALUES // (2 * size))
    found = []
    for start in range(0, len(pairs), at_once):
        block = pairs[start : start + at_once]
        rows, place = np.unique(block, return_inverse=True)
        values = last_hidden(zoo, images, rows, device=device)
        first, second = place.reshape(block.shape).T
        # One pair at a time: the products of wide layers are larger than the layers.
        found += [linear_cka(values[i : i + 1], values[j : j + 1]) for i, j in zip(first, second, strict=True)]
    return np.concatenate(found)


def _columns(name: str, spread: Spread) -> dict[str, float]:
    return {f"{name}_mean": spread.mean, f"{name}_std": spread.std}
