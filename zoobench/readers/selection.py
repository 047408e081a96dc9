"""Which epochs a caller asked a reader for."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable
from typing import Literal

Epochs = Literal["last"] | Collection[int] | None


class EpochChoice:
    """The epochs asked for.

    Parameters
    ----------
    epochs : None, "last" or collection of int
        All, each model's last, or these.

    Raises
    ------
    ValueError
        If it is none of these.
    """

    def __init__(self, epochs: Epochs) -> None:
        self.last = isinstance(epochs, str) and epochs == "last"
        self.asked: frozenset[int] | None = None
        if epochs is None or self.last:
            return
        try:
            self.asked = frozenset(operator.index(epoch) for epoch in epochs)  # type: ignore[arg-type]
        except TypeError:
            raise ValueError(f"epochs must be None, 'last' or integers, not {epochs!r}") from None
        if not self.asked:
            raise ValueError("epochs names no epoch; leave it None for all of them")

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
