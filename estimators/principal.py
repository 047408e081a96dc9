"""Principal axes of tall or wide data that is read in blocks: exact where that is cheap, else by block Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

#: Rows are centred a block at a time: about what a core's cache holds, so that a block is read from memory once.
_BLOCK_BYTES = 1 << 24

#: The widest tile: rows of a large network are cut, in pieces long enough to be read well from a file.
_BLOCK_COLUMNS = 1 << 14

#: Up to this size of the smaller side, its whole Gram matrix costs no more than a few passes of the iteration.
_EXACT_SIZE = 1024

#: Directions iterated beyond those asked for: the last components converge as the ones behind them get a place.
_OVERSAMPLING = 10

#: Passes over the data after which the iteration stops, converged or not. Noise, which has no leading components, may
#: need that many.
MAX_PASSES = 20

#: Below this many passes' worth of directions, the whole Gram matrix is decomposed: a flat spectrum takes about five.
_LEAST_PASSES = 6

#: Residuals smaller than this part of the largest eigenvalue, in units of the dtype's rounding, are nothing but that.
#: It is reached where data has fewer dimensions than components are asked for.
_ROUNDING = 1e-4


def tiles(X: np.ndarray, columns: slice) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the parts, small enough to copy, that together are some columns of X.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        What is to be read part by part.
    columns : slice
        Which of its columns, with both ends.

    Yields
    ------
    rows, columns : slice
    """
    width = min(columns.stop - columns.start, _BLOCK_COLUMNS)
    height = max(1, _BLOCK_BYTES // (max(1, width) * X.itemsize))
    for start in range(0, len(X), height):
        for left in range(columns.start, columns.stop, _BLOCK_COLUMNS):
            yield slice(start, min(start + height, len(X))), slice(left, min(left + _BLOCK_COLUMNS, columns.stop))


def principal_axes(
    X: np.ndarray, columns: slice, mean: np.ndarray, n_components: int, tol: float, rng: np.random.RandomState
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Leading eigenvectors of the scatter matrix of some columns.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64
        May be a memory map.
    columns : slice
        Which of its columns, with both ends.
    mean : ndarray of shape (n_features,)
        Mean of each column, of the dtype of X.
    n_components : int
        How many, at most the smaller side of those columns.
    tol : float
        The iteration ends when the square of every residual is no more than this part of the eigenvalue's square:
        about the relative error of each eigenvalue, however much larger others are.
    rng : RandomState
        Draws where the iteration starts.

    Returns
    -------
    axes : ndarray of shape (n_components, n_columns), of the dtype of X
        Orthonormal; the entry of largest size is positive in each.
    eigenvalues : ndarray of shape (n_components,), float64
        Sum of squares along each axis, largest first.
    n_passes : int
        How often the data was read.
    converged : bool
        Whether ``tol`` was reached.

    Notes
    -----
    With m the smaller side, the m x m Gram matrix is formed in float64 and decomposed where m is at most 1024, or so
    small that about a sixth of its eigenvectors are wanted. Else a block of random directions is multiplied by the
    scatter matrix once a pass, and eigenvectors are approximated in the space that all products so far span (block
    Lanczos with full reorthogonalisation [1]_), in the dtype of X with the small matrices in float64. The residual
    |A v - theta v| of each approximation is what its part in the last block leaves of the next one, and costs no pass.
    An eigenvalue's error is of the order of the squared residual over the gap to eigenvalues that are not looked for.

    References
    ----------
    .. [1] Musco, C. and Musco, C., "Randomized Block Krylov Methods for Stronger and Faster Approximate Singular Value
       Decomposition", NeurIPS 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators.principal import principal_axes
    >>> X = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> axes, eigenvalues, _, _ = principal_axes(X, slice(0, 2), np.zeros(2), 1, 1e-3, np.random.RandomState(0))
    >>> axes, eigenvalues
    (array([[1., 0.]]), array([18.]))
    """
    side = _Side(X, columns, mean)
    width = n_components + _OVERSAMPLING
    if side.size <= _EXACT_SIZE or side.size < _LEAST_PASSES * width:
        eigenvalues, vectors = np.linalg.eigh(side.gram())
        eigenvalues, vectors = eigenvalues[: -n_components - 1 : -1], vectors[:, : -n_components - 1 : -1]
        n_passes, converged = 1, True
    else:
        eigenvalues, vectors, n_passes, converged = _block_lanczos(
            side.multiply, side.size, X.dtype, n_components, width, tol, rng
        )
    axes = side.to_axes(vectors.astype(X.dtype, copy=False))
    for axis in axes:
        if axis[np.abs(axis).argmax()] < 0:
            np.negative(axis, out=axis)
    return axes, np.maximum(eigenvalues, 0.0), n_passes, converged


class _Side:
    """The smaller side of centred data: its rows, or its columns, as the vectors of a Gram matrix."""

    def __init__(self, X: np.ndarray, columns: slice, mean: np.ndarray) -> None:
        n_columns = columns.stop - columns.start
        self._X, self._columns, self._mean = X, columns, mean
        self._tall = len(X) >= n_columns
        self.size = n_columns if self._tall else len(X)
        self._step = max(1, _BLOCK_BYTES // (self.size * X.itemsize))

    def _blocks(self) -> Iterator[tuple[np.ndarray, slice]]:
        """Consecutive centred parts of the longer side, which share one piece of memory, and where they lie."""
        X, columns, mean = self._X, self._columns, self._mean
        length = len(X) if self._tall else columns.stop - columns.start
        scratch = np.empty(self._step * self.size, dtype=X.dtype)
        for start in range(0, length, self._step):
            part = slice(start, min(start + self._step, length))
            rows = part if self._tall else slice(None)
            if not self._tall:
                columns = slice(self._columns.start + part.start, self._columns.start + part.stop)
            values = X[rows, columns]
            block = scratch[: values.size].reshape(values.shape)
            yield np.subtract(values, mean[columns], out=block), part

    def gram(self) -> np.ndarray:
        """Products of the centred columns (or rows) with each other, in float64."""
        total = np.zeros((self.size, self.size))
        for block, _ in self._blocks():
            exact = block.astype(np.float64, copy=False)
            total += exact.T @ exact if self._tall else exact @ exact.T
        return total

    def multiply(self, vectors: np.ndarray) -> np.ndarray:
        """The Gram matrix times some vectors, in one pass that needs each block twice while it is at hand."""
        product = np.zeros(vectors.shape[::-1], dtype=vectors.dtype)
        part_of_it = np.empty_like(product)
        vectors = np.ascontiguousarray(vectors)
        for block, _ in self._blocks():
            along = block if self._tall else block.T
            # Of the ways to write this, BLAS is fastest with the thin matrix in front, and in rows.
            product += np.matmul(np.ascontiguousarray((along @ vectors).T), along, out=part_of_it)
        return product.T

    def to_axes(self, vectors: np.ndarray) -> np.ndarray:
        """Orthonormal axes of the columns, as rows, from eigenvectors of the Gram matrix."""
        if self._tall:
            return np.ascontiguousarray(vectors.T)
        axes = np.empty((self._columns.stop - self._columns.start, vectors.shape[1]), dtype=vectors.dtype)
        for block, part in self._blocks():
            np.matmul(block.T, vectors, out=axes[part])
        # They are orthogonal but for rounding, and directions in which nothing varies are nothing but that.
        return np.ascontiguousarray(np.linalg.qr(_normalised(axes))[0].T)


def _normalised(columns: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->j", columns, columns, dtype=np.float64))
    columns /= np.where(lengths > 0, lengths, 1).astype(columns.dtype)
    return columns


def _block_lanczos(
    multiply: Callable[[np.ndarray], np.ndarray],
    size: int,
    dtype: np.dtype,
    n_components: int,
    width: int,
    tol: float,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Leading eigenvalues and eigenvectors of a symmetric matrix that is known by its products."""
    n_passes = min(MAX_PASSES, size // width)
    basis = np.empty((n_passes * width, size), dtype=dtype)
    projected = np.zeros((n_passes * width, n_passes * width))
    block = np.linalg.qr(rng.standard_normal((size, width)).astype(dtype))[0]
    for number in range(n_passes):
        done = (number + 1) * width
        new = slice(done - width, done)
        basis[new] = block.T
        product = multiply(block)
        inside = basis[:done] @ product
        projected[:done, new] = inside
        projected[new, :done] = projected[:done, new].T
        eigenvalues, vectors = np.linalg.eigh(projected[:done, :done])
        eigenvalues, vectors = eigenvalues[: -n_components - 1 : -1], vectors[:, : -n_components - 1 : -1]
        product -= basis[:done].T @ inside
        residuals = np.linalg.norm(product @ vectors[new].astype(dtype), axis=0)
        rounding = _ROUNDING * np.finfo(dtype).eps * eigenvalues[0]
        converged = bool((residuals <= np.maximum(np.sqrt(tol) * eigenvalues, rounding)).all())
        if converged:
            break
        # Once leaves what rounding adds; twice is enough.
        block = np.linalg.qr(product)[0]
        block -= basis[:done].T @ (basis[:done] @ block)
        block = np.linalg.qr(block)[0]
    return eigenvalues, basis[:done].T @ vectors.astype(dtype), number + 1, converged
