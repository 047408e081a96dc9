"""Where a reader puts the weights that it reads: in memory, or in a file for zoos that are larger than memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.readers.journal import Journal, State
from zoobench.weightfile import DATA_START, Seal, SealedWeights

#: The kernel takes no more pieces at once.
_MAX_BUFFERS = 512


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

    def continued(self) -> list[State]:
        """What the rows are that are there from an earlier attempt, in order."""
        return []

    def write(self, view: memoryview, position: int, pieces: Sequence[memoryview]) -> None:
        """Bytes, in pieces, at a position of the matrix that has this view."""
        for piece in pieces:
            stop = position + len(piece)
            view[position:stop] = piece
            position = stop

    def written(self, state: State, n_bytes: int) -> None:
        """The next row is written."""

    def complete(self, n_rows: int) -> None:
        """The rows before that one are written, and stay where they are."""

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
        self._descriptor: int | None = None
        self._seal: Seal | None = None

    def __enter__(self) -> DiskRoom:
        return self

    def __exit__(self, *_: object) -> None:
        self._unseal()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def matrix(self, n_rows: int, n_weights: int) -> np.ndarray:
        """A float32 matrix whose pages are the file's."""
        size = self._offset + 4 * n_rows * n_weights
        if not (self.continued() and self._path.is_file() and self._path.stat().st_size == size):
            self.keep_first(0)
            with open(self._path, "wb") as file:
                _set_size(file.fileno(), size)
        matrix = self._mapped(n_rows, n_weights)
        if n_rows and self._offset == DATA_START:
            self._seal = Seal(self._path, matrix)
        return matrix

    def resized(self, matrix: np.ndarray, n_rows: int) -> np.ndarray:
        """The matrix over a longer or shorter file."""
        n_weights = matrix.shape[1]
        with open(self._path, "r+b") as file:
            _set_size(file.fileno(), self._offset + 4 * n_rows * n_weights)
        return self._mapped(n_rows, n_weights)

    def write(self, view: memoryview, position: int, pieces: Sequence[memoryview]) -> None:
        """Bytes, in pieces, at a position of the matrix."""
        if not hasattr(os, "pwritev"):
            super().write(view, position, pieces)
            return
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR)
        # Through the memory map each page would first be faulted in, which takes three times as long.
        buffers, place = list(pieces), self._offset + position
        while buffers:
            n_bytes = os.pwritev(self._descriptor, buffers[:_MAX_BUFFERS], place)
            place += n_bytes
            while buffers and n_bytes >= len(buffers[0]):
                n_bytes -= len(buffers.pop(0))
            if n_bytes:
                buffers[0] = buffers[0][n_bytes:]

    def continued(self) -> list[State]:
        """What the rows are that are there from an earlier attempt, in order."""
        return [] if self._journal is None else self._journal.states

    def written(self, state: State, n_bytes: int) -> None:
        """The next row is written."""
        if self._journal is not None:
            self._journal.add(state, n_bytes, self._path)

    def complete(self, n_rows: int) -> None:
        """The rows before that one are written, and stay where they are."""
        if self._seal is not None:
            self._seal.complete(n_rows)

    def sealed(self, weights: np.ndarray) -> SealedWeights:
        """The file as one of the zoo format, when all of these weights are in it."""
        if self._seal is None or not self._seal.fits(weights):
            self._unseal()
            self._seal = Seal(self._path, weights)
        return self._seal.finish()

    def _unseal(self) -> None:
        if self._seal is not None:
            self._seal.abandon()
            self._seal = None

    def keep_first(self, n_rows: int) -> None:
        """Forget that rows beyond these are written."""
        if self._seal is not None and self._seal.n_taken > n_rows:
            self._unseal()
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
