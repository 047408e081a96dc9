"""The files that a zoo was made of: kept beside it, where they were downloaded; deleted, where the user says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zoobench.datasets_registry.cards import Card
from zoobench.datasets_registry.sources import Source
from zoobench.download.disk import write_whole
from zoobench.download.files import DESK, forget_check
from zoobench.origins import Plan
from zoobench.store import check_zoo

#: In the folder of a zoo's raw files: which of them are to stay.
_LIST = "kept.json"


class Originals:
    """The kept originals of one zoo; whoever changes them holds the zoo's lock.

    Parameters
    ----------
    folder : Path
        The folder of the zoo's raw files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def plan(self, card: Card, epochs: Sequence[int] | None) -> Plan | None:
        """How to make the zoo of an original without transferring anything; None if none has what is asked for.

        Parameters
        ----------
        card : Card
            The zoo.
        epochs : sequence of int or None
            Which epochs; None for all.
        """
        kept = self._read()
        for source in card.sources:
            entry = kept.get(source.address)
            if entry is None or not (self._folder / entry["path"]).exists():
                continue
            if entry["epochs"] is None or (epochs is not None and set(epochs) <= set(entry["epochs"])):
                path = self._folder / entry["path"]
                return Plan(source, [], 0, 0, partial(Path, path))
        return None

    def keep(self, source: Source, path: Path, epochs: Sequence[int] | None) -> None:
        """Note that a source's files are to stay.

        Parameters
        ----------
        source : Source
            Where they are from.
        path : Path
            The file, or the folder of files.
        epochs : sequence of int or None
            Which epochs they hold; None for all that the source has.
        """
        kept = self._read()
        before = kept.get(source.address, {"epochs": []})["epochs"]
        held = None if epochs is None or before is None else sorted({*before, *epochs})
        kept[source.address] = {"path": path.relative_to(self._folder).as_posix(), "epochs": held}
        write_whole(self._folder / _LIST, json.dumps(kept, indent=1).encode())

    def holds(self, path: Path) -> bool:
        """Whether a file or folder is to stay."""
        return any(self._folder / entry["path"] == path for entry in self._read().values())

    def distrust(self, source: Source) -> None:
        """An original cannot be read: compare it with its source the next time, and fetch it anew if it differs."""
        kept = self._read()
        entry = kept.pop(source.address, None)
        if entry is not None:
            forget_check(self._folder / entry["path"])
            write_whole(self._folder / _LIST, json.dumps(kept, indent=1).encode())

    def clear_others(self, *, keep_notes: bool) -> None:
        """Delete raw files that are not kept.

        Parameters
        ----------
        keep_notes : bool
            Whether more of the zoo may be asked for: then the notes that all epochs of a model share stay.
        """
        tops = {Path(entry["path"]).parts[0] for entry in self._read().values()}
        if keep_notes:
            for top in self._folder.iterdir():
                if top.name not in tops and top.is_dir():
                    for checkpoint in [path for path in top.rglob("checkpoint_*") if path.is_dir()]:
                        shutil.rmtree(checkpoint)
        elif not tops:
            shutil.rmtree(self._folder)
        else:
            for top in list(self._folder.iterdir()):
                if top.name in tops | {_LIST, DESK}:
                    continue
                if top.is_dir():
                    shutil.rmtree(top)
                else:
                    top.unlink()

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            kept = json.loads((self._folder / _LIST).read_bytes())
            return {address: {"path": entry["path"], "epochs": entry["epochs"]} for address, entry in kept.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Without the list the files are fetched again, no more.
            return {}


def require_droppable(source: Path, out: Path, epochs: object) -> None:
    """Refuse, before it is converted, an original that :func:`drop_original` must not delete.

    Parameters
    ----------
    source, out : Path
        The original, and the folder of the zoo that is to be made of it.
    epochs : object
        Which epochs are to be converted; None for all.

    Raises
    ------
    ValueError
        If one lies in the other, or not all of it is to be converted.
    """
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise ValueError(f"{source} and {out} overlap, so --drop-original would delete what is written; name another")
    if epochs is not None:
        raise ValueError("--drop-original would lose the epochs that --epochs leaves out; give one of the two")


def drop_original(source: Path, out: Path) -> None:
    """Delete what a zoo was made of, once every byte of the zoo is found to be as it was written."""
    check_zoo(out)
    if source.is_dir() and not source.is_symlink():
        shutil.rmtree(source)
    else:
        source.unlink()
