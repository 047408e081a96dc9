"""The names that a pickle of a zoo may use, and the inert records that stand for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoobench.readers.tensors import STORAGE_TYPES, Tensor, rebuild_tensor


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


class Admitted:
    """What stands for something that a pickle may call: ``build`` makes our own record of it."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build = build


def _ordered_dict() -> Record:
    return OrderedRecord()


def _path(*parts: str) -> str:
    return "/".join(parts)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


#: Module and name -> what stands for it. Whatever else a pickle names is refused.
NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Admitted(_ordered_dict),
    ("pathlib", "PosixPath"): Admitted(_path),
    ("checkpoints_to_datasets.dataset_base", "ModelDatasetBase"): Admitted(Attributes),
    ("torch._utils", "_rebuild_tensor_v2"): Admitted(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Admitted(_parameter),
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
