"""Finished models of a zoo that is being trained, on disk, so that what was trained is not lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.store import is_zoo, read_index

if TYPE_CHECKING:
    from zoobench.generators.training import TrainedModel

#: Folder, inside the zoo's own, of the models that are finished while others are not.
PARTS = ".models"

#: The zoo's weights, in its folder, while they are put together: a large zoo does not fit into memory.
ASSEMBLING = ".assembling"

#: Says, in the folder of a zoo whose models are all being trained anew, which zoo that is.
_REPLACING = ".replacing"

#: Part of every finished model's fingerprint. To be raised when the same settings come to train another model.
_TRAINING_VERSION = 2


@contextmanager
def training_into(folder: Path) -> Iterator[None]:
    """The folder, made if needed and kept from other processes that would train into it."""
    from filelock import FileLock, Timeout

    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and a zoo is a folder; choose another path")
    # Asked before the training, not after it.
    others = [] if is_zoo(folder) or not folder.exists() else [f.name for f in folder.iterdir() if f.name[0] != "."]
    if others:
        raise FileExistsError(
            f"{folder} holds {others[0]!r} and is no zoo; choose a folder that is new, empty or a zoo"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".training.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"another process is training into {folder}; wait for it or choose another folder") from None
    try:
        yield
    finally:
        lock.release()


def begin_anew(folder: Path) -> None:
    """Drop what is finished, and note that the folder's zoo, if there is one, is no result of the run that begins."""
    if is_zoo(folder):
        # First of all: whatever comes after it, a run that goes on must not take the old zoo for the new one.
        (folder / _REPLACING).write_text(read_index(folder)["checksum"], encoding="ascii")
    shutil.rmtree(folder / PARTS, ignore_errors=True)


def is_finished(folder: Path) -> bool:
    """Whether the folder's zoo is there, and not the old one of a run that was to replace it and was interrupted."""
    if not is_zoo(folder):
        return False
    marker = folder / _REPLACING
    return not marker.is_file() or marker.read_text(encoding="ascii") != read_index(folder)["checksum"]


def clear_up(folder: Path) -> None:
    """Delete what a run needs only as long as it has not ended."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    for name in (ASSEMBLING, _REPLACING):
        (folder / name).unlink(missing_ok=True)


def write_part(parts: Path, recipe: Recipe, model: ModelSettings, trained: TrainedModel, engine: str) -> None:
    """Keep a finished model: whole, or not at all."""
    handle, scratch = tempfile.mkstemp(dir=parts, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(
                file,
                weights=trained.weights,
                metrics=trained.metrics,
                fingerprint=np.array(_fingerprint(recipe, model, engine)),
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, part_path(parts, model))
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise


def read_part(parts: Path, recipe: Recipe, model: ModelSettings, engine: str) -> TrainedModel | None:
    """A finished model, or None if there is none, or one of other settings or engine, or a damaged one."""
    from zoobench.generators.training import METRICS, TrainedModel

    try:
        with np.load(part_path(parts, model), allow_pickle=False) as file:
            weights, metrics, fingerprint = file["weights"], file["metrics"], str(file["fingerprint"])
    except Exception:  # A damaged archive raises whatever its damage leads to; the remedy is the same.
        return None
    n_checkpoints = len(recipe.epochs)
    if (
        fingerprint != _fingerprint(recipe, model, engine)
        or weights.shape != (n_checkpoints, recipe.layout.n_weights)
        or weights.dtype != np.float32
        or metrics.shape != (n_checkpoints, len(METRICS))
    ):
        return None
    return TrainedModel(weights, metrics)


def part_path(parts: Path, model: ModelSettings) -> Path:
    """The file of a model."""
    return parts / f"{hashlib.blake2b(model.name.encode(), digest_size=16).hexdigest()}.npz"


def _fingerprint(recipe: Recipe, model: ModelSettings, engine: str) -> str:
    """Everything that a model depends on. Not the rest of the recipe: a grid may grow between two runs."""
    settings: dict[str, Any] = {
        "version": _TRAINING_VERSION,
        "engine": engine,  # whose results differ in the last bits
        "dataset": recipe.dataset,
        "architecture": recipe.architecture,
        "batch_size": recipe.batch_size,
        "epochs": recipe.epochs,
        "hyperparameters": model.hyperparameters,
        "seed": model.seed,
    }
    if recipe.training_values(model)["schedule"] != "constant":
        settings["n_epochs"] = recipe.n_epochs  # over which the schedule is spread
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()
