"""What every reader yields and every writer takes: a zoo's rows, before anybody selects from them, and their source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from zoobench.layout import WeightLayout

#: What a card has to hold to be shown.
DESCRIBED = ("title", "description", "licence", "citation")


@dataclass
class ZooContents:
    """All rows of a zoo, in (epoch, model) order.

    Attributes
    ----------
    name : str
        The zoo's name; of a foreign file, the name of the experiment or of the file.
    weights : ndarray of shape (n_states, n_weights), float32
        One checkpoint a row. States with NaN weights are included: selection drops them.
    properties : DataFrame of n_states rows
        Columns ``model`` (categorical; its categories stand in the zoo's own order of models), ``epoch`` (int32),
        ``split_published`` (categorical; only where the source has a split), and canonical properties: numbers as
        float64 with NaN for missing (``seed`` int64 where none is missing), names as categoricals.
    layout : WeightLayout
        Canonical (see :meth:`WeightLayout.canonical`).
    filenames : list of str
        The files that the rows came from.
    provenance : dict
        How the rows came to be, as plain data: source, reader, counts of what was left out.
    card : dict or None
        The registry's description, as plain data.
    recipe : dict or None
        What trained the zoo, as plain data.
    left_out : dict of str to int
        Reason -> number of states that the reader could not give. Whoever loads says it once.
    peaks : ndarray of shape (n_states,), float32, or None
        Largest absolute weight of each state, NaN where a weight is NaN; None where nobody has looked yet.
    noticed : dict of str to int
        What else was wrong with the source, and how often: nothing was left out for it.
    """

    name: str
    weights: np.ndarray
    properties: pd.DataFrame
    layout: WeightLayout
    filenames: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    peaks: np.ndarray | None = None
    noticed: dict[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """The zoo in words, with licence and citation where the registry knows it."""
        if not self.card:
            return f"{self.name}: a zoo that is not from the registry"
        lines = [f"{self.name}: {self.card['title']}", "", str(self.card["description"]).strip(), ""]
        return "\n".join([*lines, f"Licence: {self.card['licence']}", f"Citation: {self.card['citation']}"])


@dataclass(frozen=True)
class ZooSource:
    """Where a zoo's rows can be read again: what a pickled :class:`~zoobench.Zoo` stores instead of its weights.

    Attributes
    ----------
    reopen : callable
        A module-level function that takes ``arguments`` and yields the same :class:`ZooContents`.
    arguments : tuple
        Plain data: the path, what was read of it, and what tells whether it has changed since.
    """

    reopen: Callable[..., ZooContents]
    arguments: tuple[Any, ...]
