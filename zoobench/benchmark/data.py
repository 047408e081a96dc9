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
from zoobench.errors import ZooFormatError
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
    """What a task looks at.

    Attributes
    ----------
    fit, judge : States
        The states that are fitted on, and those that judge: the same but in a transfer.
    folds : list of Fold
        The folds.
    digest : str
        Checksums of the weights and properties that these are, the judging zoo's first.
    """

    fit: States
    judge: States
    folds: list[Fold]
    digest: str


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
    published = protocol == "paper-published"
    if published and "split_published" not in contents.properties:
        raise ValueError(f"{place.name} does not keep the parts that its authors dealt out; use the protocol paper")
    table = with_split(contents.properties, "published" if published else "hash")
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
        If the zoos of a transfer have different layouts, or there are too few models.
    ZooFormatError
        If a zoo is damaged, or replaced meanwhile.
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
    digest = " ".join(place.digest() for place in places)
    for place, stamp in zip(places, stamps, strict=True):
        if stamp not in (None, place.stamp()):  # None: it has just been fetched
            raise ZooFormatError(f"zoo {place.name!r} was replaced while it was read; run again")
    return Data(fit, judge, found, digest)


def is_known(values: pd.Series) -> np.ndarray:
    """Which values of a property can be learnt from and judged by: those that are neither missing nor infinite."""
    return (values.notna() & ~values.isin([np.inf, -np.inf])).to_numpy(dtype=bool)
