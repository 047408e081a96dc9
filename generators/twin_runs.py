"""The training of all chunks of a zoo of twins, in this process or in others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from zoobench.generators.image_fit import PARTS
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.parallel import resolve_jobs, unordered
from zoobench.generators.progress import Progress
from zoobench.generators.pruning import MagnitudePruning
from zoobench.generators.registration import (
    RegisteredArchitecture,
    architecture_code,
    registered,
    restore_architecture,
)
from zoobench.generators.training import TrainedModel
from zoobench.generators.twin_modules import ModuleNetwork
from zoobench.generators.twin_networks import TwinChunk, TwinNetwork
from zoobench.generators.twin_parts import TwinParts
from zoobench.generators.twin_training import Sparsifier, TrainedTwins, Watch, network_of, train_twins
from zoobench.generators.twin_zoo import twin_name
from zoobench.generators.variational import VariationalDropout


class TwinRun:
    """The chunks of a zoo of twins, and what they are trained with.

    Parameters
    ----------
    chunks : list of TwinChunk
        All models, of one architecture.
    settings : dict
        Of the run: see :func:`zoobench.generators.twin_zoo.settings_of`.
    images : ImageData
        What to train on and to evaluate.
    device : str
        Where to train.
    by_name : bool
        Whether other processes may load the images by their name, in place of getting them.
    """

    def __init__(
        self, chunks: list[TwinChunk], settings: dict[str, Any], images: ImageData, device: str, *, by_name: bool
    ) -> None:
        self.chunks, self.settings, self.images, self.device = chunks, settings, images, device
        self._by_name = by_name

    def check(self) -> None:
        """Refuse networks that cannot be sparsified, before any is."""
        first = self.chunks[0]
        if first.is_chain:
            return
        with_noise = self.settings["method"] == "variational_dropout"
        for batch_size in sorted({chunk.shared["batch_size"] for chunk in self.chunks}):
            ModuleNetwork(first, 0, self.device).check(self.images.train, batch_size, with_noise=with_noise)

    def parts(self, folder: Path) -> TwinParts:
        """The finished chunks in a folder."""
        return TwinParts(folder, self.settings, self.device, self.code)

    @property
    def code(self) -> str | None:
        """Digest of the code of the models' architecture, where a user has registered it."""
        origin = self.chunks[0].origin
        if not origin:
            return None
        images = find_image_set(origin["dataset"])
        channels = images.setting(origin["architecture"]).channels
        return architecture_code(origin["architecture"], channels=channels, n_classes=images.n_classes)

    def train(self, numbers: Sequence[int], n_jobs: int | None) -> Iterator[tuple[int, TrainedTwins]]:
        """Number and result of some of the chunks, in the order in which they are finished."""
        n_finished = _n_models(self.chunks) - _n_models([self.chunks[number] for number in numbers])
        plan = _Plan(twin_name(self.settings), _n_models(self.chunks), self.settings["epochs"])
        jobs = resolve_jobs(n_jobs)
        with Progress(plan, n_finished) as progress:
            if jobs == 1:
                results: Iterator[tuple[int, TrainedTwins]] = (
                    _train_chunk(number, self.chunks[number], self.settings, self.images, self.device, progress.watch)
                    for number in numbers
                )
            else:
                results = unordered(_train_elsewhere, self._calls(numbers, progress), jobs)
            for number, twins in results:
                names = list(dict.fromkeys(self.chunks[number].names))
                models = [TrainedModel(twins.weights[i], twins.metrics[i, :, :-1]) for i in range(len(names))]
                sparsity = float(np.median(twins.metrics[: len(names), -1, -1]))
                progress.finished(models, first=names[0], sparsity=sparsity)
                yield number, twins

    def _calls(self, numbers: Sequence[int], progress: Progress) -> list[tuple[Any, ...]]:
        """What :func:`_train_elsewhere` is called with."""
        images = SentImages.of(self.images, self.chunks[0].architecture, by_name=self._by_name)
        architecture = registered(self.chunks[0].architecture)
        return [
            (
                architecture,
                number,
                self.chunks[number],
                self.settings,
                images,
                self.device,
                progress.reporter([_Twin(name) for name in self.chunks[number].names]),
            )
            for number in numbers
        ]


class _Plan(NamedTuple):
    name: str
    n_models: int
    epochs: Sequence[int]


class _Twin(NamedTuple):
    name: str


def _n_models(chunks: Sequence[TwinChunk]) -> int:
    return sum(len(set(chunk.names)) for chunk in chunks)


def _train_chunk(
    number: int,
    chunk: TwinChunk,
    settings: dict[str, Any],
    images: ImageData,
    device: str,
    watch: Watch | None = None,
) -> tuple[int, TrainedTwins]:
    network = network_of(chunk, settings["random_state"], device)
    return number, train_twins(
        chunk,
        _sparsifier(network, settings),
        images,
        epochs=settings["epochs"],
        random_state=settings["random_state"],
        device=device,
        watch=watch,
    )


def _sparsifier(network: TwinNetwork, settings: dict[str, Any]) -> Sparsifier:
    n_epochs = settings["n_epochs"]
    if settings["method"] == "magnitude":
        return MagnitudePruning(network, sparsity=settings["sparsity"], n_epochs=n_epochs)
    kl_weight, variant = settings["kl_weight"], settings["variant"]
    return VariationalDropout(network, kl_weight=kl_weight, n_epochs=n_epochs, variant=variant)


# -- other processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentImages:
    """Image data as other processes get it: a name, or arrays, which joblib maps into memory where it can.

    Attributes
    ----------
    name, architecture : str
        What to load where there are no arrays.
    arrays : mapping of str to ndarray, or None
        The tensors of an :class:`ImageData` that no name stands for.
    augmentation, black
        Its other fields.
    """

    name: str
    architecture: str
    arrays: Mapping[str, np.ndarray] | None
    augmentation: str | None
    black: tuple[float, ...]

    @classmethod
    def of(cls, data: ImageData, architecture: str, *, by_name: bool) -> SentImages:
        """What to send in place of image data."""
        arrays = {name: getattr(data, name).cpu().numpy() for part in PARTS for name in (part, f"{part}_labels")}
        return cls(data.name, architecture, None if by_name else arrays, data.augmentation, data.black)

    def load(self) -> ImageData:
        """The image data."""
        if self.arrays is None:
            return _images(self.name, self.architecture)
        tensors = {name: torch.from_numpy(np.array(values)) for name, values in self.arrays.items()}
        return ImageData(self.name, **tensors, augmentation=self.augmentation, black=self.black)


@lru_cache(maxsize=2)
def _images(name: str, architecture: str) -> ImageData:
    """Loaded once a process, not sent to it with every chunk."""
    return load_images(name, architecture)


def _train_elsewhere(
    architecture: RegisteredArchitecture | None,
    number: int,
    chunk: TwinChunk,
    settings: dict[str, Any],
    images: SentImages,
    device: str,
    watch: Watch | None,
) -> tuple[int, TrainedTwins]:
    restore_architecture(chunk.architecture, architecture)
    return _train_chunk(number, chunk, settings, images.load(), device, watch)
