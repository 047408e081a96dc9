"""Weight vectors as sequences of tokens: one neuron's incoming weights and its bias are one token."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from zoobench.layers import LayerSpec, TensorSpec
from zoobench.layout import WeightLayout


class TokenGroup(NamedTuple):
    """Tokens of one size, which share a linear map.

    Attributes
    ----------
    name : str
        Name of the layer, or of the tensor.
    columns : ndarray of shape (n_tokens, size), intp
        Place of each token's numbers in the weight vector.
    """

    name: str
    columns: np.ndarray


class WeightTokens:
    """How a layout's weight vectors are cut into tokens.

    A neuron is one output of a convolution or of a linear layer. Its token is all that leads to it, flattened, and
    its bias behind. Every other tensor is one token as a whole: those of a batch normalisation (scale, shift, running
    mean, running variance, each), and the only tensor of a layout that knows no layers.

    Parameters
    ----------
    layout : WeightLayout
        Which columns belong to which layer.

    Attributes
    ----------
    groups : tuple of TokenGroup
        One a layer of neurons, or one a tensor that is a token, in the order of the weight vector.
    order : ndarray of shape (n_weights,), intp
        Columns of the weight vector, token by token.
    n_tokens : int
        Tokens of all groups.

    Examples
    --------
    >>> from zoobench import WeightLayout
    >>> from zoobench.estimators.tokens import WeightTokens
    >>> tokens = WeightTokens(WeightLayout.from_architecture("cnn_s"))
    >>> [group.columns.shape for group in tokens.groups]
    [(8, 26), (6, 201), (4, 25), (20, 37), (10, 21)]
    """

    def __init__(self, layout: WeightLayout) -> None:
        self.groups = tuple(group for layer in layout.layers for group in _groups_of(layer))
        self.order = np.concatenate([group.columns.ravel() for group in self.groups])
        self.n_tokens = sum(len(group.columns) for group in self.groups)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Number and size of the tokens of each group."""
        return tuple((group.columns.shape[0], group.columns.shape[1]) for group in self.groups)

    def split(self, X: np.ndarray) -> list[np.ndarray]:
        """The tokens of weight vectors.

        Parameters
        ----------
        X : ndarray of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        list of ndarray of shape (n_states, n_tokens, size)
            One array a group.
        """
        return [X[:, group.columns] for group in self.groups]

    def join(self, tokens: list[np.ndarray]) -> np.ndarray:
        """Weight vectors of their tokens: the inverse of :meth:`split`.

        Parameters
        ----------
        tokens : list of ndarray of shape (n_states, n_tokens, size)
            One array a group.

        Returns
        -------
        ndarray of shape (n_states, n_weights)
        """
        X = np.empty((len(tokens[0]), len(self.order)), dtype=tokens[0].dtype)
        for group, values in zip(self.groups, tokens, strict=True):
            X[:, group.columns] = values
        return X

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each number lies on the sheet whose rows are tokens, both from 0 to 1, in the order of the tokens.

        Returns
        -------
        rows, columns : ndarray of shape (n_weights,), float32
            Middle of the number's row and of its column. A short token's numbers are as far apart as the sheet is wide.
        """
        sizes = np.repeat([size for _, size in self.shapes], [n for n, _ in self.shapes])
        rows = np.repeat((np.arange(self.n_tokens) + 0.5) / self.n_tokens, sizes)
        columns = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
        return rows.astype(np.float32), columns.astype(np.float32)


def _groups_of(layer: LayerSpec) -> list[TokenGroup]:
    weight, bias = layer.weight, layer.bias
    if weight is None or len(weight.shape) < 2:
        return [_whole(tensor) for tensor in layer.tensors if tensor.size]
    n_neurons = weight.shape[0]
    parts = [weight]
    if bias is not None and bias.shape == (n_neurons,):
        parts.append(bias)
    others = [_whole(tensor) for tensor in layer.tensors if tensor not in parts and tensor.size]
    columns = np.concatenate([_columns(tensor).reshape(n_neurons, -1) for tensor in parts if tensor.size], axis=1)
    return [TokenGroup(layer.name, columns), *others]


def _whole(tensor: TensorSpec) -> TokenGroup:
    return TokenGroup(tensor.name, _columns(tensor)[None])


def _columns(tensor: TensorSpec) -> np.ndarray:
    return np.arange(tensor.slice.start, tensor.slice.stop)
