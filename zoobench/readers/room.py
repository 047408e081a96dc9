"""Where a reader puts the weights that it reads: in memory, or in a file for zoos that are larger than memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from zoobench.errors import ZooFormatError


class Room:
    """Room in memory for a matrix of weights."""

    def matrix(self, n_rows: int, n_weights: int) -> np.ndarray:
        """An uninitialised float32 matrix; ZooFormatError if it does not fit."""
        try:
            return np.empty((n_rows, n_weights), np.float32)
        except (MemoryError, ValueError):
            raise _too_large(n_rows, n_weights) from None

    def resized(self, matrix: np.ndarray, n_rows: int) -> np.ndarray:
        """The matrix with fewer or more rows; the old one is not to be used again."""
        try:
            # The operating system does this by moving page tables, not by copying.
            matrix.resize((n_rows, matrix.shape[1]), refcheck=False)
        except (MemoryError, ValueError):
            raise _too_large(n_rows, matrix.shape[1]) from None
        return matrix


class DiskRoom(Room):
    """Room in a file, mapped into memory.

    Parameters
    ----------
    path : Path
        The file; it is made anew, and belongs to whoever made the room.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def matrix(self, n_rows: int, n_weights: int) -> np.ndarray:
        """A float32 matrix whose pages are the file's."""
        with open(self._path, "wb") as file:
            _set_size(file.fileno(), 4 * n_rows * n_weights)
        return self._mapped(n_rows, n_weights)

    def resized(self, matrix: np.ndarray, n_rows: int) -> np.ndarray:
        """The matrix over a longer or shorter file."""
        n_weights = matrix.shape[1]
        with open(self._path, "r+b") as file:
            _set_size(file.fileno(), 4 * n_rows * n_weights)
        return self._mapped(n_rows, n_weights)

    def _mapped(self, n_rows: int, n_weights: int) -> np.ndarray:
        if not n_rows:
            return np.empty((0, n_weights), np.float32)
        return np.memmap(self._path, np.float32, "r+", shape=(n_rows, n_weights))


#: Where weights go unless somebody says otherwise.
MEMORY = Room()


def _set_size(descriptor: int, size: int) -> None:
    # Reserved, because a full disk would otherwise show only when a page is written: as a signal that ends the process.
    os.ftruncate(descriptor, size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def _too_large(n_rows: int, n_weights: int) -> ZooFormatError:
    return ZooFormatError(
        f"{n_rows} states of {n_weights} weights need {4 * n_rows * n_weights / 1e9:.1f} GB, more memory than there "
        "is; ask for fewer epochs or models"
    )
