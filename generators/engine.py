"""Training of many models at once on the CPU, by compiled code: the same models as the plain loop's, up to rounding.

The engine computes on vectors in which each lane belongs to one model. Lanes never meet, so that a model's bits do not
depend on its neighbours, nor on its place among them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.generators.architectures import FOLLOWERS, STRIDES, first_unit
from zoobench.generators.compiling import load_library
from zoobench.generators.dropout import DropoutMasks, dropout_scale, dropout_threshold
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.images import ImageData
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.generators.registration import layout_of
from zoobench.generators.training import TrainedModel, Watch, batch_orders, initial_weights, rates_of, stream_seed
from zoobench.layout import WeightLayout

#: In the engine's own order.
_ACTIVATIONS = ("tanh", "sigmoid", "relu", "gelu")
_ALL, _LARGEST, _FIRST = range(3)

#: Images of each model that one call trains on: short enough for Ctrl-C to be heard within a second or so.
_IMAGES_A_CALL = 2000


@dataclass(frozen=True)
class _Part:
    """Images and labels as the engine reads them."""

    images: np.ndarray  # float32, one image after the other
    labels: np.ndarray  # int32

    def __len__(self) -> int:
        return len(self.labels)


def can_train(recipe: Recipe) -> bool:
    """Whether the engine knows the recipe's architecture, and the images are trained on as they are."""
    augmentation = find_image_set(recipe.dataset).setting(recipe.architecture).augmentation
    return recipe.architecture in FOLLOWERS and augmentation is None


def train_models(
    recipe: Recipe, models: Sequence[ModelSettings], images: ImageData, watch: Watch | None = None
) -> list[TrainedModel]:
    """Train models of a recipe side by side.

    Parameters
    ----------
    recipe : Recipe
        One that :func:`can_train` admits.
    models : sequence of ModelSettings
        Some of ``recipe.models()``, all with one activation. Any number; of each batch size, a multiple of the
        engine's lanes (up to 16) makes the best use of it.
    images : ImageData
        The recipe's images.
    watch : callable, optional
        Called after each epoch: see :data:`zoobench.generators.training.Watch`.

    Returns
    -------
    list of TrainedModel
        In the order of the models; what :func:`train_model` gives, up to rounding.

    Raises
    ------
    NoEngineError
        If the engine cannot be had on this machine.
    ValueError
        If the activations differ.
    MemoryError
        If there is no room for the engine's working memory.
    """
    if len({model.hyperparameters["activation"] for model in models}) > 1:
        raise ValueError("models that are trained side by side must have one activation")
    library = load_library()
    n_lanes: int = library.zoobench_lanes()
    by_batch_size: dict[int, list[int]] = {}
    for place, model in enumerate(models):
        by_batch_size.setdefault(recipe.training_values(model)["batch_size"], []).append(place)
    trained: dict[int, TrainedModel] = {}
    for batch_size, places in by_batch_size.items():
        for start in range(0, len(places), n_lanes):
            group = places[start : start + n_lanes]
            of_group = _Group(library, n_lanes, recipe, [models[place] for place in group], images, batch_size)
            trained |= zip(group, of_group.train(watch), strict=True)
    return [trained[place] for place in range(len(models))]


class _Group:
    """As many models of one batch size as the engine has lanes; those that are left over hold zeros and go nowhere."""

    def __init__(
        self,
        library: ctypes.CDLL,
        n_lanes: int,
        recipe: Recipe,
        models: Sequence[ModelSettings],
        images: ImageData,
        batch_size: int,
    ) -> None:
        self.library, self.n_lanes, self.recipe, self.models = library, n_lanes, recipe, models
        self.batch_size = batch_size
        self.parts = {
            part: _Part(
                np.ascontiguousarray(getattr(images, part).numpy(), dtype=np.float32),
                np.ascontiguousarray(getattr(images, f"{part}_labels").numpy(), dtype=np.int32),
            )
            for part in ("train", "val", "test")
        }
        layout = layout_of(recipe.architecture, channels=images.channels, n_classes=recipe.n_classes)
        self.table = _table(recipe.architecture, layout, images.train.shape[1:])
        self.n_weights = layout.n_weights
        self.weights, self.first, self.second, self.gradient = (_aligned(self.n_weights, n_lanes) for _ in range(4))
        for lane, model in enumerate(models):
            self.weights[:, lane] = initial_weights(recipe, model, images.channels)
        self.lanes = _lanes(models, n_lanes)
        self.rates = [rates_of(recipe, model, len(images.train_labels)) for model in models]
        self.activation = _ACTIVATIONS.index(models[0].hyperparameters["activation"])
        self.n_seen = self.n_steps = 0

    def train(self, watch: Watch | None) -> list[TrainedModel]:
        """All epochs of all models."""
        n_models, n_images = len(self.models), len(self.parts["train"])
        orders = [batch_orders(model, n_images) for model in self.models]
        running = np.full((2, self.n_lanes), np.nan)
        finite = np.arange(self.n_lanes) < n_models
        checkpoints: list[np.ndarray] = []
        metrics: list[np.ndarray] = []
        for epoch in range(self.recipe.epochs[-1] + 1):
            if epoch and finite.any():
                order = np.zeros((n_images, self.n_lanes), dtype=np.int32)
                for lane, of_model in enumerate(orders):
                    order[:, lane] = next(of_model).numpy()
                before = self.weights.copy()
                running[:, finite] = self._train_epoch(order)[:, finite]
                # A model that has diverged stays as it was.
                self.weights[:, ~finite] = before[:, ~finite]
                finite &= np.isfinite(self.weights).all(axis=0)
            if epoch in self.recipe.epochs:
                if epoch == 0:
                    running = self._evaluate("train")
                checkpoints.append(self.weights[:, :n_models].T.copy())
                metrics.append(np.concatenate([running, self._evaluate("val"), self._evaluate("test")])[:, :n_models])
            if watch is not None:
                watch(n_models, epoch, float(np.median(metrics[-1][-1])) if metrics else float("nan"))
        weights, measured = np.stack(checkpoints, axis=1), np.stack(metrics).transpose(2, 0, 1)
        return [TrainedModel(weights[i], np.ascontiguousarray(measured[i])) for i in range(n_models)]

    def _train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Running means of loss and accuracy of each lane."""
        batch_size, part = self.batch_size, self.parts["train"]
        loss, right = np.zeros(self.n_lanes), np.zeros(self.n_lanes, dtype=np.int64)
        stride = max(1, _IMAGES_A_CALL // batch_size) * batch_size
        for start in range(0, len(order), stride):
            piece = order[start : start + stride]
            n_steps = -(-len(piece) // batch_size)
            lr, momentum = self._rates(range(self.n_steps, self.n_steps + n_steps))
            failed = self.library.zoobench_train(
                *self._network(),
                ctypes.c_int(self.n_weights),
                *map(_pointer, (self.weights, self.first, self.second, self.gradient, self.lanes, lr, momentum)),
                *map(_pointer, (part.images, part.labels, piece)),
                ctypes.c_int(len(piece)),
                ctypes.c_int(batch_size),
                ctypes.c_uint32(self.n_seen % 2**32),
                ctypes.c_int64(self.n_steps),
                _pointer(loss),
                _pointer(right),
            )
            _check_memory(failed)
            self.n_seen += len(piece)
            self.n_steps += n_steps
        return np.stack([loss, right]) / len(order)

    def _rates(self, steps: range) -> np.ndarray:
        """Learning rate and momentum of each lane at some steps: an array of shape (2, n_steps, n_lanes)."""
        rates = np.zeros((2, len(steps), self.n_lanes))
        for lane, of_model in enumerate(self.rates):
            for kind, values in zip(rates, of_model, strict=True):
                kind[:, lane] = values[steps.start : steps.stop]
        return rates

    def _evaluate(self, name: str) -> np.ndarray:
        """Loss and accuracy of each lane on a part of the images."""
        part = self.parts[name]
        loss, right = np.zeros(self.n_lanes), np.zeros(self.n_lanes, dtype=np.int64)
        failed = self.library.zoobench_evaluate(
            *self._network(),
            *map(_pointer, (self.weights, part.images, part.labels)),
            ctypes.c_int(len(part)),
            _pointer(loss),
            _pointer(right),
        )
        _check_memory(failed)
        return np.stack([loss, right]) / len(part)

    def _network(self) -> tuple[ctypes.c_void_p, ctypes.c_int, ctypes.c_int]:
        return _pointer(self.table), ctypes.c_int(len(self.table)), ctypes.c_int(self.activation)


def _table(architecture: str, layout: WeightLayout, image: Sequence[int]) -> np.ndarray:
    """The network as the engine reads it: a row of numbers for each layer with what follows it."""
    channels, height, width = image
    stride = STRIDES.get(architecture, 1)
    rows: list[tuple[int, ...]] = []
    for number, (layer, followers) in enumerate(zip(layout.layers, FOLLOWERS[architecture], strict=True)):
        assert layer.weight is not None  # every layer of these networks has both
        assert layer.bias is not None
        n_out, kernel = layer.weight.shape[0], layer.weight.shape[2] if layer.kind == "conv2d" else 1
        if layer.kind == "linear":
            channels, height, width = channels * height * width, 1, 1
        shape = (channels, height, width, n_out, kernel)
        channels, height, width = n_out, height - kernel + 1, width - kernel + 1
        reduction = _ALL
        if "pool" in followers:
            reduction, height, width = _LARGEST, height // 2, width // 2
        elif layer.kind == "conv2d" and stride == 2:
            reduction, height, width = _FIRST, (height + 1) // 2, (width + 1) // 2
        averaged = "average" in followers
        if averaged:
            height = width = 1
        unit = first_unit(number) if "dropout" in followers else -1
        places = (layer.weight.start, layer.bias.start)
        rows.append((*shape, reduction, "activation" in followers, averaged, unit, *places))
    return np.array(rows, dtype=np.int32)


def _lanes(models: Sequence[ModelSettings], n_lanes: int) -> np.ndarray:
    """What differs from model to model, as the engine reads it."""
    fields = [("decoupled_decay", "f8"), ("decay", "f4"), ("sgd", "i4"), ("threshold", "i4"), ("scale", "f4")]
    lanes = np.zeros((), dtype=[*((name, kind, n_lanes) for name, kind in fields), ("key", "u4", (2, n_lanes))])
    lanes["scale"] = 1
    for lane, model in enumerate(models):
        values = model.hyperparameters
        lanes["decoupled_decay" if values["optimizer"] == "adamw" else "decay"][lane] = values["weight_decay"]
        lanes["sgd"][lane] = values["optimizer"] == "sgd"
        lanes["threshold"][lane] = dropout_threshold(values["dropout"])
        lanes["scale"][lane] = dropout_scale(values["dropout"])
        lanes["key"][:, lane] = DropoutMasks(stream_seed(model.seed, "dropout")).key
    return lanes


def _aligned(*shape: int) -> np.ndarray:
    """Zeros at an address that vectors may be read from."""
    size = int(np.prod(shape)) * 4
    room = np.zeros(size + 64, dtype=np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(np.float32).reshape(shape)


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _check_memory(failed: int) -> None:
    if failed:
        raise MemoryError("there is no room for the working memory of the engine")
