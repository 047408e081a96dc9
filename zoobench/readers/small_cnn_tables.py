"""The two tables of the Small CNN Zoo: where its columns belong, and what was measured of its rows.

Source: Unterthiner et al. 2020 (arXiv 2002.11448), and the description that its authors publish beside the data.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from typing import NamedTuple

import numpy as np
import pandas as pd

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.properties import CANONICAL, CATEGORICAL, IDENTITY
from zoobench.readers.naming import shortened

#: The files of such a zoo -> what each is. The table of metrics may have been unpacked.
PARTS = {"weights.npy": "weights", "metrics.csv.gz": "metrics", "metrics.csv": "metrics", "layout.csv": "layout"}

#: Column of the table of metrics -> canonical property.
_COLUMNS = {
    "test_accuracy": "test_acc",
    "train_accuracy": "train_acc",
    "test_loss": "test_loss",
    "train_loss": "train_loss",
    "config.activation": "activation",
    "config.w_init": "init",
    "config.optimizer": "optimizer",
    "config.dropout": "dropout",
    "config.learning_rate": "lr",
    "config.l2reg": "weight_decay",
    "config.random_seed": "seed",
}
_NEEDED = ("modeldir", "step", "test_accuracy", "train_accuracy")
_LAST_EPOCH = np.iinfo(np.int32).max

#: A table of 270,000 rows has about 100 MB; text packs ten or twenty times.
_LARGEST_TABLE, _MAX_RATIO, _UNSUSPICIOUS_BYTES = 1 << 30, 200, 1 << 24
_PIECE = 1 << 20


class ColumnOrder(NamedTuple):
    """Where the columns of the matrix of weights belong.

    Attributes
    ----------
    layout : WeightLayout
        Of our weight vectors: layer by layer the weight, then the bias, each in the order of torch.
    columns : ndarray of shape (n_weights,)
        For each of our columns, the column of the matrix that it is.
    """

    layout: WeightLayout
    columns: np.ndarray


class _Variable(NamedTuple):
    name: str
    start: int
    shape: tuple[int, ...]

    def columns(self) -> np.ndarray:
        return self.start + np.arange(math.prod(self.shape)).reshape(self.shape)


def read_layout(content: bytes | memoryview) -> ColumnOrder:
    """The order of columns from ``layout.csv``.

    TensorFlow keeps a convolution's kernel as (height, width, in, out) and a dense one as (in, out), where torch has
    (out, in, height, width) and (out, in); and the table names a layer's bias before its kernel.

    Parameters
    ----------
    content : bytes
        A table with the columns ``varname``, ``start_idx``, ``end_idx`` (exclusive) and ``shape``.

    Returns
    -------
    ColumnOrder

    Raises
    ------
    ZooFormatError
        If it is no such table, its variables overlap or leave gaps, or one is neither a kernel nor a bias.
    """
    variables = _variables(content)
    kernels = {_owner(v.name, "kernel"): v for v in variables if "kernel" in v.name}
    biases = {_owner(v.name, "bias"): v for v in variables if "bias" in v.name}
    if len(kernels) + len(biases) != len(variables) or not set(biases) <= set(kernels):
        raise ZooFormatError(
            f"has the variables {shortened(', '.join(v.name for v in variables))}; expected a kernel, and at most one "
            "bias, of each layer"
        )
    tensors: list[tuple[str, tuple[int, ...]]] = []
    columns: list[np.ndarray] = []
    channels = 0
    for owner, kernel in kernels.items():
        order = _as_torch(kernel, channels)
        channels = order.shape[0] if order.ndim > 2 else 0
        name = owner.split(":")[0].strip("/._").replace("/", ".") or f"layer_{len(columns)}"
        parts = {"weight": order}
        if owner in biases:
            parts["bias"] = biases[owner].columns()
            if parts["bias"].shape != order.shape[:1]:
                raise ZooFormatError(
                    f"gives {shortened(biases[owner].name)!r} another length than its kernel's outputs"
                )
        tensors += [(f"{name}.{role}", part.shape) for role, part in parts.items()]
        columns += [part.reshape(-1) for part in parts.values()]
    try:
        layout = WeightLayout.from_shapes(tensors).canonical()
    except ValueError as error:
        raise ZooFormatError(f"gives no layout: {error}") from None
    return ColumnOrder(layout, np.concatenate(columns))


def _variables(content: bytes | memoryview) -> list[_Variable]:
    """The variables in the order of their columns, which they have to cover without gaps."""
    rows = csv.DictReader(io.StringIO(str(content, "utf-8", "replace"), newline=""))
    variables = []
    try:
        for row in rows:
            start, stop = int(row["start_idx"]), int(row["end_idx"])
            sides = re.fullmatch(r"[(\[]([0-9, ]*)[)\]]", row["shape"].strip())
            shape = tuple(int(side) for side in sides[1].replace(",", " ").split()) if sides else ()
            if stop - start != math.prod(shape) or not sides:
                raise ZooFormatError(
                    f"gives {shortened(row['varname'])!r} the columns {start} to {stop} (exclusive) and the shape "
                    f"{shortened(row['shape'], 60)}, which do not fit together"
                )
            variables.append(_Variable(row["varname"].strip(), start, shape))
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        if isinstance(error, ZooFormatError):
            raise
        raise ZooFormatError("is no table of varname, start_idx, end_idx and shape") from None
    variables.sort(key=lambda variable: variable.start)
    expected = 0
    for variable in variables:
        if variable.start != expected or not math.prod(variable.shape):
            raise ZooFormatError(
                f"leaves a gap or an overlap at column {expected}, before {shortened(variable.name)!r}"
            )
        expected += math.prod(variable.shape)
    if not variables:
        raise ZooFormatError("names no variables")
    return variables


def _owner(name: str, role: str) -> str:
    """The name of the layer that a variable belongs to."""
    before, _, after = name.rpartition(role)
    return before + after


def _as_torch(kernel: _Variable, channels: int) -> np.ndarray:
    """Columns of a kernel in the order of torch; ``channels`` are those of a convolution before it, else 0."""
    columns = kernel.columns()
    if columns.ndim == 4:
        return columns.transpose(3, 2, 0, 1)
    if columns.ndim != 2:
        raise ZooFormatError(f"gives {shortened(kernel.name)!r} {columns.ndim} sides; only convolutions of images and "
                             "dense layers can be read")  # fmt: skip
    n_in, n_out = columns.shape
    if channels and n_in > channels and n_in % channels == 0:
        # Behind a flattened image TensorFlow has a position's channels together, torch a channel's positions.
        return columns.reshape(-1, channels, n_out).transpose(2, 1, 0).reshape(n_out, n_in)
    return columns.T


class Metrics(NamedTuple):
    """What the table of metrics says of each row of weights.

    Attributes
    ----------
    models : list of str
        Names, sorted.
    codes, epochs : ndarray of int64
        Which model a row belongs to, and its epoch.
    properties : dict of str to ndarray or Categorical
        Canonical properties, and under their own names those that have no canonical one.
    """

    models: list[str]
    codes: np.ndarray
    epochs: np.ndarray
    properties: dict[str, np.ndarray | pd.Categorical]


def read_metrics(content: bytes | memoryview) -> Metrics:
    """The table of metrics, packed or not.

    Parameters
    ----------
    content : bytes
        A CSV table with a row for each row of weights. What is the same for all rows, such as the dataset, is
        left out where it has no canonical name.

    Returns
    -------
    Metrics

    Raises
    ------
    ZooFormatError
        If it is damaged, lacks a column, or holds something else than numbers where these are expected.
    UnsafeFileError
        If it is a decompression bomb.
    """
    table = _table(content)
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        raise ZooFormatError(f"lacks the column {missing[0]}; it has {shortened(', '.join(table.columns))}")
    steps = _numbers(table, "step")
    if not np.all((steps >= 0) & (steps <= _LAST_EPOCH) & (np.floor(steps) == steps)):
        raise ZooFormatError("has a step that is no whole number")
    folders = table["modeldir"].cat
    if np.any(folders.codes < 0):
        raise ZooFormatError("has a row without modeldir")
    paths = [str(path) for path in folders.categories]
    short = [path.rstrip("/").rpartition("/")[2] for path in paths]
    # The last part of the path is the model's name, unless two models have the same.
    names = short if all(short) and len(set(short)) == len(short) else paths
    models = sorted(names)
    code_of = {name: code for code, name in enumerate(models)}
    codes = np.array([code_of[name] for name in names], np.int64)[folders.codes.to_numpy()]
    epochs = steps.astype(np.int64)
    twice = pd.DataFrame({"codes": codes, "epochs": epochs}).duplicated().to_numpy()
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise ZooFormatError(f"has two rows of model {shortened(models[codes[row]])!r} at step {epochs[row]}")
    return Metrics(models, codes, epochs, _properties(table))


def _table(content: bytes | memoryview) -> pd.DataFrame:
    view = memoryview(content)
    text = _inflated(view) if bytes(view[:2]) == b"\x1f\x8b" else io.BytesIO(view)
    try:
        # As text, of which each is kept once: only Python reads every number as it was written.
        return pd.read_csv(text, dtype="category", keep_default_na=False, na_values=["", "nan", "NaN", "NAN"])
    except (ValueError, UnicodeDecodeError, OverflowError, pd.errors.ParserError) as error:
        raise ZooFormatError(f"is no table: {shortened(str(error).strip(), 200)}") from None


def _inflated(packed: memoryview) -> io.BytesIO:
    text = io.BytesIO()
    limit = min(_LARGEST_TABLE, max(_UNSUSPICIOUS_BYTES, _MAX_RATIO * len(packed)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            while piece := file.read(_PIECE):
                text.write(piece)
                if text.tell() > limit:
                    raise UnsafeFileError(f"is a decompression bomb: {len(packed)} bytes that inflate without end")
    except (EOFError, OSError, zlib.error) as error:
        raise ZooFormatError(f"is truncated or damaged: {error}") from None
    text.seek(0)
    return text


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column as float64, NaN where nothing stands; ZooFormatError for anything else than numbers."""
    column = table[name].cat
    numbers = [math.nan]
    for text in column.categories:
        try:
            numbers.append(float(text))
        except ValueError:
            raise ZooFormatError(
                f"has {shortened(repr(str(text)), 60)} in the column {name}, where a number was expected"
            ) from None
    # Missing values have the code -1.
    return np.array(numbers)[column.codes.to_numpy() + 1]


def _names(table: pd.DataFrame, name: str) -> pd.Categorical:
    """A column of names."""
    found = table[name].array
    return found.set_categories(pd.Index(sorted(map(str, found.categories)), dtype="str"))


def _properties(table: pd.DataFrame) -> dict[str, np.ndarray | pd.Categorical]:
    properties: dict[str, np.ndarray | pd.Categorical] = {}
    for name, canonical in _COLUMNS.items():
        if name in table:
            properties[canonical] = (_names if canonical in CATEGORICAL else _numbers)(table, name)
    properties["ggap"] = properties["train_acc"] - properties["test_acc"]
    seed = properties.get("seed")
    if seed is not None and np.all((np.abs(seed) < 1 << 53) & (np.floor(seed) == seed)):
        properties["seed"] = seed.astype(np.int64)
    for name in table.columns:
        own = str(name).removeprefix("config.")
        # What is the same for all rows describes the zoo, not a state.
        if name in _COLUMNS or own == name or own in (*CANONICAL, *IDENTITY) or own.startswith("_"):
            continue
        if table[name].nunique(dropna=False) > 1:
            try:
                properties[own] = _numbers(table, name)
            except ZooFormatError:
                properties[own] = _names(table, name)
    return properties
