"""Random permutations of neurons: the same networks as other weight vectors."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from zoobench.estimators.symmetry import symmetry_of
from zoobench.layout import WeightLayout, resolve_layout

#: States are turned into permutations some at a time, so that memory does not grow with their number.
_BLOCK_BYTES = 1 << 24


class NeuronPermutation(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Random order of hidden neurons and channels: other weights, the same function.

    The neurons of a hidden layer have no natural order. Whoever exchanges two of them, with all that leads to them and
    from them, has another weight vector of the very same network. This transformer gives every state such an order of
    its own: to augment training data, and to test whether a method depends on what means nothing.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer, in which nothing is permuted. The layout has to be
        a chain of layers, or a residual network with torchvision's names.
    random_state : int, RandomState instance or None, default=42
        Which permutations. Another one gives another view of the same states.

    Attributes
    ----------
    layout_ : WeightLayout
        The layout that was resolved for X.
    seed_ : int
        What ``random_state`` came to.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    zoobench.estimators.PermutationAligner : Orders the neurons of all states alike.

    Notes
    -----
    A state's permutation is drawn from its own weights (as float32) and the seed, not from its row number: a state
    comes out the same alone, in any batch and in any order, and equal states come out equal. For several views of one
    state, use several values of ``random_state``.

    float32 stays float32 and float64 stays float64. Computing takes O(n_states x n_weights).

    References
    ----------
    .. [1] Hecht-Nielsen, R., "On the algebraic structure of feedforward network weight spaces", Advanced Neural
       Computers 1990, which describes the symmetry.
    .. [2] Schürholt, K., et al., "Self-Supervised Representation Learning on Neural Network Weights for Model
       Characteristic Prediction", NeurIPS 2021, section 3, which uses it to augment data.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import NeuronPermutation, WeightStatistics
    >>> X = np.random.default_rng(0).normal(size=(3, 2464))
    >>> views = [NeuronPermutation("cnn_s", random_state=seed).fit_transform(X) for seed in range(5)]
    >>> statistics = WeightStatistics("cnn_s").fit(X)
    >>> [bool((view == X).all()) for view in views]
    [False, False, False, False, False]
    >>> bool(np.allclose(statistics.transform(views[0]), statistics.transform(X)))
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "layout": [WeightLayout, str, None],
        "random_state": ["random_state"],
    }

    def __init__(self, layout: WeightLayout | str | None = None, *, random_state: Any = 42) -> None:
        self.layout = layout
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> NeuronPermutation:
        """Resolve layout and seed; nothing is learnt from the values.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        NeuronPermutation
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, or its symmetries cannot be told.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        layout = resolve_layout(self.layout, X.shape[1])
        symmetry_of(layout)  # fails here rather than in `transform`
        self.layout_ = layout
        self.seed_ = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The permuted states.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors; they stay as they are.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        symmetry = symmetry_of(self.layout_)
        bits = _random_bits(X, sum(symmetry.sizes), self.seed_)
        ends = np.cumsum((0, *symmetry.sizes))
        permutations = [bits[:, start:stop].argsort(axis=1) for start, stop in pairwise(ends)]
        return symmetry.apply(X, permutations)


def _random_bits(X: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Random numbers of shape (n_states, n), uint64, that depend on nothing but a state's weights and the seed."""
    factors = np.random.default_rng(seed).integers(1 << 64, size=X.shape[1], dtype=np.uint64)
    # A product with random factors modulo 2^64 tells states apart; one such sum a state, for all states at once.
    sums = np.empty(len(X), dtype=np.uint64)
    step = max(1, _BLOCK_BYTES // (X.shape[1] * 8))
    with np.errstate(over="ignore"):  # larger than float32: infinite, which is as good a number as others here
        for start in range(0, len(X), step):
            # Adding 0 makes -0 the 0 that it equals.
            weights = X[start : start + step].astype(np.float32) + np.float32(0)
            sums[start : start + step] = weights.view(np.uint32).astype(np.uint64) @ factors
    # A counter mixed by SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", 2014).
    bits = sums[:, None] + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))
