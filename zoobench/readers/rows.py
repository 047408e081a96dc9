"""Rows of weights that come in any order and leave in another, without a second copy of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoobench.readers.room import MEMORY, Room

_GROWTH = 1 << 26


class WeightRows:
    """A matrix that is filled row by row.

    Parameters
    ----------
    n_weights : int
        Length of a row.
    expected : int
        How many rows will come at most, 0 if that is unknown: then the matrix grows by 64 MB at a time, which the
        operating system does by moving page tables, not by copying.
    room : Room
        Where the matrix goes.

    Raises
    ------
    ZooFormatError
        If so many do not fit into memory.
    """

    def __init__(self, n_weights: int, expected: int = 0, room: Room = MEMORY) -> None:
        self._room = room
        self._n_weights = n_weights
        self._n_rows = 0
        self._matrix = room.matrix(expected, n_weights)
        self._bytes = as_bytes(self._matrix)

    def append(self, pieces: Sequence[memoryview]) -> int:
        """Add a row, given as bytes in pieces one behind the other; returns its number."""
        if self._n_rows == len(self._matrix):
            self._resize(self._n_rows + max(1, _GROWTH // (4 * self._n_weights)))
        self._n_rows += 1
        self.replace(self._n_rows - 1, pieces)
        return self._n_rows - 1

    def claim(self) -> None:
        """Add the row that the file holds already."""
        self._n_rows += 1

    def holds(self, row: int, pieces: Sequence[memoryview]) -> bool:
        """Whether a row has these bytes already."""
        position = 4 * self._n_weights * row
        return all(
            self._bytes[position + start : position + start + len(piece)] == piece
            for piece, start in zip(pieces, np.cumsum([0, *map(len, pieces)]).tolist(), strict=False)
        )

    def replace(self, row: int, pieces: Sequence[memoryview]) -> None:
        """Overwrite a row."""
        self._room.write(self._bytes, 4 * self._n_weights * row, pieces)

    def finish(self, order: np.ndarray) -> np.ndarray:
        """The matrix whose row i is the row ``order[i]`` that came; ``order`` names each row once."""
        _permute(self._matrix, order)
        self._resize(self._n_rows)
        self._bytes.release()
        return self._matrix

    def _resize(self, n_rows: int) -> None:
        self._bytes.release()
        self._matrix = self._room.resized(self._matrix, n_rows)
        self._bytes = as_bytes(self._matrix)


def as_bytes(weights: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, to be read or written in place."""
    # A view without elements cannot be cast.
    return memoryview(weights.reshape(-1).data).cast("B") if weights.size else memoryview(b"")


def _permute(matrix: np.ndarray, order: np.ndarray) -> None:
    """Sort rows in place, cycle by cycle, with room for one row."""
    sources = order.tolist()
    for first, source in enumerate(sources):
        if source == first:
            continue
        held, row = matrix[first].copy(), first
        while sources[row] != first:
            matrix[row] = matrix[sources[row]]
            sources[row], row = row, sources[row]
        matrix[row] = held
        sources[row] = row
