"""One matrix of weights in a safetensors file: written in blocks, read as a memory map."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoobench.errors import ZooFormatError

#: Blocks of this many bytes are written, hashed and read, so that no zoo needs to fit into memory.
BLOCK_BYTES = 1 << 24

#: The only key of the file.
_KEY = "weights"

#: Where the data starts in the files that are written here, whatever its shape: a multiple of 64, for aligned vector
#: loads from the memory map. The longest header takes a hundred bytes.
DATA_START = 128

#: No header of ours comes near; a larger one is damage or an attack on memory.
_MAX_HEADER = 1 << 16


def write_weights(path: Path, weights: np.ndarray) -> str:
    """Write a float32 matrix to a new safetensors file.

    Parameters
    ----------
    path : Path
        The file to write.
    weights : ndarray of shape (n_states, n_weights)
        May be a memory map: it is read in blocks.

    Returns
    -------
    str
        The sha256 of the file.
    """
    head = _head(weights.shape)
    digest = hashlib.sha256(head)
    with open(path, "wb") as file:
        file.write(head)
        for start, stop in blocks_of(weights):
            block: Any = np.ascontiguousarray(weights[start:stop], dtype="<f4").data
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


class SealedWeights(NamedTuple):
    """A weights file that is whole.

    Attributes
    ----------
    path : Path
        The file.
    sha256 : str
        Of the file.
    """

    path: Path
    sha256: str


class Seal:
    """Turns a file that has weights from :data:`DATA_START` on into a safetensors file, without another copy of them.

    What takes longest, the checksum, is computed in a thread of its own behind whoever writes the rows.

    Parameters
    ----------
    path : Path
        The file.
    weights : ndarray of shape (n_states, n_weights), float32
        A memory map of all of it behind the start.

    Attributes
    ----------
    n_taken : int
        Rows that are in the checksum already.
    """

    def __init__(self, path: Path, weights: np.ndarray) -> None:
        self._path = path
        self._weights = weights
        self._digest = hashlib.sha256(_head(weights.shape))
        self._step = max(1, BLOCK_BYTES // max(1, weights.shape[1] * 4))
        self.n_taken = 0
        self._pool = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None

    def fits(self, weights: np.ndarray) -> bool:
        """Whether it is these weights that are being sealed."""
        return self._weights.shape == weights.shape

    def complete(self, n_rows: int) -> None:
        """The rows before that one are written, and do not change any more."""
        while n_rows - self.n_taken >= self._step:
            self._take(self.n_taken + self._step)

    def finish(self) -> SealedWeights:
        """Write the header, when all rows are written."""
        self.complete(len(self._weights))
        if self.n_taken < len(self._weights):
            self._take(len(self._weights))
        with open(self._path, "r+b") as file:
            file.write(_head(self._weights.shape))
            file.flush()
            os.fsync(file.fileno())
        if self._hashing is not None:
            self._hashing.result()
        self._pool.shutdown()
        return SealedWeights(self._path, self._digest.hexdigest())

    def abandon(self) -> None:
        """Stop; the file stays without a header."""
        self._pool.shutdown(cancel_futures=True)

    def _take(self, stop: int) -> None:
        block = self._weights[self.n_taken : stop]
        self._hashing = self._pool.submit(self._digest.update, block.data)
        self.n_taken = stop


def blocks_of(weights: np.ndarray) -> Iterator[tuple[int, int]]:
    """First row and end of blocks of about :data:`BLOCK_BYTES`."""
    step = max(1, BLOCK_BYTES // max(1, weights.shape[1] * 4))
    for start in range(0, len(weights), step):
        yield start, start + step


def _head(shape: tuple[int, ...]) -> bytes:
    """What precedes the data: the length of the header, and the header."""
    entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [0, shape[0] * shape[1] * 4]}
    header = json.dumps({_KEY: entry}, separators=(",", ":")).encode()
    # The format allows spaces behind the header.
    header = header.ljust(DATA_START - 8)
    if len(header) + 8 != DATA_START:
        raise ValueError(f"a zoo of {shape[0]} states of {shape[1]} weights is too large to be written")
    return struct.pack("<Q", len(header)) + header


def open_weights(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Memory map of a safetensors file that holds one float32 matrix.

    Parameters
    ----------
    path : Path
        The file.
    shape : (n_states, n_weights)
        What it has to hold.

    Returns
    -------
    ndarray of shape (n_states, n_weights), float32
        A read-only memory map: rows are read when they are used.

    Raises
    ------
    ZooFormatError
        If the file is something else.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER + 1
        if length > min(_MAX_HEADER, size):
            raise ZooFormatError(f"{path} is no safetensors file: its header is damaged; restore the file")
        try:
            entry = json.loads(file.read(length))[_KEY]
            found = (entry["dtype"], tuple(entry["shape"]), tuple(entry["data_offsets"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ZooFormatError(
                f"{path} has no readable safetensors header with a tensor {_KEY!r}; restore the file"
            ) from error
    n_bytes = shape[0] * shape[1] * 4
    if found != ("F32", shape, (0, n_bytes)) or size != 8 + length + n_bytes:
        raise ZooFormatError(
            f"{path} holds {found[0]} of shape {found[1]} in {size} bytes, but float32 of shape {shape} in "
            f"{8 + length + n_bytes} bytes was expected; restore the file"
        )
    return np.memmap(path, dtype="<f4", mode="r", offset=8 + length, shape=shape)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
