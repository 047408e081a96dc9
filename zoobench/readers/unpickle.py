"""Pickles of the published files, read as plain data.

Python's own unpickler can be told which names to admit, but not how much to allocate: a memo index of four bytes
makes it take gigabytes, and a deeply nested key overflows the stack. So this is a reader of its own for the few
instructions that such files need. It knows no names but those below, and each of them stands for an inert record of
ours: nothing is imported, and nothing that a file names is ever called.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.readers.blocks import Block, StateBlocks
from zoobench.readers.naming import shortened
from zoobench.readers.tensors import STORAGE_TYPES, Storage, Tensor, rebuild_tensor

_LONGEST_NAME = 256
_KEYS = (str, int, float, bool, type(None))
_Argument = struct.Struct


class Record(dict[Any, Any]):
    """A dictionary, ordered dictionary or object of the file: its entries or attributes."""

    __slots__ = ("start",)

    def __init__(self, start: int = -1) -> None:
        super().__init__()
        self.start = start


class _Admitted:
    """What stands for a name that a pickle may use."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


def _path(*parts: str) -> str:
    return "/".join(parts)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


_ORDERED_DICT = _Admitted(Record)
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ORDERED_DICT,
    ("pathlib", "PosixPath"): _Admitted(_path),
    ("checkpoints_to_datasets.dataset_base", "ModelDatasetBase"): _Admitted(Record),
    ("torch._utils", "_rebuild_tensor_v2"): _Admitted(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Admitted(_parameter),
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
