"""Which epochs a caller asked a reader for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.selection import Epochs, normalise_epochs


class EpochChoice:
    """The epochs asked for.

    Parameters
    ----------
    epochs : None, "last", int or collection of int
        All, each model's last, or these.

    Attributes
    ----------
    last : bool
        Whether each model's last is asked for.
    asked : frozenset of int or None
        The epochs asked for by number, if any.

    Raises
    ------
    ValueError
        If it is none of these.
    """

    def __init__(self, epochs: Epochs) -> None:
        chosen = normalise_epochs(epochs)
        self.last = chosen == "last"
        self.asked = frozenset(chosen) if isinstance(chosen, tuple) else None

    def wants(self, epoch: int) -> bool:
        """Whether states of that epoch may be wanted; with "last" that depends on the model's other epochs."""
        return self.asked is None or epoch in self.asked

    def check(self, available: Iterable[int]) -> None:
        """ValueError if an epoch was asked for that no model has."""
        known = sorted(set(available))
        unknown = sorted((self.asked or frozenset()) - set(known))
        if unknown:
            listed = ", ".join(map(str, known))
            raise ValueError(f"there is no epoch {', '.join(map(str, unknown))}; the available epochs are {listed}")


def choose_rows(
    models: Sequence[str],
    codes: np.ndarray,
    epochs: np.ndarray,
    choice: EpochChoice,
    keep_model: Callable[[str], bool] | None,
) -> np.ndarray:
    """Which states of a table are asked for.

    Parameters
    ----------
    models : sequence of str
        Names.
    codes, epochs : ndarray of shape (n_states,)
        Which of them each state belongs to, and its epoch.
    choice : EpochChoice
        The epochs asked for.
    keep_model : callable or None
        Says by a model's name whether it is asked for; None keeps all.

    Returns
    -------
    ndarray of int64
        Numbers of the states, sorted by epoch and then model.

    Raises
    ------
    ZooFormatError
        If there are no states.
    ValueError
        If an epoch is asked for that no model has, or no model is kept.
    """
    if not len(codes):
        raise ZooFormatError("holds no samples")
    keeps = np.array([keep_model is None or bool(keep_model(model)) for model in models])
    wanted = keeps[codes]
    if not wanted.any():
        raise ValueError(f"none of its {len(models)} models is kept; the first is {models[0]!r}")
    choice.check(np.unique(epochs[wanted]).tolist())
    if choice.asked is not None:
        wanted &= np.isin(epochs, list(choice.asked))
    if choice.last:
        last = np.full(len(models), -1)
        np.maximum.at(last, codes, epochs)
        wanted &= epochs == last[codes]
    rows = np.flatnonzero(wanted)
    sorted_rows: np.ndarray = rows[np.lexsort((codes[rows], epochs[rows]))]
    return sorted_rows
