"""Zoo format, version 1: a zoo as a folder of ``zoo.json``, a weights file and a property table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import types
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from zoobench.contents import DESCRIBED, ZooContents
from zoobench.errors import DISK_FULL, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.selection import largest_weights
from zoobench.tablefile import MODEL_NUMBER, PEAK, changed, read_table, write_table
from zoobench.weightfile import SealedWeights, file_sha256, open_weights, write_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoobench.zoo import Zoo

FORMAT_VERSION = 1

#: Name of the file that makes a folder a zoo.
INDEX = "zoo.json"

_FILE_NAMES = {
    "weights": re.compile(r"weights-[0-9a-f]{8}\.safetensors"),
    "properties": re.compile(r"properties-[0-9a-f]{8}\.parquet"),
}

#: What a zoo.json holds, beside its format, version and checksum.
_FIELDS: dict[str, type | types.UnionType] = {
    "name": str,
    "n_states": int,
    "n_weights": int,
    "layout": dict,
    "properties": dict,
    "card": dict | None,
    "recipe": dict | None,
    "provenance": dict,
    "files": dict,
}

_FILE_FIELDS: dict[str, type] = {"name": str, "sha256": str, "size": int}

#: Columns that every property table has.
_OWN_COLUMNS = {"model", "epoch"}

#: Larger than any zoo.json: a card, a layout and a recipe are a few kilobytes, a deep network's layout a few hundred.
_MAX_INDEX_BYTES = 1 << 26


def save_zoo(zoo: Zoo, path: str | os.PathLike[str]) -> Path:
    """Write a zoo to a folder, in the zoo format.

    Parameters
    ----------
    zoo : Zoo
        What to write; a selection is written as a zoo of its own.
    path : path-like
        The folder: new, empty, or a zoo, which is then replaced. A reader sees the old zoo or the new one, never half.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    FileExistsError
        If the path is a file, or a folder that holds something else.
    OSError
        If it cannot be written to, or its disk is full; what was there before stays.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench import fetch_zoo, load_zoo, save_zoo
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load_zoo(save_zoo(zoo, folder)).data.shape
    (200, 2464)
    """
    if not hasattr(zoo, "to_contents"):
        raise TypeError(f"save_zoo writes a Zoo, not {type(zoo).__name__}; make one with Zoo.from_contents")
    try:
        return write_zoo(path, zoo.to_contents())
    except FileExistsError:
        raise
    except OSError as error:
        remedy = "make room, or choose another disk" if error.errno in DISK_FULL else "choose another folder"
        reason = f"cannot write zoo {zoo!r}: {error.strerror or error}; {remedy}"
        raise type(error)(error.errno, reason, str(path)) from error


def write_zoo(path: str | os.PathLike[str], contents: ZooContents, *, adopt: SealedWeights | None = None) -> Path:
    """Write all rows of a zoo to a folder, in the zoo format.

    Parameters
    ----------
    path : path-like
        See :func:`save_zoo`.
    contents : ZooContents
        What to write. Rows are brought into (epoch, model) order where they are not.
    adopt : SealedWeights, optional
        A file of these weights in this order, on the folder's file system, which becomes the zoo's: a large zoo is
        not copied once more.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(path)
    if not len(contents.weights):
        raise ValueError(f"zoo {contents.name!r} has no states, and a zoo needs at least one")
    with _prepared(folder) as scratch:
        weights, table = _ordered(contents)
        if adopt is None:
            sha256 = {"weights": write_weights(scratch / "weights", weights)}
        elif weights is contents.weights:
            sha256 = {"weights": adopt.sha256}
            os.replace(adopt.path, scratch / "weights")
        else:
            raise ValueError(f"the states in {adopt.path} are not in the order of epochs and models")
        sha256["properties"] = write_table(scratch / "properties", table)
        names = {
            "weights": f"weights-{sha256['weights'][:8]}.safetensors",
            "properties": f"properties-{sha256['properties'][:8]}.parquet",
        }
        index = {
            "format": "zoobench zoo",
            "version": FORMAT_VERSION,
            "name": contents.name,
            "n_states": weights.shape[0],
            "n_weights": weights.shape[1],
            "layout": contents.layout.to_dict(),
            "properties": {name: str(dtype) for name, dtype in table.dtypes.items() if not name.startswith("_")},
            "card": contents.card,
            "recipe": contents.recipe,
            "provenance": contents.provenance,
            "files": {
                part: {"name": names[part], "sha256": sha256[part], "size": (scratch / part).stat().st_size}
                for part in names
            },
        }
        index["checksum"] = _checksum(index)
        _write_text(scratch / INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")
        for part, name in names.items():
            os.replace(scratch / part, folder / name)
        # From here on the new zoo is what a reader finds.
        os.replace(scratch / INDEX, folder / INDEX)
        for file in folder.iterdir():
            if file.name not in names.values() and any(p.fullmatch(file.name) for p in _FILE_NAMES.values()):
                # Where a system keeps a mapped file from being deleted, the next writer deletes it.
                with suppress(OSError):
                    file.unlink()
    return folder


def _ordered(contents: ZooContents) -> tuple[np.ndarray, pd.DataFrame]:
    """Weights and stored table in (epoch, model) order, the models numbered without gaps."""
    table, weights = contents.properties, contents.weights
    if len(table) != len(weights) or weights.ndim != 2 or weights.shape[1] != contents.layout.n_weights:
        raise ValueError(
            f"zoo {contents.name!r} has weights of shape {weights.shape}, {len(table)} rows of properties and a layout "
            f"of {contents.layout.n_weights} weights, which do not fit together"
        )
    model = table["model"].cat.remove_unused_categories()
    names = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    stored = table.astype(dict.fromkeys(names, "category") | {"epoch": np.int32})
    stored[MODEL_NUMBER] = model.cat.codes.to_numpy().astype(np.int32)
    stored[PEAK] = contents.peaks if contents.peaks is not None else largest_weights(weights, contents.layout)
    twice = stored.duplicated(["model", "epoch"])
    if twice.any():
        first = stored[twice].iloc[0]
        raise ValueError(f"zoo {contents.name!r} has two states of model {first['model']!r} at epoch {first['epoch']}")
    order = np.lexsort((stored[MODEL_NUMBER], stored["epoch"]))
    if not np.array_equal(order, np.arange(len(order))):
        weights, stored = weights[order], stored.iloc[order]
    return weights, stored.reset_index(drop=True)


def _write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _prepared(folder: Path) -> Iterator[Path]:
    """A scratch folder inside the zoo's folder, under a lock; gone afterwards, whatever happens."""
    from filelock import FileLock

    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and a zoo is a folder; choose another path")
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        others = [f.name for f in folder.iterdir() if not f.name.startswith(".")]
        if others and INDEX not in others:
            raise FileExistsError(
                f"{folder} holds {others[0]!r} and is no zoo; choose a folder that is new, empty or a zoo"
            )
        for left in folder.glob(".writing-*"):
            # Nobody else can be writing: this is what a killed writer left.
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if created and not (folder / INDEX).exists():
                shutil.rmtree(folder, ignore_errors=True)


def is_part(name: str) -> bool:
    """Whether a file of that name may be one of the three of a zoo."""
    return name == INDEX or any(pattern.fullmatch(name) for pattern in _FILE_NAMES.values())


def is_zoo(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a zoo in the zoo format, whole or damaged."""
    return (Path(path) / INDEX).is_file()


def read_zoo(path: str | os.PathLike[str]) -> ZooContents:
    """All rows of a zoo folder, the weights as a read-only memory map.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    ZooContents

    Raises
    ------
    ZooFormatError
        If the folder is no zoo, is damaged, or was written in a later format. Everything is checked but the bytes of
        the weights: see :func:`check_zoo`.
    """
    folder = Path(path)
    index = read_index(folder)
    while True:
        try:
            return _read_parts(folder, index)
        except FileNotFoundError:
            # A writer may have replaced the zoo between the two looks: then a new index names files that are there.
            before, index = index, read_index(folder)
            gone = [entry["name"] for entry in index["files"].values() if not (folder / entry["name"]).exists()]
            if gone and index == before:
                raise ZooFormatError(
                    f"{folder} lacks {' and '.join(gone)}, which its zoo.json names; restore the zoo"
                ) from None


def check_zoo(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read every byte of a zoo folder and compare it with the checksums in ``zoo.json``.

    Parameters
    ----------
    path : path-like
        The folder.

    Returns
    -------
    dict
        The content of ``zoo.json``.

    Raises
    ------
    ZooFormatError
        If a byte has changed; the file is named.
    """
    folder = Path(path)
    contents, index = read_zoo(folder), read_index(folder)
    entry = index["files"]["weights"]
    found = file_sha256(folder / entry["name"])
    if found != entry["sha256"]:
        raise changed(folder / entry["name"], found, entry["sha256"])
    peaks = largest_weights(contents.weights, contents.layout)
    if not np.array_equal(contents.peaks, peaks, equal_nan=True):  # type: ignore[arg-type]
        raise ZooFormatError(f"{folder}: the property table does not belong to the weights; restore the zoo")
    return index


def read_index(folder: Path) -> dict[str, Any]:
    """The checked content of a folder's ``zoo.json``."""
    path = folder / INDEX
    if not path.is_file():
        what = "a folder without a zoo.json" if folder.is_dir() else "a file" if folder.exists() else "missing"
        raise ZooFormatError(f"{folder} is {what}, and a folder in the zoo format was expected; check the path")
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ZooFormatError(f"{path} has {path.stat().st_size} bytes, more than any zoo.json; restore the file")
    try:
        index = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ZooFormatError(f"{path} is not readable JSON ({error}); restore the file") from error
    if not isinstance(index, dict) or index.get("format") != "zoobench zoo":
        raise ZooFormatError(f"{path} does not describe a zoo: its 'format' is not 'zoobench zoo'; check the path")
    version = index.get("version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "install a newer zoobench" if newer else "restore the file"
        raise ZooFormatError(
            f"{path} says zoo format version {version!r}, but this zoobench reads version {FORMAT_VERSION}; {remedy}"
        )
    if index.get("checksum") != _checksum(index):
        raise ZooFormatError(f"{path} has been changed since it was written (its checksum differs); restore the file")
    wrong = [key for key, kind in _FIELDS.items() if not _is_a(index.get(key), kind)]
    wrong += [f"card: {key}" for key in DESCRIBED if index["card"] and not isinstance(index["card"].get(key), str)]
    table = index.get("properties")
    if isinstance(table, dict) and not (
        table.keys() >= _OWN_COLUMNS and all(isinstance(t, str) for t in table.values())
    ):
        wrong.append("properties")
    if wrong:
        raise ZooFormatError(f"{path} lacks a valid {wrong[0]!r}; restore the file")
    for part, pattern in _FILE_NAMES.items():
        entry = index["files"].get(part)
        known = isinstance(entry, dict) and all(_is_a(entry.get(key), kind) for key, kind in _FILE_FIELDS.items())
        if not known or not pattern.fullmatch(entry["name"]):
            raise ZooFormatError(f"{path} names no valid {part} file; restore the file")
    return index


def _read_parts(folder: Path, index: Mapping[str, Any]) -> ZooContents:
    for entry in index["files"].values():
        size = (folder / entry["name"]).stat().st_size
        if size != entry["size"]:
            raise ZooFormatError(
                f"{folder / entry['name']} has {size} bytes, but {entry['size']} were written; restore the file"
            )
    table = read_table(folder, index)
    weights = open_weights(folder / index["files"]["weights"]["name"], (index["n_states"], index["n_weights"]))
    try:
        layout = WeightLayout.from_dict(index["layout"])
    except ZooFormatError as error:
        raise ZooFormatError(f"{folder / INDEX} holds {error}; restore the file") from error
    if len(table) != index["n_states"] or layout.n_weights != index["n_weights"]:
        raise ZooFormatError(
            f"{folder} has {len(table)} rows of properties and a layout of {layout.n_weights} weights, but its weights "
            f"have shape {weights.shape}; restore the zoo"
        )
    return ZooContents(
        name=index["name"],
        weights=weights,
        properties=table.drop(columns=PEAK),
        layout=layout,
        filenames=[str(folder / entry["name"]) for entry in index["files"].values()],
        provenance=index["provenance"],
        card=index["card"],
        recipe=index["recipe"],
        peaks=table[PEAK].to_numpy(),
    )


def _is_a(value: Any, kind: type | types.UnionType) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _checksum(index: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in index.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
