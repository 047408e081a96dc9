"""What an archive holds, told by the names of its members as they pass by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

from zoobench.errors import ZooFormatError
from zoobench.readers.archive import Archive, Member
from zoobench.readers.experiment import PLACE
from zoobench.readers.naming import shortened
from zoobench.readers.small_cnn_tables import PARTS
from zoobench.store import is_part

Kind = Literal["zoo", "experiment", "small_cnn_zoo", "dataset_pt"]

#: How many folders an error shows.
_SHOWN = 12


class Inspected:
    """An archive whose first members have been looked at, which are given again.

    Parameters
    ----------
    archive : Archive
        The archive.
    folder : str, optional
        Take only what lies in this folder of it.

    Attributes
    ----------
    kind : {"zoo", "experiment", "small_cnn_zoo", "dataset_pt"}
        What it seems to hold. A raw experiment, too, if nothing is known from the names: its reader says what is
        missing.
    datasets : list of Member
        If it is ``"dataset_pt"``, the preprocessed files in it.

    Raises
    ------
    ZooFormatError
        If it has no such folder, or holds files of torch of which none is known to be a zoo.
    """

    def __init__(self, archive: Archive, folder: str | None = None) -> None:
        self.form, self.streamed = archive.form, archive.streamed
        self.read, self.size, self.pieces = archive.read, archive.size, archive.pieces
        self.check, self.stamp = archive.check, archive.stamp
        self._rest = archive.members() if folder is None else _inside(archive, folder)
        self._seen: list[Member] = []
        self.datasets: list[Member] = []
        self.kind: Kind = self._look()

    def members(self) -> Iterator[Member]:
        """The files, as the archive gives them."""
        return itertools.chain(self._seen, self._rest)

    def _look(self) -> Kind:
        for member in self._rest:
            self._seen.append(member)
            name = member.name.rpartition("/")[2]
            if is_part(name):
                return "zoo"
            if name in PARTS:
                return "small_cnn_zoo"
            if PLACE.fullmatch(member.name):
                return "experiment"
            if name.startswith("dataset") and name.endswith(".pt"):
                self.datasets.append(member)
        names = [member.name for member in self._seen]
        if not self.datasets and any(name.endswith(".pt") for name in names):
            raise ZooFormatError(
                f"holds {_listed(names)}, which zoobench cannot read; expected a raw experiment, a preprocessed "
                "dataset*.pt or a part of the Small CNN Zoo"
            )
        return "dataset_pt" if self.datasets else "experiment"

    def dataset(self) -> Member:
        """The one preprocessed file; ZooFormatError if there are several, or it cannot be got at."""
        if len(self.datasets) > 1:
            raise ZooFormatError(
                f"holds several preprocessed files, {_listed([member.name for member in self.datasets])}; "
                "unpack it and give one of them"
            )
        if self.streamed:
            raise ZooFormatError(
                f"holds {shortened(self.datasets[0].name)}, which cannot be read inside a compressed tar; unpack it"
            )
        return self.datasets[0]


def _inside(archive: Archive, folder: str) -> Iterator[Member]:
    """The members below a folder, wherever in the archive it lies."""
    wanted, others = f"/{folder.strip('/')}/", dict[str, Any]()
    found = False
    for member in archive.members():
        if wanted in f"/{member.name}":
            found = True
            yield member
        elif len(others) < _SHOWN:
            others.setdefault(str(PurePosixPath(member.name).parent))
    if not found:
        raise ZooFormatError(f"has no folder {shortened(folder)!r}; it has {_listed(list(others)) or 'no files'}")


def _listed(names: list[str]) -> str:
    shown = [shortened(name, 100) for name in names[:_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
