"""One order of neurons for all models of a zoo."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from zoobench.estimators.matching import WeightMatching
from zoobench.estimators.symmetry import PermutationSymmetry, symmetry_of
from zoobench.layout import WeightLayout, resolve_layout

#: Means are summed some states at a time, so that memory does not grow with their number.
_BLOCK_BYTES = 1 << 24


class PermutationAligner(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Order the hidden neurons of every state as a reference orders its own.

    Networks that were trained from different seeds may compute the same and yet lie far apart, because the neurons of
    a layer come in any order. This transformer permutes the neurons and channels of each state so that its weights
    come as close to a reference as they can. What the network computes stays the same, and so do the statistics of
    each tensor; distances, principal components and whatever learns from raw weights change.

    It is the weight matching of Git Re-Basin [1]_: of all permutations, those are sought that maximise the sum of the
    products of a state's weights with the reference's. Given the other layers', the best permutation of one layer
    solves a linear assignment; layers take turns, in random order, until none gains.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer, in which nothing is permuted. The layout has to be
        a chain of layers, or a residual network with torchvision's names.
    reference : "center" or array-like of shape (n_weights,), default="center"
        What states are aligned to. ``"center"`` is the zoo's own: all states are aligned to the one whose norm is the
        median, and to the mean of the aligned ones again and again, because no single model stands for a zoo. An array
        is a state of your choice, such as ``X[0]``.
    n_init : int, default=3
        How many times each state is aligned from another start; the closest result counts. A single start often ends
        near the best permutations only. The first start orders layers from the inputs to the outputs, the second
        one the other way round, and all others at random, with weights that count more or less.
    max_iter : int, default=100
        How many times at most the mean is taken for ``reference="center"``. Where that is too few for ``tol``, a
        ``ConvergenceWarning`` says so.
    tol : float, default=1e-3
        The search for the centre ends once a round lowers the mean squared distance of states to it by no more than
        this share. More rounds change the distance by less than a hundredth on the bundled zoos.
    random_state : int, RandomState instance or None, default=42
        Order in which layers take turns, and the starts after the second.

    Attributes
    ----------
    reference_ : ndarray of shape (n_weights,), float64
        What states are aligned to.
    n_iter_ : int
        How many times the mean was taken for it; 0 where the reference was given.
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
    zoobench.estimators.NeuronPermutation : The opposite: a random order for each state.

    Notes
    -----
    A state's result depends on the reference alone, not on the states around it nor on the order in which its own
    neurons came: all permuted copies of a state come out equal. Exceptions are neurons between which float64 cannot
    tell, such as those of a layer whose weights are all equal or of a model that has diverged.

    All tensors that a permutation moves count, the statistics of batch normalisation among them. A mean is drawn to
    large numbers: leave diverged models out, for example by ``max_abs_weight`` of :func:`zoobench.fetch_zoo`.

    States of one training run are aligned one by one as well; if they are to keep one order over the epochs, align the
    last state only, and permute the others likewise.

    Matching a state takes O(n_init x turns x (n_weights x width + width^3)), where width is that of the widest layer;
    all states are matched together. float32 stays float32 and float64 stays float64; products are summed in float64.

    References
    ----------
    .. [1] Ainsworth, S., Hayase, J. and Srinivasa, S., "Git Re-Basin: Merging Models modulo Permutation Symmetries",
       ICLR 2023, arXiv:2209.04836, section 3.2. Its MergeMany alternates matching and averaging as the search for the
       centre does here.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import NeuronPermutation, PermutationAligner
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> aligned = PermutationAligner(zoo.layout).fit_transform(zoo.data)
    >>> bool(aligned.var(axis=0).sum() < zoo.data.var(axis=0).sum())
    True
    >>> A = zoo.data[:1]
    >>> permuted = NeuronPermutation(zoo.layout).fit_transform(A)
    >>> bool((PermutationAligner(zoo.layout, reference=A[0]).fit_transform(permuted) == A).all())
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "layout": [WeightLayout, str, None],
        "reference": [StrOptions({"center"}), "array-like"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        layout: WeightLayout | str | None = None,
        *,
        reference: Any = "center",
        n_init: int = 3,
        max_iter: int = 100,
        tol: float = 1e-3,
        random_state: Any = 42,
    ) -> None:
        self.layout = layout
        self.reference = reference
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> PermutationAligner:
        """Find the reference.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors. Only their number of columns matters where the reference is given.
        y : None
            Ignored.

        Returns
        -------
        PermutationAligner
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, its symmetries cannot be told, or the reference is not
            one state of finite numbers.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        layout = resolve_layout(self.layout, X.shape[1])
        symmetry = symmetry_of(layout)
        self.seed_ = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        if isinstance(self.reference, str):
            self.reference_, self.n_iter_ = self._center(X, symmetry)
        else:
            self.reference_, self.n_iter_ = _check_reference(self.reference, X.shape[1]), 0
        self.layout_ = layout
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The aligned states.

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
        return symmetry.apply(X, WeightMatching(symmetry, self.reference_, self.seed_).best(X, self.n_init))

    def _center(self, X: np.ndarray, symmetry: PermutationSymmetry) -> tuple[np.ndarray, int]:
        """The mean of the aligned states, and how many times it was taken."""
        norms = np.concatenate([np.vecdot(X[rows], X[rows], dtype=np.float64) for rows in _blocks(X)])
        median = np.argsort(norms, kind="stable")[len(X) // 2]
        permutations = WeightMatching(symmetry, X[median], self.seed_).best(X, self.n_init)
        center, n_iter = _mean(X, permutations, symmetry), 1
        # Permutations leave norms as they are, so that this is the mean squared distance to the centre.
        distance = norms.mean() - center @ center
        converged = not symmetry.sizes
        while not converged and n_iter < self.max_iter:
            permutations = WeightMatching(symmetry, center, self.seed_).refine(X, permutations)
            center, n_iter = _mean(X, permutations, symmetry), n_iter + 1
            before, distance = distance, norms.mean() - center @ center
            converged = before - distance <= self.tol * before
        if not converged:
            warnings.warn(
                f"the centre was still moving after max_iter={self.max_iter} rounds; give a larger max_iter, or a "
                f"larger tol than {self.tol}",
                ConvergenceWarning,
                stacklevel=4,
            )
        return center, n_iter


def _blocks(X: np.ndarray) -> list[slice]:
    step = max(1, _BLOCK_BYTES // (X.shape[1] * 8))
    return [slice(start, start + step) for start in range(0, len(X), step)]


def _mean(X: np.ndarray, permutations: list[np.ndarray], symmetry: PermutationSymmetry) -> np.ndarray:
    """Mean of the permuted states, in float64."""
    total = np.zeros(X.shape[1])
    for rows in _blocks(X):
        total += symmetry.apply(X[rows], [permutation[rows] for permutation in permutations]).sum(axis=0, dtype=float)
    return total / len(X)


def _check_reference(reference: Any, n_weights: int) -> np.ndarray:
    vector = check_array(reference, ensure_2d=False, dtype=np.float64, copy=True, input_name="reference")
    if vector.shape != (n_weights,):
        raise ValueError(
            f"reference has shape {vector.shape}, but one state of shape {(n_weights,)} was expected, such as X[0]"
        )
    return vector
