"""A folder in the zoo format that lies in an archive: unpacked beside it, checked byte by byte, and read."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.readers.archive import Archive, Member
from zoobench.readers.choice import EpochChoice, choose_rows
from zoobench.readers.naming import naming, shortened
from zoobench.readers.room import MEMORY, Room
from zoobench.store import INDEX, check_zoo, is_part, read_index, read_zoo
from zoobench.weightfile import blocks_of


def read_packed_zoo(
    archive: Archive,
    *,
    beside: Path,
    choice: EpochChoice,
    keep_model: Callable[[str], bool] | None = None,
    room: Room = MEMORY,
) -> ZooContents:
    """A zoo of the zoo format.

    Parameters
    ----------
    archive : Archive
        Where its files are.
    beside : Path
        The folder to unpack it in, where that may be written to; else it is the system's for temporary files.
    choice : EpochChoice
        Which epochs to take.
    keep_model : callable, optional
        Says by a model's name whether to take it; by default all are.
    room : Room
        Where the weights go.

    Returns
    -------
    ZooContents
        With the name, card, recipe and provenance that the zoo was written with.

    Raises
    ------
    ZooFormatError
        If a file of it is missing or damaged, or the archive holds several zoos.
    UnsafeFileError
        If a member would lie outside the archive's folder, or is a link or a bomb.
    OSError
        If the disk has no room for it.
    ValueError
        If an epoch is asked for that no model has, or ``keep_model`` keeps none.
    """
    with _unpacked(archive, beside) as folder:
        check_zoo(folder)
        contents = read_zoo(folder)
        table = contents.properties
        model = table["model"].cat
        codes, epochs = model.codes.to_numpy().astype(np.int64), table["epoch"].to_numpy()
        rows = choose_rows(model.categories.tolist(), codes, epochs, choice, keep_model)
        weights = room.matrix(len(rows), contents.layout.n_weights)
        for start, stop in blocks_of(weights):
            weights[start:stop] = contents.weights[rows[start:stop]]
            room.complete(min(stop, len(rows)))
        peaks = None if contents.peaks is None else contents.peaks[rows]
        chosen = table.iloc[rows].reset_index(drop=True)
        chosen["model"] = chosen["model"].cat.remove_unused_categories()
        return replace(contents, weights=weights, properties=chosen, peaks=peaks)


@contextmanager
def _unpacked(archive: Archive, beside: Path) -> Iterator[Path]:
    """The zoo's three files in a folder of their own, for as long as the block runs."""
    place = beside if os.access(beside, os.W_OK) else None
    # Where a system keeps a mapped file from being deleted, what is left goes with the next that clears up there.
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=place, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            _unpack(archive, folder)
            yield folder
        except ZooFormatError as error:
            # The folder is gone when the message is read.
            text = str(error).replace(f"{folder}{os.sep}", "").replace(str(folder), "the zoo in it")
            raise type(error)(text) from None


def _unpack(archive: Archive, folder: Path) -> None:
    members = archive.members()
    if not archive.streamed:
        # The index first: it says how large the others are.
        members = iter(sorted(members, key=lambda member: member.name.rpartition("/")[2] != INDEX))
    home: str | None = None
    for member in members:
        parent, _, name = member.name.rpartition("/")
        if not is_part(name):
            continue
        if home is not None and parent != home:
            raise ZooFormatError(
                f"holds several zoos, in {shortened(home) or 'its top folder'!r} and {shortened(parent)!r}; unpack it "
                "and give the folder of one of them"
            )
        home = parent
        with naming(member.name):
            _write(member, folder / name)
    if not (folder / INDEX).is_file():
        raise ZooFormatError(f"holds files of a zoo, but no {INDEX}; pack the zoo's whole folder")


def _write(member: Member, path: Path) -> None:
    """Unpack one file, if it is what the index says and the disk has room."""
    size, folder = member.size(), path.parent
    if path.name != INDEX and (folder / INDEX).is_file():
        expected = {entry["name"]: entry["size"] for entry in read_index(folder)["files"].values()}
        if path.name not in expected:
            return  # left of a zoo that was replaced
        if size != expected[path.name]:
            raise ZooFormatError(f"has {size} bytes, but {expected[path.name]} were written; fetch it again")
    free = shutil.disk_usage(folder).free
    if size > free:
        raise OSError(
            errno.ENOSPC,
            f"its {size} bytes have to be unpacked, but the disk has {free} free; make room, or unpack the archive on "
            "another disk and give the folder",
            str(member.name),
        )
    with path.open("xb") as file:
        for piece in member.pieces():
            file.write(piece)
