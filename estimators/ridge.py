"""Ridge regression for every penalty and every target from one factorisation, with closed-form held-out residuals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

#: Rows or columns are taken to float64 in blocks of this many bytes: X itself may be a float32 memory map.
_BLOCK_BYTES = 1 << 25

#: The smallest eigenvalue that a block of I - H may have, of at most 1, and the smallest fraction of the largest one
#: where the block is known to a factor: below it, rounding is all there is.
_LEAST_FREEDOM, _LEAST_FREEDOM_DUAL = 1e-9, 1e-13


class RidgePath:
    """Ridge regressions of several targets on the same X, for any number of penalties.

    With the design Z = [X, 1] (intercept penalised like any coefficient) or X centred (intercept free), the solutions
    for all penalties share the eigenvectors of Z Z' or of Z' Z, whichever is smaller. One eigendecomposition thus
    serves all penalties and all targets, and the hat matrix in its basis gives the residuals of every model fitted
    without one group of rows, with no refitting. Everything is computed in float64.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Is kept as it is and read in blocks; may be a memory map.
    Y : ndarray of shape (n_samples, n_targets), float64
        Targets.
    penalize_intercept : bool
        Penalise the intercept like a coefficient.

    Notes
    -----
    Leaving out the rows g of a linear smoother with hat matrix H turns its residuals r_g into
    (I - H_gg)^-1 r_g, by the Woodbury identity; a group of one row is the familiar leave-one-out formula.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators.ridge import RidgePath
    >>> X, Y = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [2.0]])
    >>> path = RidgePath(X, Y, penalize_intercept=False)
    >>> path.predict(np.array([[3.0]]), [2.0, 1e-9]).round(3)[:, 0, 0]
    array([2., 3.])
    """

    def __init__(self, X: np.ndarray, Y: np.ndarray, *, penalize_intercept: bool) -> None:
        n_samples, n_features = X.shape
        self._X = X
        self._penalized = penalize_intercept
        if penalize_intercept:
            self._x_mean, self._y_mean = np.zeros(n_features), np.zeros(Y.shape[1])
        else:
            self._x_mean, self._y_mean = _column_means(X), Y.mean(axis=0)
        self._Y = Y - self._y_mean
        self._dual = n_samples <= n_features + penalize_intercept
        if self._dual:
            gram = self._kernel(X)
            if not penalize_intercept:
                # Makes the constant vector the leading eigenvector, apart from all others: it is the intercept's own
                # direction, in which nothing is shrunk and no residual is left.
                gram += (2 * np.trace(gram) + 1) / n_samples
            self._eigenvalues, self._vectors = np.linalg.eigh(gram)
            self._rotated = self._vectors.T @ self._Y
        else:
            moment, cross = self._moments()
            self._eigenvalues, self._vectors = np.linalg.eigh(moment)
            self._rotated = self._vectors.T @ cross
        # The smallest ones are zero but for rounding, and a negative one could cancel a small penalty.
        np.maximum(self._eigenvalues, 0, out=self._eigenvalues)

    def predict(self, X: np.ndarray, alphas: ArrayLike) -> np.ndarray:
        """Predictions for every penalty.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            Rows to predict.
        alphas : array-like of positive float
            Penalties.

        Returns
        -------
        ndarray of shape (n_alphas, n_rows, n_targets)
        """
        solutions = self._solutions(np.asarray(alphas, dtype=np.float64))
        flat = solutions.transpose(1, 0, 2).reshape(solutions.shape[1], -1)
        if self._dual:
            product = self._kernel(X) @ flat
        else:
            product = np.concatenate([block @ flat for block in self._design(X)])
        return product.reshape(len(X), len(solutions), -1).transpose(1, 0, 2) + self._y_mean

    def coefficients(self, alphas: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients with one penalty a target.

        Parameters
        ----------
        alphas : array-like of positive float
            One penalty a target.

        Returns
        -------
        coef : ndarray of shape (n_targets, n_features)
        intercept : ndarray of shape (n_targets,)
        """
        shrunk = self._rotated * self._weights(np.asarray(alphas, dtype=np.float64))
        solution = self._vectors @ shrunk
        if self._dual:
            coef = np.empty((self._X.shape[1], solution.shape[1]))
            for columns in row_blocks(len(coef), len(self._X)):
                coef[columns] = (self._X[:, columns].astype(np.float64) - self._x_mean[columns]).T @ solution
        else:
            coef = solution[: self._X.shape[1]]
        if not self._penalized:
            intercept = self._y_mean - self._x_mean @ coef
        else:
            intercept = solution.sum(axis=0) if self._dual else solution[-1]
        return np.ascontiguousarray(coef.T), intercept

    def held_out_residuals(self, alphas: ArrayLike, groups: np.ndarray | None = None) -> np.ndarray:
        """Residual of each row under the model that was fitted without the row's group.

        Parameters
        ----------
        alphas : array-like of positive float
            Penalties.
        groups : ndarray of shape (n_samples,), optional
            Group of each row. By default each row is a group of its own.

        Returns
        -------
        ndarray of shape (n_alphas, n_samples, n_targets)

        Raises
        ------
        ValueError
            If there is only one group: nothing is left to fit.
        """
        weights = self._weights(np.asarray(alphas, dtype=np.float64))
        solutions = self._solutions(np.asarray(alphas, dtype=np.float64))
        residuals = np.empty((weights.shape[1], *self._Y.shape))
        for members in _groups_by_size(groups, len(self._Y)):
            if members.shape[1] == len(self._Y):
                raise ValueError("all rows are in one group, but holding out a group needs at least 2")
            for part in row_blocks(len(members), members.shape[1] * len(self._eigenvalues)):
                rows = members[part]
                basis = self._basis(rows)
                for i in range(weights.shape[1]):
                    block, right = self._smoother(basis, rows, weights[:, i], solutions[i])
                    residuals[i, rows] = self._solve(block, right)
        return residuals

    def _solve(self, blocks: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Each block's system; infinite for a group that determines a direction alone, as diverged models do.

        Without such a group, that direction is not fitted at all, and of a difference of nearly equal numbers no digit
        is left that could tell: a penalty this small is not to be chosen.
        """
        freedom = np.linalg.eigvalsh(blocks)
        # Of the columns' Gram matrix I - H is a difference, exact to rounding of 1; of the rows' it is none.
        least = _LEAST_FREEDOM_DUAL * freedom[:, -1] if self._dual else _LEAST_FREEDOM
        alone = freedom[:, 0] <= least
        blocks[alone] = np.eye(blocks.shape[1])
        solved = np.linalg.solve(blocks, right)
        solved[alone] = np.inf
        return solved

    def _smoother(
        self, basis: np.ndarray, rows: np.ndarray, weights: np.ndarray, solution: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(I - H_gg) and r_g of each group, both up to the same factor."""
        block = (basis * weights) @ basis.transpose(0, 2, 1)
        if self._dual:  # I - H is alpha times this, and so are the residuals
            return block, solution[rows]
        block = np.eye(rows.shape[1]) - block
        if not self._penalized:
            block -= 1 / len(self._Y)
        return block, self._Y[rows] - self._design_rows(rows) @ solution

    def _basis(self, rows: np.ndarray) -> np.ndarray:
        return self._vectors[rows] if self._dual else self._design_rows(rows) @ self._vectors

    def _weights(self, alphas: np.ndarray) -> np.ndarray:
        """1 / (eigenvalue + alpha), shape (n_eigenvalues, n_alphas)."""
        weights = 1 / (self._eigenvalues[:, None] + alphas)
        if self._dual and not self._penalized:
            weights[-1] = 0
        return weights

    def _solutions(self, alphas: np.ndarray) -> np.ndarray:
        """Coefficients of the rows (dual) or of the design's columns, shape (n_alphas, size, n_targets)."""
        shrunk = self._weights(alphas)[:, :, None] * self._rotated[:, None, :]
        product = self._vectors @ shrunk.reshape(len(shrunk), -1)
        return product.reshape(-1, len(alphas), self._Y.shape[1]).transpose(1, 0, 2)

    def _kernel(self, X: np.ndarray) -> np.ndarray:
        """Products of the rows of X with the rows that were fitted."""
        kernel = np.full((len(X), len(self._X)), float(self._penalized))
        for columns in row_blocks(X.shape[1], len(X) + len(self._X)):
            fitted = self._X[:, columns].astype(np.float64) - self._x_mean[columns]
            # Of a matrix and its own transpose, BLAS computes one half only.
            left = fitted if X is self._X else X[:, columns].astype(np.float64) - self._x_mean[columns]
            kernel += left @ fitted.T
        return kernel

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Z' Z and Z' Y."""
        size = self._X.shape[1] + self._penalized
        moment, cross, start = np.zeros((size, size)), np.zeros((size, self._Y.shape[1])), 0
        for block in self._design(self._X):
            moment += block.T @ block
            cross += block.T @ self._Y[start : start + len(block)]
            start += len(block)
        return moment, cross

    def _design(self, X: np.ndarray) -> Iterator[np.ndarray]:
        for rows in row_blocks(len(X), X.shape[1]):
            yield self._to_design(X[rows])

    def _design_rows(self, rows: np.ndarray) -> np.ndarray:
        return self._to_design(self._X[rows])

    def _to_design(self, X: np.ndarray) -> np.ndarray:
        if not self._penalized:
            return X - self._x_mean
        design = np.ones((*X.shape[:-1], X.shape[-1] + 1))
        design[..., :-1] = X
        return design


def r2_scores(residuals: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Coefficient of determination of each target.

    Parameters
    ----------
    residuals : ndarray of shape (..., n_samples, n_targets)
        Residuals of one or several models.
    Y : ndarray of shape (n_samples, n_targets)
        True values.

    Returns
    -------
    ndarray of shape (..., n_targets)
        1 - MSE / (population) variance of Y; NaN for a target that does not vary, of which R2 says nothing.
    """
    variance = np.where(np.ptp(Y, axis=0) > 0, Y.var(axis=0), np.nan)
    return 1 - np.mean(residuals**2, axis=-2) / variance


def first_best(scores: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Which penalty is best for each target; the first listed of equal ones.

    Parameters
    ----------
    scores : ndarray of shape (n_alphas, n_targets)
        R2 of each.
    residuals : ndarray of shape (n_alphas, n_samples, n_targets)
        What they were computed from: decides for targets of which R2 says nothing.

    Returns
    -------
    ndarray of int, shape (n_targets,)
    """
    return np.argmax(np.where(np.isnan(scores), -np.mean(residuals**2, axis=1), scores), axis=0)


def blocked_product(X: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """X @ matrix in float64, without a float64 copy of all of X.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        May be a memory map.
    matrix : ndarray of shape (n_features, n_columns), float64
        Right factor.

    Returns
    -------
    ndarray of shape (n_samples, n_columns), float64
    """
    result = np.empty((len(X), matrix.shape[1]))
    for rows in row_blocks(len(X), X.shape[1]):
        result[rows] = X[rows].astype(np.float64, copy=False) @ matrix
    return result


def _column_means(X: np.ndarray) -> np.ndarray:
    total = np.zeros(X.shape[1])
    for rows in row_blocks(len(X), X.shape[1]):
        total += X[rows].sum(axis=0, dtype=np.float64)
    return total / len(X)


def row_blocks(length: int, width: int) -> Iterator[slice]:
    """Consecutive parts of an axis, each of about a block's size in float64.

    Parameters
    ----------
    length : int
        Of the axis.
    width : int
        Numbers that belong to one place of it.

    Yields
    ------
    slice
    """
    step = max(1, _BLOCK_BYTES // (8 * max(1, width)))
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _groups_by_size(groups: np.ndarray | None, n_samples: int) -> Iterator[np.ndarray]:
    """Row numbers of all groups of one size, shape (n_groups, size), for each size."""
    if groups is None:
        yield np.arange(n_samples)[:, None]
        return
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(counts)
    for size in np.unique(counts):
        starts = ends[counts == size] - size
        yield order[starts[:, None] + np.arange(size)]
