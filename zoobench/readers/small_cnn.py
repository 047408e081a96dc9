"""The Small CNN Zoo: one matrix of weights, a table of metrics, and a table that says what the columns are.

Source: Unterthiner et al. 2020 (arXiv 2002.11448). A zoo has 5.4 GB, and comes in a compressed tar whose members may
lie in any order. So the matrix passes by in blocks of rows: rows go to where they belong if the tables have passed
before, and are brought into order where they lie if these come later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.properties import CANONICAL
from zoobench.readers.archive import Archive, Member
from zoobench.readers.choice import EpochChoice, choose_rows
from zoobench.readers.frame import property_frame
from zoobench.readers.naming import naming, shortened
from zoobench.readers.npyrows import BLOCK_BYTES, NpyRows
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.rows import WeightRows
from zoobench.readers.small_cnn_tables import PARTS, ColumnOrder, Metrics, read_layout, read_metrics

_LARGEST_LAYOUT, _LARGEST_METRICS = 1 << 20, 1 << 28


def read_small_cnn_zoo(
    archive: Archive,
    name: str,
    *,
    choice: EpochChoice,
    keep_model: Callable[[str], bool] | None = None,
    room: Room = MEMORY,
) -> ZooContents:
    """A part of the Small CNN Zoo.

    Parameters
    ----------
    archive : Archive
        Where its files are.
    name : str
        What to call it.
    choice : EpochChoice
        Which epochs to read.
    keep_model : callable, optional
        Says by a model's name whether to read it; by default all are.
    room : Room
        Where the weights go.

    Returns
    -------
    ZooContents
        Weights in the order of torch, layer by layer the weight and then the bias.

    Raises
    ------
    ZooFormatError
        If one of its three files is missing or damaged, or they contradict each other.
    UnsafeFileError
        If the matrix holds a pickle, or anything is a decompression bomb.
    ValueError
        If an epoch is asked for that no model has, or ``keep_model`` keeps none.
    """
    zoo = _SmallCnnZoo(choice, keep_model, room)
    members: dict[str, Member] = {}
    for member in archive.members():
        part = PARTS.get(member.name.rpartition("/")[2])
        if part is None:
            continue
        if part in members:
            raise ZooFormatError(
                f"holds {shortened(members[part].name)} and {shortened(member.name)}; read one zoo at a time"
            )
        members[part] = member
        if archive.streamed:
            zoo.take(part, member)
    folders = sorted({member.name.rpartition("/")[0] for member in members.values()})
    if len(members) < len(set(PARTS.values())) or len(folders) > 1:
        found = ", ".join(shortened(member.name) for member in members.values())
        raise ZooFormatError(f"holds {found}; expected weights.npy, metrics.csv.gz and layout.csv in one folder")
    if not archive.streamed:
        for part in ("layout", "metrics", "weights"):
            zoo.take(part, members[part])
    weights = zoo.weights()
    return ZooContents(
        name=folders[0].rpartition("/")[2] or name,
        weights=weights,
        properties=zoo.table(),
        layout=zoo.order.layout,
        provenance={"source": f"Small CNN Zoo ({archive.form})", "left_out": {}},
    )


class _SmallCnnZoo:
    """A zoo as far as its files have been seen."""

    order: ColumnOrder
    metrics: Metrics

    def __init__(self, choice: EpochChoice, keep_model: Callable[[str], bool] | None, room: Room) -> None:
        self._choice = choice
        self._keep_model = keep_model
        self._room = room
        self._rows: np.ndarray | None = None
        self._shape = (0, 0)
        self._chosen: np.ndarray | None = None
        self._unsorted: WeightRows | None = None

    def take(self, part: str, member: Member) -> None:
        """Read one of the files."""
        with naming(member.name):
            member.check()
            if part == "layout":
                self.order = read_layout(member.read(_LARGEST_LAYOUT))
            elif part == "metrics":
                self.metrics = read_metrics(member.read(_LARGEST_METRICS))
            else:
                self._take_weights(NpyRows(member.pieces(), member.size()))

    def weights(self) -> np.ndarray:
        """The rows that are asked for, in order, when all files have been seen."""
        rows = self._choose()
        if self._unsorted is None:
            assert self._rows is not None
            return self._rows
        wanted = np.zeros(self._shape[0], bool)
        wanted[rows] = True
        matrix = self._unsorted.finish(np.concatenate([rows, np.flatnonzero(~wanted)]))
        if len(rows) < len(matrix):
            matrix = self._room.resized(matrix, len(rows))
        step = max(1, BLOCK_BYTES // (4 * matrix.shape[1]))
        for start in range(0, len(matrix), step):
            matrix[start : start + step] = matrix[start : start + step][:, self.order.columns]
        return matrix

    def table(self) -> pd.DataFrame:
        """The properties of the same rows."""
        rows, metrics = self._choose(), self.metrics
        columns: dict[str, Any] = {name: values[rows] for name, values in metrics.properties.items()}
        for name, values in columns.items():
            if isinstance(values, pd.Categorical):
                columns[name] = values.remove_unused_categories()
        frame = property_frame(metrics.models, metrics.codes[rows], metrics.epochs[rows], columns)
        others = {name: values for name, values in columns.items() if name not in CANONICAL}
        return frame.assign(**others)

    def _choose(self) -> np.ndarray:
        """Numbers of the rows that are asked for, sorted by epoch and then model."""
        if self._chosen is None:
            metrics, (n_rows, n_weights) = self.metrics, self._shape
            if len(metrics.codes) != n_rows:
                raise ZooFormatError(f"has {n_rows} rows of weights, but {len(metrics.codes)} rows of metrics")
            if len(self.order.columns) != n_weights:
                raise ZooFormatError(
                    f"has {n_weights} weights a row, but its layout.csv describes {len(self.order.columns)}"
                )
            self._chosen = choose_rows(metrics.models, metrics.codes, metrics.epochs, self._choice, self._keep_model)
        return self._chosen

    def _take_weights(self, source: NpyRows) -> None:
        self._shape = source.shape
        if not (hasattr(self, "order") and hasattr(self, "metrics")):
            self._unsorted = WeightRows(self._shape[1], room=self._room)
            for _, block in source.blocks():
                for row in block:
                    self._unsorted.append([memoryview(row).cast("B")])
            return
        rows = self._choose()
        matrix = self._rows = self._room.matrix(len(rows), self._shape[1])
        place = np.full(self._shape[0], -1)
        place[rows] = np.arange(len(rows))
        for start, block in source.blocks():
            target = place[start : start + len(block)]
            matrix[target[target >= 0]] = block[target >= 0][:, self.order.columns]
