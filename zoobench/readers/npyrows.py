"""The rows of a numpy file that passes by: numpy's own reader wants a file on disk, or all of it in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from zoobench.errors import UnsafeFileError, ZooFormatError

#: Bytes of a block of rows.
BLOCK_BYTES = 1 << 22


class NpyRows:
    """A matrix of floats in a ``.npy`` file, block by block.

    Parameters
    ----------
    pieces : iterable of bytes
        The file.
    size : int
        How many bytes it has, as whoever holds it says.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns.

    Raises
    ------
    ZooFormatError
        If it is no such matrix, or not of the size that its header says.
    UnsafeFileError
        If it holds a pickle.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview], size: int) -> None:
        self._stream = _Stream(pieces)
        shape, fortran, self._dtype = self._header()
        if self._dtype.hasobject:
            raise UnsafeFileError("holds a pickle, which can run code when it is loaded; it has not been read")
        if self._dtype.kind != "f" or len(shape) != 2 or fortran:
            order = " in Fortran's order" if fortran else ""
            raise ZooFormatError(f"is {self._dtype} of shape {shape}{order}; expected rows of floats, a row a state")
        if min(shape) < 1:
            raise ZooFormatError(f"has shape {shape}, so no weights")
        self.shape: tuple[int, int] = shape
        self._row_bytes = shape[1] * self._dtype.itemsize
        expected = self._stream.position + shape[0] * self._row_bytes
        if size != expected:
            raise ZooFormatError(
                f"has {size} bytes, but its header says {shape[0]} rows of {shape[1]} {self._dtype}, which takes "
                f"{expected}; it is truncated or damaged, so fetch it again"
            )

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first row, and some rows as float32; a checksum of the file is compared behind the last."""
        step = max(1, BLOCK_BYTES // self._row_bytes)
        for start in range(0, self.shape[0], step):
            n_rows = min(step, self.shape[0] - start)
            raw = self._stream.read(n_rows * self._row_bytes)
            if len(raw) < n_rows * self._row_bytes:
                raise ZooFormatError(
                    f"is truncated: it ends in row {start + len(raw) // self._row_bytes}; fetch it again"
                )
            with np.errstate(over="ignore"):
                block = np.frombuffer(raw, self._dtype).reshape(n_rows, -1).astype(np.float32, copy=False)
            yield start, block
        self._stream.finish()

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype]:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        try:
            version = npy.read_magic(self._stream)
            return readers[version](self._stream)
        except ZooFormatError:
            raise
        except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError):
            raise ZooFormatError("is no numpy file, or a damaged one: its header cannot be read") from None


class _Stream:
    """Pieces as a file that can be read."""

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")
        self.position = 0

    def read(self, size: int = 0) -> bytes:
        """So many bytes, or as many as there are."""
        parts, missing = [], size
        while missing:
            if not self._left:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._left = memoryview(piece)
            parts.append(self._left[:missing])
            self._left = self._left[missing:]
            missing -= len(parts[-1])
        self.position += size - missing
        return b"".join(parts)

    def finish(self) -> None:
        """Let the rest pass: only then has the archive compared its checksum."""
        for _ in self._pieces:
            pass
