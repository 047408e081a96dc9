"""Tensors of a torch file, as descriptions and as numbers; torch itself is not needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from zoobench.errors import ZooFormatError

#: torch storage class -> type of its numbers. Brain floats are the upper half of a float32.
STORAGE_TYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype([("bfloat16", "<u2")]),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("<i1"),
    "ByteStorage": np.dtype("<u1"),
    "BoolStorage": np.dtype("?"),
}
FLOAT32 = STORAGE_TYPES["FloatStorage"]
_BFLOAT16 = STORAGE_TYPES["BFloat16Storage"]

#: Tensors may share a storage, as tied weights do, but not so that a small file claims to hold a huge network.
_MAX_SHARING = 16


class Storage(NamedTuple):
    """Numbers in a torch file: the name of their record, their type and how many they are."""

    key: str
    dtype: np.dtype
    n_numbers: int


class Tensor(NamedTuple):
    """A tensor in a torch file: where its numbers lie in a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def fills_storage(self) -> bool:
        """Whether its numbers are those of its storage, in the same order."""
        return self.offset == 0 and self.size == self.storage.n_numbers and self.stride == _row_major(self.shape)

    @property
    def is_whole_storage(self) -> bool:
        """Whether its bytes are those of a float32 storage, in the same order."""
        return self.storage.dtype == FLOAT32 and self.fills_storage


def rebuild_tensor(storage: object, offset: int, shape: Sequence[int], stride: Sequence[int], *_: object) -> Tensor:
    """Description of a tensor, from the arguments that torch's pickles give.

    Raises
    ------
    ZooFormatError
        If the arguments are not what they should be, or the tensor reaches beyond its storage.
    """
    shape, stride = tuple(shape), tuple(stride)
    if not isinstance(storage, Storage) or len(shape) != len(stride):
        raise ZooFormatError("holds a damaged pickle: a tensor without storage or strides")
    if any(type(number) is not int or not 0 <= number < 1 << 48 for number in (offset, *shape, *stride)):
        raise ZooFormatError("holds a damaged pickle: a tensor whose shape or strides are no lengths")
    tensor = Tensor(storage, offset, shape, stride)
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if tensor.size and (last >= storage.n_numbers or tensor.size > storage.n_numbers):
        raise ZooFormatError("holds a tensor that is larger than its storage")
    return tensor


def join_tensors(tensors: Sequence[Tensor], storages: Sequence[memoryview]) -> np.ndarray:
    """The weight vector of some tensors: row-major, one behind the other, float32.

    Parameters
    ----------
    tensors : sequence of Tensor
        In the order of the vector.
    storages : sequence of memoryview
        Bytes of the storage of each.

    Returns
    -------
    ndarray of shape (n_weights,), float32
    """
    total = sum(tensor.size for tensor in tensors)
    available = sum({tensor.storage.key: tensor.storage.n_numbers for tensor in tensors}.values())
    if total > _MAX_SHARING * available:
        raise ZooFormatError(f"has tensors of {total} numbers in all, but storages of {available}")
    vector = np.empty(total, np.float32)
    position = 0
    for tensor, content in zip(tensors, storages, strict=True):
        vector[position : position + tensor.size] = as_float32(as_array(tensor, content)).reshape(-1)
        position += tensor.size
    return vector


def as_array(tensor: Tensor, content: memoryview) -> np.ndarray:
    """A view of a tensor's numbers in its storage, strides and all."""
    dtype = tensor.storage.dtype
    flat = np.frombuffer(content, dtype)
    if not tensor.size:
        return np.empty(tensor.shape, dtype)
    steps = tuple(step * dtype.itemsize for step in tensor.stride)
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps, writeable=False)


def as_float32(array: np.ndarray) -> np.ndarray:
    """The numbers of a storage, of whatever type, as torch converts them."""
    if array.dtype == _BFLOAT16:
        return (array["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    # Numbers beyond float32 become infinite, and states with such weights are dropped like those with NaN.
    with np.errstate(over="ignore"):
        return array.astype(np.float32)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1]
    for side in reversed(shape[1:]):
        strides.append(strides[-1] * side)
    return tuple(reversed(strides)) if shape else ()
