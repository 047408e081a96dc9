"""Zoos that tasks are about: those of the registry by name, and a user's own by the folder that they lie in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from errno import ENAMETOOLONG
from functools import lru_cache
from pathlib import Path
from typing import Any

from zoobench.datasets_registry.cards import find_card
from zoobench.errors import ZooFormatError
from zoobench.fetch import stored_at
from zoobench.properties import CANONICAL, IDENTITY
from zoobench.store import INDEX, is_zoo, read_index

#: Names that are parts of a task's id, and so of a path.
_PART = re.compile(r"\w[\w .+-]*")

_REMEDY = "`zoobench convert {} FOLDER` makes a zoo of a raw experiment, an archive or a .pt file"

#: Number of modification, size and file: what tells that a zoo has been replaced.
Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Place:
    """A zoo that a task is about, and where it lies.

    Attributes
    ----------
    name : str
        What it is called in ids and records: its name in the registry, or that of its folder.
    folder : str
        The folder of a user's own zoo; empty for a zoo of the registry, which every machine keeps elsewhere.
    written : str
        How the user wrote it.
    """

    name: str
    folder: str = ""
    written: str = ""

    @property
    def stored(self) -> Path:
        """The folder that it lies in, or would lie in."""
        return Path(self.folder) if self.folder else stored_at(find_card(self.name))

    def stamp(self) -> Stamp | None:
        """What changes when the zoo is replaced; None where it is not on this machine."""
        try:
            found = os.stat(self.stored / INDEX)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def index(self) -> dict[str, Any] | None:
        """The checked content of its ``zoo.json``; None where it is not on this machine."""
        stamp = self.stamp()
        return _index(self.stored, stamp) if stamp else None

    def dtypes(self) -> dict[str, str] | None:
        """Every property that can be predicted, with its dtype; None where the zoo is not on this machine."""
        index = self.index()
        if index is None:
            return None
        known = {name: dtype for name, dtype in index["properties"].items() if name == "epoch" or name not in IDENTITY}
        known.pop("seed", None)  # nothing follows from weights about how a generator was started
        order = [*(name for name in CANONICAL if name in known), *(name for name in known if name not in CANONICAL)]
        return {name: known[name] for name in order}

    def digest(self) -> str:
        """Checksums of its weights and of its properties."""
        index = self.index()
        if index is None:
            raise FileNotFoundError(f"zoo {self.name!r} is no longer in {self.stored}")
        return f"{index['files']['weights']['sha256']} {index['files']['properties']['sha256']}"


@lru_cache(maxsize=64)
def _index(folder: Path, stamp: Stamp) -> dict[str, Any]:
    return read_index(folder)


def find_place(zoo: str | os.PathLike[str]) -> Place:
    """The zoo that a user means: what is a name of the registry is that zoo, and anything else the path of a folder.

    Parameters
    ----------
    zoo : str or path-like
        A zoo's name as in ``fetch_zoo``, or the folder of a zoo in the zoo format.

    Returns
    -------
    Place

    Raises
    ------
    ValueError
        If it is neither, or a folder whose name is that of a zoo of the registry or cannot be part of an id.
    FileNotFoundError
        If it is written as a path, and there is nothing.
    ZooFormatError
        If what is there is no zoo in the zoo format.
    """
    text = os.fspath(zoo)
    _check_length(text)
    if is_registered(text):
        return Place(find_card(text).name, written=text)
    path = Path(text)
    if not path.exists():
        if _is_path(text):
            raise FileNotFoundError(f"there is no folder {text} with a zoo; check the path")
        try:
            find_card(text)  # raises, with close matches
        except ValueError as unknown:
            raise ValueError(f"{unknown} Nor is there a folder of that name") from None
    if not is_zoo(path):
        what = "a folder without a zoo.json" if path.is_dir() else "a file"
        raise ZooFormatError(
            f"{text} is {what}, and the folder of a zoo was expected; check the path. {_REMEDY.format(text)}"
        )
    folder = os.path.abspath(text)
    name = os.path.basename(folder)
    if not _PART.fullmatch(name):
        raise ValueError(
            f"the zoo in {folder} would be called {name!r}, which cannot be part of a task's id; rename the folder, "
            "with letters, digits and _ . + - only"
        )
    if is_registered(name):
        raise ValueError(
            f"the zoo in {folder} would be called {name!r}, as {find_card(name).name} of the registry is; rename the "
            f"folder, or leave out the path to get that one"
        )
    return Place(name, folder, text)


def is_registered(name: str) -> bool:
    """Whether the registry has a zoo of this name."""
    if not name or "/" in name or os.sep in name:
        return False
    try:
        find_card(name)
    except ValueError:
        return False
    return True


def is_nameable(name: str) -> bool:
    """Whether a name can be part of a task's id."""
    return _PART.fullmatch(name) is not None


def split_task(text: str) -> tuple[str, str | None, str | None]:
    """Zoo, property and protocol of a task as a user writes it; None for what is not named.

    Parameters
    ----------
    text : str
        ``zoo``, ``zoo/property`` or ``zoo/property/protocol``, where the zoo, and the one of a transfer, may be paths.

    Returns
    -------
    zoo, property, protocol

    Raises
    ------
    ValueError
        If it is not of that form.
    FileNotFoundError, ZooFormatError
        If there is no such zoo.

    Examples
    --------
    >>> from zoobench.benchmark.places import split_task
    >>> split_task("digits_cnn_s/ggap/paper")
    ('digits_cnn_s', 'ggap', 'paper')
    """
    _check_length(text)
    head, mark, source = text.partition("/transfer-from-")
    protocol = [f"transfer-from-{source}"] if mark else []
    parts = (head.rstrip("/") or head).split("/")
    first, *rest = parts
    if not is_registered(first):
        # What lies deepest is the zoo: nothing in a zoo's folder is one.
        n = next((n for n in range(3) if len(parts) > n and is_zoo("/".join(parts[: len(parts) - n]) or "/")), None)
        if n is None:
            raise _no_zoo(text, parts)
        first, rest = "/".join(parts[: len(parts) - n]), parts[len(parts) - n :]
    rest += protocol
    if len(rest) > 2 or not all(rest) or rest == protocol != []:
        raise ValueError(f"a task is written zoo/property or zoo/property/protocol, not {text!r}")
    name, rule = (*rest, None, None)[:2]
    return first, name, rule


def _check_length(text: str) -> None:
    """Raise a ValueError for what is too short or too long to name anything."""
    if not text.strip():
        raise ValueError(f"{text!r} names no zoo; a task is written zoo/property or zoo/property/protocol")
    try:
        os.stat(text)
    except OSError as error:
        if error.errno == ENAMETOOLONG:
            raise ValueError(f"'{text[:30]}...' of {len(text)} letters is too long for a zoo or a task") from None


def _no_zoo(text: str, parts: list[str]) -> Exception:
    """Why a text names no task."""
    above = "/".join(parts[:-1])
    if Path("/".join(parts)).exists() or not _is_path(text):
        meant = text
    elif above.strip("./") and Path(above).exists():
        return ZooFormatError(
            f"neither {text} nor {above} is the folder of a zoo; check the path, which /property and /protocol may "
            f"follow. {_REMEDY.format(above)}"
        )
    elif parts[0] in ("", os.curdir, os.pardir) or Path(parts[0]).exists():
        return FileNotFoundError(
            f"{text} leads to no folder with a zoo; check the path, which /property and /protocol may follow"
        )
    else:
        meant = parts[0]
    try:
        find_place(meant)
    except (ValueError, OSError) as error:
        return error
    return ValueError(f"a task is written zoo/property or zoo/property/protocol, not {text!r}")


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or text in (os.curdir, os.pardir)
