"""Protocols: which models a method is fitted on, what it may choose its settings on, and which models judge it.

======================  ============================================================================================
``cv-5x1``              Cross-validation by model: 5 folds, 1 repetition; ``cv-10x3`` has 10 folds and 3 repetitions.
                        Methods choose penalties, or when to stop, on held-out models of their own training part.
``paper``               The zoo's train, val and test parts (Model Zoos, section 4). Methods choose on val. The parts
                        follow from the models' names, and so are the same wherever the zoo came from.
``paper-published``     The same with the parts that the zoo's authors dealt out, of zoos that keep them.
``nfn``                 The last state of each model: half of the models test, a fifth of the others is for choosing;
                        judged by Kendall's tau (NFN, arXiv:2302.14040, section 5).
``transfer-from-ZOO``   Fitted on ZOO's train part, chosen on its val part, and judged on the models of the task's zoo
                        whose names are in neither part: a twin of a model that was learnt from judges nothing. Both
                        zoos have the same layout.
======================  ============================================================================================

States with a weight beyond 5 are left out, as in the paper: among models that are about to diverge, weights of nearly
1e17 occur, and one of them decides what a linear method predicts.

Models are dealt out in the order of a hash of their names: the order of rows changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

DEFAULT_PROTOCOL = "cv-5x1"

#: By the zoo's parts: those that follow from the models' names, and those that its authors dealt out.
PAPER = ("paper", "paper-published")

#: States with a weight beyond this are left out (Model Zoos, section 4).
MAX_ABS_WEIGHT = 5.0


class Fold(NamedTuple):
    """Rows of one fit and its judgement.

    Attributes
    ----------
    train, val, test : ndarray of int
        Rows to fit on; to choose on, empty where the method holds out models itself; to judge on. In a transfer,
        ``test`` are rows of the other zoo.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def check_protocol(protocol: str) -> str:
    """The protocol's full name.

    Parameters
    ----------
    protocol : str
        ``"cv"`` is short for ``"cv-5x1"``; the zoo of a transfer may be a path.

    Returns
    -------
    str
        Of a path, the folder's name is left.

    Raises
    ------
    ValueError
        For an unknown one.

    Examples
    --------
    >>> from zoobench.benchmark.protocols import check_protocol
    >>> check_protocol("cv")
    'cv-5x1'
    """
    if protocol == "cv":
        return DEFAULT_PROTOCOL
    if source := transferred_from(protocol):
        from zoobench.benchmark.places import find_place

        return f"transfer-from-{find_place(source).name}"
    size = _cross_validation(protocol)
    if protocol not in (*PAPER, "nfn") and (size is None or size[0] < 2 or size[1] < 1):
        raise ValueError(
            f"unknown protocol {protocol!r}; there are cv (or cv-FOLDSxREPETITIONS, such as cv-5x1), paper, "
            "paper-published, nfn and transfer-from-ZOO"
        )
    # Seeds come from this name: one protocol has one, whatever zeros stand in front of its numbers.
    return f"cv-{size[0]}x{size[1]}" if size else protocol


def transferred_from(protocol: str) -> str | None:
    """The zoo that a transfer fits on; None for other protocols."""
    return protocol.removeprefix("transfer-from-") if protocol.startswith("transfer-from-") else None


def selection(protocol: str) -> dict[str, Any]:
    """Which states of a zoo a protocol uses, as arguments of ``fetch_zoo``."""
    return {"max_abs_weight": MAX_ABS_WEIGHT, "epochs": "last" if protocol == "nfn" else None}


def n_folds(protocol: str) -> int:
    """How many fits a protocol asks for."""
    size = _cross_validation(protocol)
    return size[0] * size[1] if size else 1


def folds(protocol: str, zoo: str, properties: pd.DataFrame, target: pd.DataFrame | None = None) -> list[Fold]:
    """The rows of every fold.

    Parameters
    ----------
    protocol : str
        Its full name.
    zoo : str
        Name of the zoo that is fitted on: the same models are dealt out otherwise in another zoo.
    properties : DataFrame
        Property table of that zoo, with ``model`` and ``split``.
    target : DataFrame, optional
        Property table of the zoo that judges, in a transfer.

    Returns
    -------
    list of Fold

    Raises
    ------
    ValueError
        If there are too few models.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.protocols import folds
    >>> table = pd.DataFrame({"model": [f"m{i // 2}" for i in range(20)]})
    >>> [len(fold.test) for fold in folds("cv-5x1", "a_zoo", table)]
    [4, 4, 4, 4, 4]
    """
    # Models none of whose states are used are not dealt out.
    model = pd.Categorical(properties["model"]).remove_unused_categories()
    names, codes = [str(name) for name in model.categories], model.codes
    nothing = np.empty(0, dtype=np.intp)
    size = _cross_validation(protocol)
    if size is not None:
        count, repetitions = size
        if len(names) < count:
            raise ValueError(f"{protocol} needs at least {count} models, but {zoo} has {len(names)}")
        found = []
        for repetition in range(repetitions):
            place = _places(names, f"{zoo}/cv/{repetition}") % count
            found += [
                Fold(np.flatnonzero(place[codes] != i), nothing, np.flatnonzero(place[codes] == i))
                for i in range(count)
            ]
        return found
    if protocol == "nfn":
        place = _places(names, f"{zoo}/nfn")
        half = len(names) // 2
        learned = half - half // 5
        parts = np.where(place < learned, 0, np.where(place < half, 1, 2))[codes]
        rows = [np.flatnonzero(parts == i) for i in range(3)]
    elif protocol in PAPER or target is not None:
        split = properties["split"].to_numpy()
        rows = [np.flatnonzero(split == part) for part in ("train", "val", "test")]
        if target is not None:
            seen = set(properties["model"].iloc[np.concatenate(rows[:2])])
            rows[2] = np.flatnonzero(~target["model"].isin(seen).to_numpy())
    else:
        raise ValueError(f"unknown protocol {protocol!r}")
    for part, found_rows in zip(("train", "val", "test"), rows, strict=True):
        if not len(found_rows):
            raise ValueError(f"{protocol} needs models of {zoo} to {part} with, and there are none; use more models")
    return [Fold(*rows)]


def seed_of(*names: object) -> int:
    """A seed from names: the same for the same names, whatever else is run.

    Examples
    --------
    >>> from zoobench.benchmark.protocols import seed_of
    >>> seed_of("digits_cnn_s_seed", "cv-5x1", 0) == seed_of("digits_cnn_s_seed", "cv-5x1", 0)
    True
    """
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1  # a C long everywhere


def _cross_validation(protocol: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"cv-([0-9]+)x([0-9]+)", protocol)
    return (int(match[1]), int(match[2])) if match else None


def _places(names: list[str], salt: str) -> np.ndarray:
    """The place of each name in an order that a hash decides."""
    digests = [hashlib.blake2b(f"{salt}/{name}".encode(), digest_size=16).digest() for name in names]
    places = np.empty(len(names), dtype=np.intp)
    places[sorted(range(len(names)), key=digests.__getitem__)] = np.arange(len(names))
    return places
