"""What a task looks at: the states of its zoo, and the folds of its protocol."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from zoobench.benchmark.places import Place, Stamp
from zoobench.benchmark.protocols import Fold, folds, selection
from zoobench.datasets_registry.cards import find_card
from zoobench.fetch import fetch_zoo, remedied
from zoobench.layout import WeightLayout
from zoobench.selection import normalise_epochs, select_rows, usable_states, what_to_say
from zoobench.split import with_split
from zoobench.store import read_zoo
from zoobench.warning import warn_user

if TYPE_CHECKING:
    from zoobench.benchmark.tasks import Task


class States(NamedTuple):
    """The states of a zoo that a protocol uses.

    Attributes
    ----------
    weights : ndarray of shape (n_stored, n_weights), float32
        All states that are stored, as a memory map: of those that nobody asks for, nothing is read.
    rows : ndarray of int, shape (n_states,)
        Which of them are used.
    properties : DataFrame of n_states rows
        Property table, with ``split``.
    groups : ndarray of int, shape (n_states,)
        Number of each state's model.
    layout : WeightLayout
        Of the weights.
    """

    weights: np.ndarray
    rows: np.ndarray
    properties: pd.DataFrame
    groups: np.ndarray
    layout: WeightLayout


class Data(NamedTuple):
    """The states that are fitted on, those that judge (the same but in a transfer), and the folds."""

    fit: States
    judge: States
    folds: list[Fold]


def states_of(place: Place, protocol: str, *, tell: bool = False) -> States:
    """The states of a zoo that a protocol uses; a zoo of the registry is fetched where it is not there yet.

    Parameters
    ----------
    place : Place
        Which zoo.
    protocol : str
        Its full name.
    tell : bool, default=False
        Whether to warn of states that cannot be used.

    Returns
    -------
    States
    """
    chosen = selection(protocol)
    card = None if place.folder else find_card(place.name)
    if card and card.bundled is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fetch_zoo(card.name, properties="epoch", epochs=chosen["epochs"], drop_nan=False)
    if card:
        with remedied(card, place.stored):
            contents = read_zoo(place.stored)
    else:
        contents = read_zoo(place.stored)
    table = with_split(contents.properties, "hash")
    peaks = np.asarray(contents.peaks)
    keep, unusable = usable_states(table, peaks, chosen["max_abs_weight"], drop_nan=True)
    said = what_to_say(unusable, True, contents) if tell else ""
    if said:
        warn_user(f"zoo {place.name!r}: {said}")
    rows = select_rows(table, name=place.name, subset="all", epochs=normalise_epochs(chosen["epochs"]), keep=keep)
    used = table.iloc[rows].reset_index(drop=True)
    groups = used["model"].cat.codes.to_numpy().astype(np.int64)
    return States(contents.weights, rows, used, groups, contents.layout)


def load(task: Task) -> Data:
    """What a task looks at, read once a process as long as its zoos do not change.

    Parameters
    ----------
    task : Task
        Which; tasks that differ in their property alone share it.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        If the zoos of a transfer have different layouts.
    """
    places = (task.place,) if task.source is None else (task.place, task.source)
    return _load(places, task.protocol, tuple(place.stamp() for place in places))


@lru_cache(maxsize=2)
def _load(places: tuple[Place, ...], protocol: str, stamps: tuple[Stamp | None, ...]) -> Data:
    judge = states_of(places[0], protocol)
    fit = judge if len(places) == 1 else states_of(places[1], protocol)
    if fit.layout != judge.layout:
        names = f"{places[1].name} has {fit.layout!r} and {places[0].name} {judge.layout!r}"
        raise ValueError(f"{names}, but a transfer needs one layout")
    found = folds(protocol, places[-1].name, fit.properties, None if len(places) == 1 else judge.properties)
    return Data(fit, judge, found)
