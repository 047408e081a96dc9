"""One matrix of weights in a safetensors file: written in blocks, read as a memory map."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.errors import ZooFormatError

#: Blocks of this many bytes are written, hashed and read, so that no zoo needs to fit into memory.
BLOCK_BYTES = 1 << 24

#: The only key of the file.
_KEY = "weights"

#: The data starts at a multiple of this, for aligned vector loads from the memory map.
_ALIGNMENT = 64

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
    n_bytes = weights.shape[0] * weights.shape[1] * 4
    entry = {"dtype": "F32", "shape": list(weights.shape), "data_offsets": [0, n_bytes]}
    header = json.dumps({_KEY: entry}, separators=(",", ":")).encode()
    # The format allows spaces behind the header, which is how the data is aligned.
    header = header.ljust(-(-(len(header) + 8) // _ALIGNMENT) * _ALIGNMENT - 8)
    digest = hashlib.sha256()
    step = max(1, BLOCK_BYTES // max(1, weights.shape[1] * 4))
    with open(path, "wb") as file:
        for start in range(-step, len(weights), step):
            if start < 0:
                block: Any = struct.pack("<Q", len(header)) + header
            else:
                block = np.ascontiguousarray(weights[start : start + step], dtype="<f4").data
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


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
