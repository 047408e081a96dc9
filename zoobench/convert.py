"""A foreign zoo into the zoo format, whatever its size: the weights go through a file, not through memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.download.disk import one_at_a_time
from zoobench.readers import read_foreign
from zoobench.readers.journal import Journal
from zoobench.readers.room import DiskRoom
from zoobench.selection import largest_weights
from zoobench.store import is_zoo, read_zoo, write_zoo
from zoobench.weightfile import DATA_START, blocks_of

#: Files, in the zoo's folder, of a conversion that is under way: the weights as they are read and the journal that says
#: how far, which a killed conversion leaves to the next; and the weights as they are joined with those before.
_READING, _JOURNAL, _JOINING = ".converting", ".converting.journal", ".joining"

#: After so many bytes of weights the journal is brought up to date. Less is read again in seconds.
JOURNAL_BYTES = 1 << 28


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    epochs: str | tuple[int, ...] | None = None,
    finish: Callable[[ZooContents], ZooContents] = lambda contents: contents,
    add: bool = False,
    member: str | None = None,
) -> ZooContents:
    """Write a foreign zoo to a folder, in the zoo format.

    A conversion of a raw experiment that was killed or interrupted goes on where it was when it is called again, as
    long as the source has not changed. What has to pass by as a whole starts again: compressed tars and other formats.

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
    member : str, optional
        Folder to read, of a source that holds several zoos.

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
    with _scratch(folder):
        # Which states are the last is known when all names have been seen, so the order of rows is not.
        kept = None if epochs == "last" else epochs
        journal = Journal(folder / _JOURNAL, Path(source), every=JOURNAL_BYTES, choice=[kept and list(kept), member])
        with (
            DiskRoom(folder / _READING, DATA_START, None if epochs == "last" else journal) as reading,
            DiskRoom(folder / _JOINING, DATA_START) as joining,
        ):
            contents = finish(read_foreign(source, epochs=epochs, member=member, room=reading))
            room = reading
            if add and is_zoo(folder):
                contents, room = _joined(read_zoo(folder), contents, joining), joining
            # While the checksum, in its own thread, is behind.
            contents = replace(contents, peaks=largest_weights(contents.weights, contents.layout))
            write_zoo(folder, contents, adopt=room.sealed(contents.weights))
    return read_zoo(folder)


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Room for the files of a conversion, for one process at a time; they stay only where the next can go on."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and a zoo is a folder; choose another path")
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / ".converting.lock", f"converting into {folder}"):
        left: tuple[str, ...] = (_READING, _JOURNAL, _JOINING)
        try:
            yield
        except KeyboardInterrupt:
            if (folder / _JOURNAL).exists():
                left = (_JOINING,)
            raise
        finally:
            for name in left:
                (folder / name).unlink(missing_ok=True)
            if created and not is_zoo(folder) and not (folder / _JOURNAL).exists():
                (folder / ".lock").unlink(missing_ok=True)
                (folder / ".converting.lock").unlink(missing_ok=True)
                with suppress(OSError):  # another process may have come
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
    for start, stop in blocks_of(weights):
        rows = order[start:stop]
        old = rows < n_before
        block = weights[start:stop]
        block[old] = before.weights[rows[old]]
        block[~old] = more.weights[fresh[rows[~old] - n_before]]
    return replace(more, properties=table.iloc[order].reset_index(drop=True), weights=weights, peaks=None)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with names as plain strings, so that two with other categories can be joined."""
    names: dict[Any, str] = {name: "object" for name in table if isinstance(table[name].dtype, pd.CategoricalDtype)}
    return table.astype(names)
