"""Weight matching: the order of neurons in which states come closest to a reference, for many states at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from zoobench.estimators.symmetry import Part, PermutationSymmetry, gather

#: States are matched a few at a time, which keeps them in the cache while layers take turns.
_BLOCK_BYTES = 1 << 22

#: An assignment has to be better by more than this share of the largest product: what is less is rounding.
_MIN_GAIN = 1e-12

#: Turns of all permutations after which a start ends in any case; usually five to ten are enough.
_MAX_TURNS = 100


class WeightMatching:
    """Git Re-Basin's weight matching to one reference.

    Sought is the order of neurons in which the sum of the products of a state's weights with the reference's is
    largest, which is that in which their distance is smallest. One permutation after the other is set to the solution
    of a linear assignment, given the others, until none of them gains.

    Parameters
    ----------
    symmetry : PermutationSymmetry
        Of the states.
    reference : ndarray of shape (n_weights,)
        What they are matched to.
    seed : int
        Of the order in which permutations take turns. It is the same for all states: what is found for one does not
        depend on the others.
    """

    def __init__(self, symmetry: PermutationSymmetry, reference: np.ndarray, seed: int) -> None:
        self.symmetry = symmetry
        self.seed = seed
        self._numbers = range(len(symmetry.sizes))
        #: Which parts each permutation moves.
        self._moved = [
            [i for i, part in enumerate(symmetry.parts) if k in (part.row, part.column)] for k in self._numbers
        ]
        whole = reference[None].astype(np.float64)
        self._reference = [part.of(whole)[0] for part in symmetry.parts]

    def best(self, X: np.ndarray, n_init: int) -> list[np.ndarray]:
        """The best of the permutations that several starts lead to.

        Parameters
        ----------
        X : ndarray of shape (n_states, n_weights)
            Weight vectors.
        n_init : int
            How many starts. No start uses the order that neurons have in X: permuted states, which are the same
            networks, end in the same order, unless neurons are equal.

        Returns
        -------
        list of ndarray of shape (n_states, size), intp
        """
        found = self._room(len(X))
        if not found:
            return found
        for rows, block in self._blocks(X):
            runs = [self._run(block, start) for start in range(n_init)]
            winners = np.argmax([products for _, products in runs], axis=0)
            for k, array in enumerate(found):
                array[rows] = np.array([permutations[k] for permutations, _ in runs])[winners, np.arange(len(winners))]
        return found

    def refine(self, X: np.ndarray, permutations: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Permutations that are no worse than those given, and that no other choice for one layer improves.

        Parameters
        ----------
        X : ndarray of shape (n_states, n_weights)
            Weight vectors.
        permutations : sequence of ndarray of shape (n_states, size)
            Where to start.

        Returns
        -------
        list of ndarray of shape (n_states, size), intp
        """
        found = self._room(len(X))
        for rows, block in self._blocks(X):
            chosen = [permutation[rows].copy() for permutation in permutations]
            tensors = [part.permute(part.of(block), chosen) for part in self.symmetry.parts]
            self._take_turns(tensors, chosen, np.random.default_rng(self.seed))
            for array, permutation in zip(found, chosen, strict=True):
                array[rows] = permutation
        return found

    def _room(self, n_states: int) -> list[np.ndarray]:
        return [np.empty((n_states, size), dtype=np.intp) for size in self.symmetry.sizes]

    def _blocks(self, X: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        step = max(1, _BLOCK_BYTES // (X.shape[1] * 8))
        for start in range(0, len(X), step):
            # In float64, so that rounding neither makes gains nor hides them.
            yield slice(start, start + step), X[start : start + step].astype(np.float64)

    def _run(self, block: np.ndarray, start: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Permutations from one start, and the product with the reference that each state reaches."""
        rng = np.random.default_rng([self.seed, start])
        everybody = np.arange(len(block))
        permutations = [np.tile(np.arange(size), (len(block), 1)) for size in self.symmetry.sizes]
        tensors = [part.of(block).copy() for part in self.symmetry.parts]
        # From the inputs to the outputs, then the other way round, then from both sides with weights that count more
        # or less at random: in nets of few layers, another order alone would end where others did.
        reference = self._reference
        if start > 1:
            reference = [wanted * rng.exponential(size=wanted.shape) for wanted in reference]
        known: set[int] = set()
        while len(known) < len(self._numbers):
            unknown = [k for k in self._numbers if k not in known]
            ready = [k for k in unknown if self._is_ready(k, known)] or unknown
            k = ready[0] if start == 0 else ready[-1] if start == 1 else int(rng.choice(ready))
            self._assign(k, tensors, permutations, everybody, reference, known)
            known.add(k)
        self._take_turns(tensors, permutations, rng)
        products = [np.vecdot(r.ravel(), t.reshape(len(t), -1)) for r, t in zip(self._reference, tensors, strict=True)]
        return permutations, np.sum(products, axis=0)

    def _is_ready(self, k: int, known: set[int]) -> bool:
        """Whether neurons have weights, not biases alone, to or from neurons whose order is known."""
        parts = [self.symmetry.parts[i] for i in self._moved[k]]
        return any(len(part.tensor.shape) > 1 and _other(part, k) in (known | {None}) for part in parts)

    def _take_turns(self, tensors: list[np.ndarray], permutations: list[np.ndarray], rng: np.random.Generator) -> None:
        """Improve one permutation after the other until none gains, in place."""
        due = np.ones((len(tensors[0]), len(self._numbers)), dtype=bool)
        for _ in range(_MAX_TURNS):
            for k in rng.permutation(len(self._numbers)):
                states = np.flatnonzero(due[:, k])
                if not len(states):
                    continue
                due[:, k] = False
                changed = self._assign(k, tensors, permutations, states, self._reference)
                for i in self._moved[k]:
                    other = _other(self.symmetry.parts[i], k)
                    if other is not None:
                        due[changed, other] = True
            if not due.any():
                return

    def _assign(
        self,
        k: int,
        tensors: list[np.ndarray],
        permutations: list[np.ndarray],
        states: np.ndarray,
        reference: list[np.ndarray],
        known: set[int] | None = None,
    ) -> np.ndarray:
        """Set a permutation of some states to the best one, given the others, in place; returns which states changed.

        Parts that run over neurons whose order is not known yet do not count; None stands for all are known.
        """
        products = self._products(k, tensors, states, reference, known)
        best = np.array([linear_sum_assignment(matrix, maximize=True)[1] for matrix in products], dtype=np.intp)
        best = best.reshape(products.shape[:2])
        reached = np.take_along_axis(products, best[:, :, None], axis=2).sum(axis=(1, 2))
        gains = reached - np.trace(products, axis1=1, axis2=2)
        better = gains > _MIN_GAIN * np.abs(products).max(axis=(1, 2), initial=0)
        changed, best = states[better], best[better]
        if len(changed):
            permutations[k][changed] = np.take_along_axis(permutations[k][changed], best, axis=1)
            for i in self._moved[k]:
                rows, columns = (best, None) if self.symmetry.parts[i].row == k else (None, best)
                tensors[i][changed] = gather(tensors[i], changed, rows, columns)
        return changed

    def _products(
        self,
        k: int,
        tensors: list[np.ndarray],
        states: np.ndarray,
        reference: list[np.ndarray],
        known: set[int] | None,
    ) -> np.ndarray:
        """What each neuron of the reference, row by row, would gain by each of a state's neurons."""
        size = self.symmetry.sizes[k]
        total = np.zeros((len(states), size, size))
        for i in self._moved[k]:
            part, wanted = self.symmetry.parts[i], reference[i]
            if known is not None and _other(part, k) not in (known | {None}):
                continue
            found = tensors[i] if len(states) == len(tensors[i]) else tensors[i][states]
            if part.column == k:
                wanted, found = wanted.swapaxes(0, 1), found.swapaxes(1, 2)
            # One product of matrices a state, the same whatever other states there are: rounding has to be, too.
            total += wanted.reshape(size, -1) @ found.reshape(len(states), size, -1).swapaxes(1, 2)
        return total


def _other(part: Part, k: int) -> int | None:
    """The permutation that moves a part besides the k-th, if one does."""
    return part.column if part.row == k else part.row
