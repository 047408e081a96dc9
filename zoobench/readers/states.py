"""The states of a zoo while they are being read."""

from __future__ import annotations

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers.checkpoint import Checkpoint, Structure
from zoobench.readers.journal import State
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.rows import WeightRows


class States:
    """Checkpoints as rows of one matrix, with the model and epoch of each.

    Parameters
    ----------
    last_only : bool
        Keep of each model only the checkpoint of the highest epoch that comes.
    room : Room
        Where the matrix goes.
    """

    def __init__(self, *, last_only: bool, room: Room = MEMORY) -> None:
        self._room = room
        self.expected = 0
        self._last_only = last_only
        self._rows: WeightRows | None = None
        self._models: list[str] = []
        self._epochs: list[int] = []
        self._structures: list[Structure] = []
        self._row_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._models)

    def last_epoch(self, model: str) -> int:
        """The epoch that is kept of a model, -1 if none is or all are."""
        row = self._row_of.get(model)
        return -1 if row is None else self._epochs[row]

    def resume(self, state: State) -> bool:
        """Take a state over from an earlier attempt, if that is what the next row holds."""
        # The first is always read: it tells the structure, and whether the source is what it was.
        if self._rows is None or self._room.continued()[len(self) : len(self) + 1] != [state]:
            return False
        self._rows.claim()
        self._note(state.model, state.epoch, self._structures[-1])
        return True

    def add(self, state: State, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint.

        Raises
        ------
        ZooFormatError
            If its tensors have other shapes than those before, or do not fit into memory.
        """
        model, epoch, structure = state.model, state.epoch, checkpoint.structure
        if self._rows is None:
            self._rows = WeightRows(structure.n_weights, self.expected, self._room)
        elif structure is not self._structures[-1] and structure.shapes != self._structures[-1].shapes:
            raise ZooFormatError(
                f"its {structure.n_weights} weights have shapes {structure.shapes}, but the zoo's other checkpoints "
                f"{self._structures[-1].shapes}; a zoo has one architecture"
            )
        row = self._row_of.get(model)
        if row is None:
            row = len(self)
            continued = self._room.continued()
            known = continued[row : row + 1] == [state] and self._rows.holds(row, checkpoint.pieces)
            if not known:
                self._room.keep_first(row)
            self._rows.append(checkpoint.pieces)
            self._note(model, epoch, structure)
            if not known:
                self._room.written(state, 4 * structure.n_weights)
        else:
            self._room.keep_first(0)
            self._rows.replace(row, checkpoint.pieces)
            self._epochs[row], self._structures[row] = epoch, structure
        if self._last_only:
            self._row_of[model] = row

    def _note(self, model: str, epoch: int, structure: Structure) -> None:
        self._models.append(model)
        self._epochs.append(epoch)
        self._structures.append(structure)
        self._room.complete(len(self))

    def models(self) -> list[str]:
        """The models that have states, sorted."""
        return sorted(set(self._models))

    def finish(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, WeightLayout]:
        """Weights, model codes and epochs, sorted by epoch and then model; and the layout.

        The codes are places in :meth:`models`.
        """
        assert self._rows is not None
        models = self.models()
        code_of = {model: code for code, model in enumerate(models)}
        codes = np.array([code_of[model] for model in self._models])
        epochs = np.array(self._epochs)
        order = np.lexsort((codes, epochs))
        layout = self._structures[order[0]].layout()
        if np.any(order[1:] < order[:-1]):
            self._room.keep_first(0)  # rows are about to change their places
        return self._rows.finish(order), codes[order], epochs[order], layout
