"""The property table of a zoo in a parquet file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoobench.errors import ZooFormatError
from zoobench.weightfile import file_sha256

#: Columns of the file that the format keeps for itself: the model's number, and each state's largest absolute weight.
MODEL_NUMBER, PEAK = "_model_number", "_max_abs_weight"


def write_table(path: Path, table: pd.DataFrame) -> str:
    """Write a table to a new file; returns the file's sha256."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata(None), path, compression="zstd", store_schema=False)
    return file_sha256(path)


def read_table(folder: Path, index: Mapping[str, Any]) -> pd.DataFrame:
    """The table that the checked content of a ``zoo.json`` names; ZooFormatError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    entry = index["files"]["properties"]
    path = folder / entry["name"]
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        # Small, so it is checked at every read: a damaged table would give wrong numbers or crash its reader.
        raise changed(path, found, entry["sha256"])
    names = [name for name, dtype in index["properties"].items() if dtype == "category"]
    try:
        table = pq.read_table(pa.BufferReader(data), read_dictionary=names).to_pandas()
        number = table.pop(MODEL_NUMBER).to_numpy()
        _, first = np.unique(number, return_index=True)
        ordered = table["model"].iloc[first].astype(str)
        table["model"] = pd.Categorical.from_codes(number, categories=ordered)
        return table[[*index["properties"], PEAK]]
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise ZooFormatError(f"{path} is no property table of a zoo ({error}); restore the file") from error


def changed(path: Path, found: str, expected: str) -> ZooFormatError:
    """The error for a file with another checksum than the one that was noted."""
    return ZooFormatError(
        f"{path} has changed since it was written: its sha256 is {found}, but {expected} was expected; restore the file"
    )
