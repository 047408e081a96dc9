"""Which neurons of a network may change places without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoobench.estimators.wiring import wire
from zoobench.layers import TensorSpec
from zoobench.layout import WeightLayout

#: Weights are moved a few states at a time, so that memory does not grow with their number.
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Part:
    """A tensor that permutations move, seen as rows x columns x tail.

    Attributes
    ----------
    tensor : TensorSpec
        The tensor.
    shape : tuple of int
        (rows, columns, tail): rows are the layer's neurons or channels, columns those of the layer before, and what
        goes with both, such as the taps of a kernel, is the tail. A vector has one column.
    row, column : int or None
        Which permutation moves the rows and which one the columns; None stands where they stay.
    """

    tensor: TensorSpec
    shape: tuple[int, int, int]
    row: int | None
    column: int | None

    def of(self, X: np.ndarray) -> np.ndarray:
        """The tensor of every state, of shape (n_states, rows, columns, tail)."""
        return X[:, self.tensor.slice].reshape(len(X), *self.shape)

    def permute(self, values: np.ndarray, permutations: Sequence[np.ndarray]) -> np.ndarray:
        """What :meth:`of` gives, with rows and columns in the order that the permutations say."""
        rows = None if self.row is None else permutations[self.row]
        columns = None if self.column is None else permutations[self.column]
        return gather(values, np.arange(len(values)), rows, columns)


def gather(values: np.ndarray, states: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
    """Some states of a tensor, each with its rows and columns in an order of its own.

    Parameters
    ----------
    values : ndarray of shape (n_states, n_rows, n_columns, n_tail)
        Of all states.
    states : ndarray of shape (n_chosen,), intp
        Which states.
    rows, columns : ndarray of shape (n_chosen, n_rows) or (n_chosen, n_columns), or None
        Where each row and column comes from; None leaves them where they are.

    Returns
    -------
    ndarray of shape (n_chosen, n_rows, n_columns, n_tail)
        A copy.
    """
    if columns is None:
        return values[states] if rows is None else values[states[:, None], rows]
    if rows is None:
        rows = np.arange(values.shape[1])[None, :]
    return values[states[:, None, None], rows[:, :, None], columns[:, None, :]]


@dataclass(frozen=True)
class PermutationSymmetry:
    """The permutations of hidden neurons and channels that leave a network's function as it is.

    Permutations are lists with one array of shape (n_states, size) for each entry of ``sizes``; neuron ``j`` of a
    permuted state is neuron ``permutation[j]`` of the state before.

    Attributes
    ----------
    layout : WeightLayout
        Of the weight vectors.
    sizes : tuple of int
        How many neurons each permutation orders; empty where there is nothing to permute.
    parts : tuple of Part
        The tensors that move, in the order of the weight vector.
    """

    layout: WeightLayout
    sizes: tuple[int, ...]
    parts: tuple[Part, ...]

    def draw(self, n_states: int, rng: np.random.Generator | np.random.RandomState) -> list[np.ndarray]:
        """Random permutations, each as likely as any other.

        Parameters
        ----------
        n_states : int
            How many of each.
        rng : Generator or RandomState
            Where they come from.

        Returns
        -------
        list of ndarray of shape (n_states, size), intp
        """
        return [rng.random((n_states, size)).argsort(axis=1) for size in self.sizes]

    def columns(self, permutations: Sequence[np.ndarray]) -> np.ndarray:
        """Where the weights of permuted states come from: ``X[i, columns[i]]`` is the i-th one.

        Parameters
        ----------
        permutations : sequence of ndarray of shape (n_states, size)
            One for each of ``sizes``.

        Returns
        -------
        ndarray of shape (n_states, n_weights), intp
            Of one row where there are no permutations.
        """
        n_states = len(permutations[0]) if permutations else 1
        places = np.arange(self.layout.n_weights)
        return self.apply(np.broadcast_to(places, (n_states, len(places))), permutations)

    def apply(self, X: np.ndarray, permutations: Sequence[np.ndarray]) -> np.ndarray:
        """The permuted states.

        Parameters
        ----------
        X : ndarray of shape (n_states, n_weights)
            Weight vectors; they stay as they are.
        permutations : sequence of ndarray of shape (n_states, size)
            One for each of ``sizes``.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X
        """
        result = np.array(X, order="C", subok=False)
        step = max(1, _BLOCK_BYTES // (X.shape[1] * X.itemsize))
        for start in range(0, len(X), step):
            block = slice(start, start + step)
            chosen = [permutation[block] for permutation in permutations]
            for part in self.parts:
                moved = part.permute(part.of(result[block]), chosen)
                result[block, part.tensor.slice] = moved.reshape(len(moved), -1)
        return result


def symmetry_of(layout: WeightLayout) -> PermutationSymmetry:
    """The permutation symmetries of the networks that a layout describes.

    A layout tells shapes and names, not how layers are connected. Understood are chains, whose convolutions, linear
    layers and batch normalisations apply in the order in which they stand, and residual networks whose blocks are named
    as torchvision's are. What a network takes in and what it gives out is never permuted, nor is anything whose reader
    is not part of the layout.

    Parameters
    ----------
    layout : WeightLayout
        Biases and the buffers of batch normalisation may be missing; where they are there, they move too. A layout with
        a single tensor has no symmetry.

    Returns
    -------
    PermutationSymmetry
        Permutations are in the order in which their neurons first appear.

    Raises
    ------
    ValueError
        If the layout is neither a chain nor such a residual network.

    Examples
    --------
    >>> from zoobench import WeightLayout
    >>> from zoobench.estimators.symmetry import symmetry_of
    >>> symmetry_of(WeightLayout.from_architecture("cnn_s")).sizes
    (8, 6, 4, 20)
    """
    if len(layout.tensors) == 1:
        return PermutationSymmetry(layout, (), ())
    axes = wire(layout)
    # Of one neuron there is nothing to permute.
    sizes = {axis.space: axis.size for pair in axes.values() for axis in pair if axis.space and axis.size > 1}
    numbers: dict[str | None, int] = {space: number for number, space in enumerate(sizes)}
    parts = []
    for tensor, (row, column) in axes.items():
        first, second = numbers.get(row.space), numbers.get(column.space)
        if tensor.size and (first is not None or second is not None):
            shape = (row.size, column.size, tensor.size // (row.size * column.size))
            parts.append(Part(tensor, shape, first, second))
    return PermutationSymmetry(layout, tuple(sizes.values()), tuple(sorted(parts, key=lambda part: part.tensor.start)))
