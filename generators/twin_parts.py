"""Finished chunks of a zoo of twins that is being trained, on disk, so that what was trained is not lost."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.generators.twin_networks import TwinChunk
from zoobench.generators.twin_training import TrainedTwins

#: Part of every finished chunk's fingerprint. To be raised when the same settings come to give other twins.
_VERSION = 1


class TwinParts:
    """The finished chunks of a run.

    Parameters
    ----------
    folder : Path
        Where they are.
    settings : dict
        Of the run.
    device : str
        Where it trains: other devices' chunks are not gone on with.
    code : str or None
        Of a registered architecture, what tells its networks from those of another.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], device: str, code: str | None) -> None:
        self.folder = folder
        self._plain = {"version": _VERSION, "settings": settings, "device": device.partition(":")[0]}
        if code is not None:
            self._plain["code"] = code

    def write(self, chunk: TwinChunk, trained: TrainedTwins) -> None:
        """Keep a finished chunk: whole, or not at all."""
        handle, scratch = tempfile.mkstemp(dir=self.folder, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, weights=trained.weights, metrics=trained.metrics)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self._path(chunk))
        except BaseException:
            with suppress(OSError):
                os.unlink(scratch)
            raise

    def has(self, chunk: TwinChunk) -> bool:
        """Whether a chunk is finished, and its file whole."""
        return self._read(chunk) is not None

    def read(self, chunk: TwinChunk) -> TrainedTwins:
        """A finished chunk."""
        trained = self._read(chunk)
        if trained is None:
            raise RuntimeError(f"trained models are no longer in {self.folder}; run the same command again")
        return trained

    def _read(self, chunk: TwinChunk) -> TrainedTwins | None:
        try:
            with np.load(self._path(chunk), allow_pickle=False) as file:
                return TrainedTwins(file["weights"], file["metrics"])
        except Exception:  # A damaged archive raises whatever its damage leads to; the remedy is the same.
            return None

    def _path(self, chunk: TwinChunk) -> Path:
        """The file of a chunk, named by everything that its twins depend on."""
        plain = {
            **self._plain,
            "names": chunk.names,
            "shared": chunk.shared,
            "own": chunk.own,
            "weights": hashlib.blake2b(chunk.weights.tobytes()).hexdigest(),
        }
        digest = hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16)
        return self.folder / f"{digest.hexdigest()}.npz"
