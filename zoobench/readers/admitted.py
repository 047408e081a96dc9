"""The names that a pickle of a zoo may use, and the inert records that stand for them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

from zoobench.errors import ZooFormatError
from zoobench.readers.tensors import STORAGE_TYPES, Tensor, rebuild_tensor

_LONGEST_PATH = 4096
_PACKED_INTEGER = re.compile(rb"K.|M..|J.{4}", re.DOTALL)


class Record(dict[Any, Any]):
    """A dictionary of the file; ``start`` is where the pickle goes on behind its creation."""

    __slots__ = ("start",)

    def __init__(self, start: int = -1) -> None:
        super().__init__()
        self.start = start


class OrderedRecord(Record):
    """An ordered dictionary, which can have attributes of its own."""

    __slots__ = ()


class Attributes(Record):
    """An object of the file, as the dictionary of its attributes."""

    __slots__ = ()


class IntegerRun:
    """Integers that follow each other in a list of the file, still packed: it stands for all of them in the list."""

    __slots__ = ("_packed",)

    def __init__(self, packed: memoryview) -> None:
        self._packed = packed

    def values(self) -> list[int]:
        """The integers."""
        return [_integer(packed) for packed in _PACKED_INTEGER.findall(self._packed)]


def unpacked(values: list[Any]) -> list[Any]:
    """A list of the file with the integers in it that are still packed."""
    if IntegerRun not in map(type, values):
        return values
    found: list[Any] = []
    for value in values:
        if type(value) is IntegerRun:
            found += value.values()
        else:
            found.append(value)
    return found


class Admitted:
    """What stands for something that a pickle may call: ``build`` makes our own record of it."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


def _integer(packed: bytes) -> int:
    # One and two bytes are unsigned, four are signed.
    return int.from_bytes(packed[1:], "little", signed=packed[:1] == pickle.BININT)


def _ordered_dict() -> Record:
    return OrderedRecord()


def _path(*parts: str) -> str:
    # A pickle may name one long string many times, and the file system takes no longer paths.
    if sum(map(len, parts)) > _LONGEST_PATH:
        raise ZooFormatError(f"has a path of more than {_LONGEST_PATH} letters")
    return "/".join(parts)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _set(items: list[Any]) -> tuple[Any, ...]:
    return tuple(items)


#: The authors' classes. What they published in 2021 and 2022 is written by another dataset than the Model Zoos are, and
#: that one has an augmentation among its attributes, a torch module without weights; in 2022 its package was renamed.
_CLASSES = (
    ("checkpoints_to_datasets.dataset_base", "ModelDatasetBase"),
    ("checkpoints_to_datasets.dataset_simclr", "SimCLRDataset"),
    ("checkpoints_to_datasets.random_erasing", "RandomErasingVector"),
)

#: Module and name -> what stands for it. Whatever else a pickle names is refused.
NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Admitted(_ordered_dict),
    ("pathlib", "PosixPath"): Admitted(_path),
    **{(f"{package}{module}", name): Admitted(Attributes) for module, name in _CLASSES for package in ("", "ghrp.")},
    **{(module, "set"): Admitted(_set) for module in ("__builtin__", "builtins")},
    ("torch._utils", "_rebuild_tensor_v2"): Admitted(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Admitted(_parameter),
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
