"""A zoo by name, and the list of names."""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from zoobench.datahome import get_data_home
from zoobench.datasets_registry.cards import Card, find_card, read_cards
from zoobench.errors import ZooFormatError
from zoobench.loading import load_zoo
from zoobench.selection import Epochs, check_subset, normalise_epochs
from zoobench.store import is_zoo


def fetch_zoo(
    name: str,
    *,
    variant: str | None = None,
    subset: str = "all",
    epochs: Epochs = None,
    properties: str | Sequence[str] = "test_acc",
    max_abs_weight: float | None = None,
    drop_nan: bool = True,
    max_bytes: int | str = "10 GB",
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    n_retries: int = 3,
    delay: float = 1.0,
    keep_original: bool = False,
) -> Any:
    """Load a zoo by name, and download it first where it is not on this machine.

    A bundled zoo is there from the start. Any other is fetched once, converted to the zoo format, and from then on a
    memory map that opens in milliseconds. Of a zoo of which only some epochs are asked for, only those are transferred
    where its host allows it; others are added to it when they are asked for.

    Parameters
    ----------
    name : str
        Name of a zoo, with its variant (``"digits_cnn_s_hyp_rand"``) or without (``"digits_cnn_s"``). See
        :func:`~zoobench.list_zoos`.
    variant : {"seed", "hyp_rand", "hyp_fix"}, optional
        The variant, where the name has none: ``"seed"`` by default.
    subset : {"train", "val", "test", "all"}, default="all"
        Part of the split: 70/15/15 by model, from a hash of the model's name.
    epochs : int, sequence of int, "last" or None, default=None
        States to take; None takes all, ``"last"`` each model's last.
    properties : str or sequence of str, default="test_acc"
        The target: a property (1-D), a list of them (2-D), or ``"all"`` for every measured property and
        hyper-parameter except the seed (numeric ones only, unless ``as_frame``).
    max_abs_weight : float, optional
        Leave out states with a weight beyond this bound; the paper's benchmark uses 5.
    drop_nan : bool, default=True
        Leave out states with NaN or infinite weights and states without any result, and say how many in a warning.
    max_bytes : int or str, default="10 GB"
        Refuse to transfer more: bytes, or text such as ``"500 MB"``.
    data_home : path-like, optional
        Folder of downloaded zoos; see :func:`~zoobench.get_data_home`.
    download_if_missing : bool, default=True
        Whether to download what is not on this machine; otherwise that is an error.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of the zoo.
    as_frame : bool, default=False
        ``data`` and ``target`` as pandas objects; refused above 100,000 weights.
    n_retries : int, default=3
        Further attempts after a request that failed for a reason that may pass.
    delay : float, default=1.0
        Seconds before the first further attempt, doubled for each one after it.
    keep_original : bool, default=False
        Keep what is downloaded beside the converted zoo, in ``.raw`` of the data folder. Epochs that are asked for
        later come from there, if they are in it.

    Returns
    -------
    Zoo, or (data, target)

    Raises
    ------
    ValueError
        For an unknown name or variant, with close matches; for an unknown subset, epoch or property; where more than
        ``max_bytes`` would be transferred; for a negative ``n_retries`` or ``delay``.
    ZooFormatError
        If the stored zoo is damaged, or of another version of the format.
    OSError
        If the zoo is not on this machine and cannot or may not be downloaded, or the data folder cannot be written to:
        the addresses, the folder and the command are named. :class:`~zoobench.OfflineError` where no connection
        came about, :class:`~zoobench.NoSpaceError` where the disk has no room.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> X, y = fetch_zoo("digits_cnn_s", epochs="last", return_X_y=True)
    >>> X.shape, y.shape
    ((200, 2464), (200,))
    """
    card = find_card(name, variant)
    check_subset(subset)
    wanted, limit = normalise_epochs(epochs), parse_bytes(max_bytes)
    if isinstance(n_retries, bool) or not isinstance(n_retries, numbers.Integral) or n_retries < 0:
        raise ValueError(f"n_retries must be a whole number from 0 on, not {n_retries!r}")
    if isinstance(delay, bool) or not isinstance(delay, numbers.Real) or not 0 <= delay < math.inf:
        raise ValueError(f"delay must be a number of seconds from 0 on, not {delay!r}")
    folder = stored_at(card, data_home)
    if card.bundled is None:
        # Only now: what downloads takes longer to import than a stored zoo takes to open.
        from zoobench.acquire import acquire, missing_epochs

        with remedied(card, folder):
            missing = missing_epochs(card, folder, wanted)
        if missing != ():
            if not download_if_missing:
                raise _missing(card, folder)
            acquire(
                card,
                folder,
                missing,
                max_bytes=limit,
                n_retries=int(n_retries),
                delay=float(delay),
                keep_original=keep_original,
            )
    with remedied(card, folder):
        return load_zoo(
            folder,
            subset=subset,
            epochs=epochs,
            properties=properties,
            max_abs_weight=max_abs_weight,
            drop_nan=drop_nan,
            return_X_y=return_X_y,
            as_frame=as_frame,
        )


@contextmanager
def remedied(card: Card, folder: Path) -> Iterator[None]:
    """What a user can do about a stored zoo that cannot be read, added to the error that says why."""
    try:
        yield
    except ZooFormatError as error:
        remedy = (
            f"or delete the folder {folder}, and `zoobench fetch {card.name}` fetches the zoo again"
            if card.bundled is None
            else "or install zoobench again"
        )
        raise type(error)(f"{error}; {remedy}") from error


def stored_at(card: Card, data_home: str | os.PathLike[str] | None = None) -> Path:
    """The folder that a zoo lies in, or would lie in: the package's, or one of the data folder."""
    return card.bundled or get_data_home(data_home) / card.name


def parse_bytes(text: int | str) -> int:
    """A number of bytes from a number, or from text such as ``"500 MB"``; ValueError for anything else."""
    if isinstance(text, str):
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?)B?\s*", text)
        if match:
            return int(float(match[1]) * 1000 ** " kMGT".index(match[2] or " "))
    elif not isinstance(text, bool) and text >= 0:
        return int(text)
    raise ValueError(f"max_bytes must be a number of bytes, or text such as '500 MB' or '10 GB', not {text!r}")


def _missing(card: Card, folder: Path) -> OSError:
    from zoobench.acquire import what_is_missing

    sources = ", ".join(source.address for source in card.sources)
    return FileNotFoundError(
        f"{what_is_missing(card, folder)}. `zoobench fetch {card.name}` downloads it from {sources}"
    )


def list_zoos(
    *,
    dataset: str | None = None,
    architecture: str | None = None,
    variant: str | None = None,
    cached: bool | None = None,
) -> pd.DataFrame:
    """The zoos that :func:`~zoobench.fetch_zoo` knows.

    Parameters
    ----------
    dataset, architecture, variant : str, optional
        Only zoos of that dataset, architecture or variant.
    cached : bool, optional
        Only zoos that are (True) or are not (False) on this machine.

    Returns
    -------
    DataFrame
        Columns ``name``, ``dataset``, ``architecture``, ``variant``, ``n_models``, ``n_epochs``, ``n_weights``,
        ``source``, ``cached`` and ``licence``; one zoo a row. Counts that are not known, or differ between the models,
        are missing. ``source`` is the kind of the best source, with a remark where zoobench cannot read any yet.

    Raises
    ------
    ValueError
        If nothing of the registry has that dataset, architecture or variant: what there is, is named.

    Examples
    --------
    >>> from zoobench import list_zoos
    >>> list_zoos(dataset="digits")[["name", "n_models", "n_epochs"]]
                           name  n_models  n_epochs
    0     digits_cnn_s_hyp_rand       256         5
    1         digits_cnn_s_seed       200         3
    2  digits_cnn_s_seed_sparse       100         4
    """
    table = pd.DataFrame(
        [
            {
                "name": card.name,
                "dataset": card.dataset,
                "architecture": card.architecture,
                "variant": card.variant,
                "n_models": card.n_models,
                "n_epochs": None if card.epochs is None else len(card.epochs),
                "n_weights": card.n_weights,
                "source": card.sources[0].kind + ("" if card.readable else " (no reader yet)"),
                "cached": is_zoo(stored_at(card)),
                "licence": card.licence,
            }
            for card in read_cards().values()
        ]
    ).astype({"n_models": "Int64", "n_epochs": "Int64", "n_weights": "Int64"})
    for column, wanted in (("dataset", dataset), ("architecture", architecture), ("variant", variant)):
        if wanted is not None:
            if wanted not in set(table[column]):
                known = ", ".join(sorted(set(table[column])))
                raise ValueError(f"no zoo has {column} {wanted!r}; there is {known}")
            table = table[table[column] == wanted]
    if cached is not None:
        table = table[table["cached"] == cached]
    return table.reset_index(drop=True)
