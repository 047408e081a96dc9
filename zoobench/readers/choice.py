"""Which epochs a caller asked a reader for."""

from __future__ import annotations

from collections.abc import Iterable

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
