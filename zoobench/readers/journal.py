"""Which rows of a weights file are written already, so that a killed conversion goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

#: To be raised when the same source comes to be read in another order or into other numbers.
_VERSION = 1


class State(NamedTuple):
    """A row of weights, and what tells whether the file that it came from is still the same.

    Attributes
    ----------
    model : str
        The model.
    epoch : int
        The epoch.
    stamp : str
        Size and time of the file; empty where it is a part of the source, which has a stamp of its own.
    """

    model: str
    epoch: int
    stamp: str


class Journal:
    """The states in the first rows of a file of weights.

    The rows are those that the reader of one source writes in one order, so their number says where to go on. What a
    journal notes is on the disk: a machine that loses its power loses what came after.

    Parameters
    ----------
    path : Path
        File of the journal.
    source : Path
        What is read. The journal of another file, or of one that has changed since, counts for nothing; of a folder,
        each state's own stamp says whether it counts.
    every : int
        Bytes of weights between two notes: each waits until the disk has them.
    choice : plain data
        What else decides which rows there are.
    """

    def __init__(self, path: Path, source: Path, *, every: int, choice: Any = None) -> None:
        self._path = path
        self._every = every
        status = source.stat()
        stamp = None if source.is_dir() else [status.st_size, status.st_mtime_ns]
        self._identity = [_VERSION, str(source.resolve()), stamp, choice]
        self._pending: list[State] = []
        self._pending_bytes = 0
        self.states = self._read()

    def add(self, state: State, n_bytes: int, weights: Path) -> None:
        """One more row is written; the journal is brought up to date now and then."""
        self._pending.append(state)
        self._pending_bytes += n_bytes
        if self._pending_bytes < self._every:
            return
        descriptor = os.open(weights, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not self.states:
            self._write("w", [self._identity])
        self._write("a", self._pending)
        self.states += self._pending
        self._pending, self._pending_bytes = [], 0

    def keep_first(self, n_rows: int) -> None:
        """What was noted beyond these rows no longer counts."""
        if n_rows >= len(self.states):
            return
        # Not shortened in place: a reader must not find a row that is about to be written anew.
        self._path.unlink(missing_ok=True)
        self.states = self.states[:n_rows]
        if self.states:
            self._write("w", [self._identity, *self.states])

    def _write(self, mode: str, lines: Sequence[Any]) -> None:
        with open(self._path, mode, encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def _read(self) -> list[State]:
        states: list[State] = []
        # A torn last line is what a power failure leaves; the rows before it are there.
        with suppress(OSError, ValueError, TypeError, OverflowError), open(self._path, encoding="utf-8") as file:
            if json.loads(next(file, "null")) != self._identity:
                return []
            for line in file:
                model, epoch, stamp = json.loads(line)
                states.append(State(str(model), int(epoch), str(stamp)))
        return states
