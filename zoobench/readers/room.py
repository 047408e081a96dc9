"""Where a reader puts the weights that it reads: in memory, or in a file for zoos that are larger than memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.readers.journal import Journal


class Room:
    """Room in memory for a matrix of weights.

    Attributes
    ----------
    sorted : bool
        Whether rows are better written in their final order than read in the order of the source: rows in memory can
        be sorted where they are, and those of a file would be written twice.
    """

    sorted = False

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

    def continued(self) -> list[tuple[str, int]]:
        """Model and epoch of the rows that are there from an earlier attempt, in order."""
        return []

    def written(self, model: str, epoch: int, n_bytes: int) -> None:
        """The next row is written."""

    def keep_first(self, n_rows: int) -> None:
        """Forget that rows beyond these are written."""


class DiskRoom(Room):
    """Room in a file, mapped into memory.

    Parameters
    ----------
    path : Path
        The file; it belongs to whoever made the room.
    offset : int, default=0
        Bytes to leave free before the weights.
    journal : Journal, optional
        Notes which rows are written. Without one the file is always made anew.
    """

    sorted = True

    def __init__(self, path: Path, offset: int = 0, journal: Journal | None = None) -> None:
        self._path = path
        self._offset = offset
        self._journal = journal

    def matrix(self, n_rows: int, n_weights: int) -> np.ndarray:
        """A float32 matrix whose pages are the file's."""
        size = self._offset + 4 * n_rows * n_weights
        if not (self.continued() and self._path.is_file() and self._path.stat().st_size == size):
            self.keep_first(0)
            with open(self._path, "wb") as file:
                _set_size(file.fileno(), size)
        return self._mapped(n_rows, n_weights)

    def resized(self, matrix: np.ndarray, n_rows: int) -> np.ndarray:
        """The matrix over a longer or shorter file."""
        n_weights = matrix.shape[1]
        with open(self._path, "r+b") as file:
            _set_size(file.fileno(), self._offset + 4 * n_rows * n_weights)
        return self._mapped(n_rows, n_weights)

    def continued(self) -> list[tuple[str, int]]:
        """Model and epoch of the rows that are there from an earlier attempt, in order."""
        return [] if self._journal is None else self._journal.states

    def written(self, model: str, epoch: int, n_bytes: int) -> None:
        """The next row is written."""
        if self._journal is not None:
            self._journal.add(model, epoch, n_bytes, self._path)

    def keep_first(self, n_rows: int) -> None:
        """Forget that rows beyond these are written."""
        if self._journal is not None:
            self._journal.keep_first(n_rows)

    def _mapped(self, n_rows: int, n_weights: int) -> np.ndarray:
        if not n_rows:
            return np.empty((0, n_weights), np.float32)
        return np.memmap(self._path, np.float32, "r+", offset=self._offset, shape=(n_rows, n_weights))


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
