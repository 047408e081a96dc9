"""A file that torch.save wrote: a zip with one pickle and one record a tensor storage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.readers.blocks import StateBlocks
from zoobench.readers.tensors import Tensor
from zoobench.readers.unpickle import load_pickle
from zoobench.readers.zipdir import Buffer, ZipDirectory, find_directory

#: The record of ``<name>/data.pkl`` in a zip's directory.
_PICKLE_RECORD = re.compile(rb"PK\x01\x02.{24}(..).{16}([^/]{1,1024}/data\.pkl)", re.DOTALL)
_MOST_DIGITS = 18
_LARGEST_PACKED_PICKLE = 1 << 26
_LARGEST_STORAGE = 1 << 40


def is_torch_file(buffer: Buffer) -> bool:
    """Whether a zip is one that torch.save wrote, told without reading its whole directory."""
    start, stop, _ = find_directory(buffer)
    record = _PICKLE_RECORD.search(buffer, start, stop)
    return record is not None and int.from_bytes(record[1], "little") == len(record[2])


class TorchFile:
    """What a torch file holds, without torch.

    Parameters
    ----------
    directory : ZipDirectory
        Of the file.

    Raises
    ------
    ZooFormatError
        If it is no torch file, or one from a big-endian machine.
    """

    def __init__(self, directory: ZipDirectory) -> None:
        found = _find_pickle(directory)
        if found is None:
            raise ZooFormatError("is no torch file: it has no data.pkl")
        self.directory = directory
        self._pickle = found
        self._root = directory.raw_name(found).removesuffix(b"data.pkl")
        for index in directory.find(self._root + b"byteorder"):
            order = bytes(directory.read(index, 16)).strip()
            if order != b"little":
                raise ZooFormatError(f"has byte order {order.decode('ascii', 'replace')!r}; only 'little' is read")
        self._intact: set[int] = set()

    def load(self, blocks: StateBlocks | None = None) -> Any:
        """What its pickle holds; see :func:`~zoobench.readers.unpickle.load_pickle`."""
        stored = self.directory.packed[self._pickle] == self.directory.size[self._pickle]
        limit = len(self.directory.buffer) if stored else _LARGEST_PACKED_PICKLE
        return load_pickle(self.directory.read(self._pickle, limit), blocks)

    def storages(self, tensors: Sequence[Tensor]) -> list[memoryview]:
        """Bytes of the storages of some tensors, stored ones checked once."""
        entries = self.entries(np.array([_record_number(tensor.storage.key) for tensor in tensors], np.int64))
        contents = []
        for tensor, entry in zip(tensors, entries.tolist(), strict=True):
            size = tensor.storage.n_numbers * tensor.storage.dtype.itemsize
            if self.directory.size[entry] != size:
                raise ZooFormatError(f"is damaged: a storage has not the {size} bytes that its pickle says")
            if entry in self._intact:
                contents.append(self.directory.packed_content(entry))
                continue
            contents.append(self.directory.read(entry, _LARGEST_STORAGE))
            if self.directory.method[entry] == 0:
                self._intact.add(entry)
        return contents

    def entries(self, numbers: np.ndarray) -> np.ndarray:
        """Members of the zip that hold the storages of those numbers.

        Raises
        ------
        ZooFormatError
            If one is missing.
        """
        known, entries = self._numbered
        places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        if not len(known) or np.any(known[places] != numbers):
            raise ZooFormatError("is damaged: it lacks the storage of a tensor")
        found: np.ndarray = entries[places]
        return found

    @cached_property
    def _numbered(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all storages, sorted, and their members: read off a million names at once."""
        directory, prefix = self.directory, self._root + b"data/"
        numbers, entries = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for length in np.unique(directory.name_length).tolist():
            n_digits = length - len(prefix)
            if not 1 <= n_digits <= _MOST_DIGITS:
                continue
            members = np.flatnonzero(directory.name_length == length)
            windows = np.lib.stride_tricks.sliding_window_view(directory.bytes, length)
            names = windows[directory.name_start[members]]
            fits = (names[:, : len(prefix)] == np.frombuffer(prefix, np.uint8)).all(axis=1)
            fits &= (names[:, len(prefix)] != ord("0")) | (n_digits == 1)
            number = np.zeros(len(members), np.int64)
            for column in names.T[len(prefix) :]:
                fits &= (column >= ord("0")) & (column <= ord("9"))
                number = 10 * number + column - ord("0")
            numbers.append(number[fits])
            entries.append(members[fits])
        joined = np.concatenate(numbers)
        order = np.argsort(joined, kind="stable")
        if np.any(np.diff(joined[order]) == 0):
            raise ZooFormatError("is damaged: it has two records for one storage")
        return joined[order], np.concatenate(entries)[order]


def _find_pickle(directory: ZipDirectory) -> int | None:
    found = [index for index in directory.find(b"/data.pkl", tail=True) if directory.raw_name(index).count(b"/") == 1]
    return found[0] if len(found) == 1 else None


def _record_number(key: str) -> int:
    if not key.isascii() or not key.isdecimal() or len(key) > _MOST_DIGITS or (key[0] == "0" and len(key) > 1):
        raise ZooFormatError(f"is damaged: it has a storage called {key[:40]!r}")
    return int(key)
