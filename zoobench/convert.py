"""A foreign zoo into the zoo format, whatever its size: the weights go through a file, not through memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.readers import read_foreign
from zoobench.readers.room import DiskRoom
from zoobench.store import is_zoo, read_zoo, write_zoo
from zoobench.weightfile import BLOCK_BYTES

#: Files, in the zoo's folder, of a conversion that is under way. A killed one is overwritten by the next.
_SCRATCH = (".converting", ".joining")


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    epochs: str | tuple[int, ...] | None = None,
    finish: Callable[[ZooContents], ZooContents] = lambda contents: contents,
    add: bool = False,
) -> ZooContents:
    """Write a foreign zoo to a folder, in the zoo format.

    Parameters
    ----------
    source : path-like
        What :func:`~zoobench.readers.read_foreign` reads.
    out : path-like
        The folder: new, empty, or a zoo, which is replaced when the new one is whole.
    epochs : None, "last" or tuple of int
        States to take.
    finish : callable
        What is to be changed of the contents before they are written: a name, a card, the provenance.
    add : bool, default=False
        Keep the states that the zoo in the folder has already, and add those that it has not.

    Returns
    -------
    ZooContents
        What was written; its weights are a memory map.

    Raises
    ------
    ZooFormatError
        If the source is damaged or no zoo.
    OSError
        If it cannot be read, or the disk is full.
    """
    folder = Path(out)
    with _scratch(folder) as (reading, joining):
        contents = finish(read_foreign(source, epochs=epochs, room=DiskRoom(reading)))
        if add and is_zoo(folder):
            contents = _joined(read_zoo(folder), contents, DiskRoom(joining))
        write_zoo(folder, contents)
    return read_zoo(folder)


@contextmanager
def _scratch(folder: Path) -> Iterator[list[Path]]:
    """Names of two files in the folder, for one process at a time; gone afterwards."""
    from filelock import FileLock

    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and a zoo is a folder; choose another path")
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in _SCRATCH]
    try:
        with FileLock(folder / ".converting.lock"):
            yield paths
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        if created and not is_zoo(folder):
            (folder / ".converting.lock").unlink(missing_ok=True)
            (folder / ".lock").unlink(missing_ok=True)
            folder.rmdir()


def _joined(before: ZooContents, more: ZooContents, room: DiskRoom) -> ZooContents:
    """The states of two parts of one zoo, in (epoch, model) order; of a state that both have, the one before."""
    tables = [_plain(before.properties), _plain(more.properties)]
    key = ["model", "epoch"]
    known = pd.MultiIndex.from_frame(tables[0][key])
    fresh = np.flatnonzero(~pd.MultiIndex.from_frame(tables[1][key]).isin(known))
    table = pd.concat([tables[0], tables[1].iloc[fresh]], ignore_index=True)
    table["model"] = pd.Categorical(table["model"], categories=sorted(table["model"].unique()))
    order = np.lexsort((table["model"].cat.codes, table["epoch"]))
    n_before, n_weights = len(tables[0]), before.layout.n_weights
    weights = room.matrix(len(order), n_weights)
    step = max(1, BLOCK_BYTES // (4 * n_weights))
    for start in range(0, len(order), step):
        rows = order[start : start + step]
        old = rows < n_before
        block = weights[start : start + step]
        block[old] = before.weights[rows[old]]
        block[~old] = more.weights[fresh[rows[~old] - n_before]]
    return replace(more, properties=table.iloc[order].reset_index(drop=True), weights=weights, peaks=None)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names as plain strings, so that two with other categories can be joined."""
    names: dict[Any, str] = {name: "object" for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)}
    return table.astype(names)
