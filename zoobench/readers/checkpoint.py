"""One torch checkpoint, to a weight vector.

Checkpoints of one architecture differ in nothing but the bytes of their storages and the checksums of these. So the
first is read with all care, and of the others it is enough to compare the bytes around the storages.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers.admitted import Record
from zoobench.readers.rows import as_bytes
from zoobench.readers.sparsified import Twin, find_twin
from zoobench.readers.tensors import FLOAT32, Tensor, as_float32, join_tensors
from zoobench.readers.torchfile import TorchFile
from zoobench.readers.zipdir import MAX_RATIO, ZipDirectory

_DESCRIPTOR = b"PK\x07\x08"
_RECORD_SIZE, _CRC_IN_RECORD, _CRC_IN_HEADER = 46, 16, 14
_HAS_DESCRIPTOR = 0x8
#: Each is compared with every checkpoint of its length. A zoo has one or two kinds of checkpoints.
_MAX_TEMPLATES = 8


class Structure:
    """What tensors a state_dict consists of.

    Attributes
    ----------
    tensors : list of (name, shape)
        In order; a ``module.`` prefix (data parallel) is taken off the names.
    shapes : list of tuple of int
        What has to agree between the states of a zoo; the names need not.
    n_weights : int
        Length of the weight vector.
    """

    def __init__(self, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
        self.tensors = [(name.removeprefix("module."), shape) for name, shape in tensors]
        self.shapes = [shape for _, shape in tensors]
        self.n_weights = sum(int(np.prod(shape, dtype=np.int64)) for shape in self.shapes)
        if not self.n_weights:
            raise ZooFormatError("holds no weights")

    def layout(self) -> WeightLayout:
        """The canonical layout of these tensors."""
        try:
            return WeightLayout.from_shapes(self.tensors).canonical()
        except ZooFormatError:
            raise
        except ValueError as error:
            raise ZooFormatError(f"holds no state_dict: {error}") from None


class Checkpoint(NamedTuple):
    """A state: its structure, and the bytes of its weight vector in pieces, one behind the other."""

    structure: Structure
    pieces: list[memoryview]


class CheckpointReader:
    """Reads checkpoints, and remembers what those of one kind have in common.

    Attributes
    ----------
    sparsified : bool
        Whether any checkpoint so far was one of a sparsified network.
    """

    def __init__(self) -> None:
        self.sparsified = False
        self._templates: dict[int, list[_Template]] = {}
        self._n_templates = 0

    def read(self, content: bytes | memoryview) -> Checkpoint:
        """A state from the bytes of its checkpoint file, every checksum in it checked.

        Raises
        ------
        ZooFormatError
            If the file is damaged, or no torch file with a state_dict.
        UnsafeFileError
            If it asks for more than tensors.
        """
        for template in self._templates.get(len(content), ()):
            if template.fits(content):
                return template.read(content)
        return self._read_with_care(bytes(content))

    def _read_with_care(self, content: bytes) -> Checkpoint:
        if not content.startswith(b"PK\x03\x04"):
            raise not_a_zip(content)
        directory = ZipDirectory(content)
        file = TorchFile(directory)
        state = file.load()
        if not isinstance(state, Record) or not all(
            isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
        ):
            raise ZooFormatError("holds no state_dict of tensors")
        named = [(name, tensor.shape) for name, tensor in state.items()]
        structure = Structure(named)
        tensors: list[Tensor] = list(state.values())
        vector = join_tensors(tensors, file.storages(tensors))
        # Only now: what the pickle says of the sizes has been compared with what there is.
        twin = find_twin(named)
        if twin is not None:
            structure = Structure(twin.tensors)
        for index in range(len(directory)):
            directory.read(index, MAX_RATIO * len(content))
        storages = {tensor.storage.key for tensor in tensors}
        plain = all(tensor.fills_storage for tensor in tensors) and len(storages) == len(tensors)
        if plain and not np.any(directory.method) and self._n_templates < _MAX_TEMPLATES:
            entries = file.entries(np.array([int(tensor.storage.key) for tensor in tensors]))
            template = _Template(content, directory, entries, structure, tensors, twin)
            self._templates.setdefault(len(content), []).append(template)
            self._n_templates += 1
        if twin is not None:
            self.sparsified = True
            ends = np.cumsum([tensor.size for tensor in tensors])
            vector = twin.evaluated([as_bytes(part) for part in np.split(vector, ends[:-1])])
        return Checkpoint(structure, [as_bytes(vector)])


class _Template:
    """The bytes that checkpoints of one kind have in common, and where in them the storages lie."""

    def __init__(
        self,
        content: bytes,
        directory: ZipDirectory,
        entries: np.ndarray,
        structure: Structure,
        tensors: list[Tensor],
        twin: Twin | None,
    ) -> None:
        self._structure = structure
        self._twin = twin
        types = [tensor.storage.dtype for tensor in tensors]
        self._n_tensors = len(types)
        self._converted = [(place, dtype) for place, dtype in enumerate(types) if dtype != FLOAT32]
        # Besides the storages, torch writes a number derived from their checksums.
        varying = [*entries.tolist(), *directory.find(b"/.data/serialization_id", tail=True)]
        starts = directory.stored_starts(np.array(varying))
        stops = starts + directory.size[varying]
        self._spans = list(zip(starts.tolist(), stops.tolist(), strict=True))
        fixed = np.ones(len(content), bool)
        checksums = []
        for index, (start, stop) in zip(varying, self._spans, strict=True):
            fixed[start:stop] = False
            places = [int(directory.offset[index]) + _CRC_IN_HEADER]
            if directory.flags[index] & _HAS_DESCRIPTOR:
                places.append(stop + 4 * (content[stop : stop + 4] == _DESCRIPTOR))
            checksums.append(int(directory.name_start[index]) - _RECORD_SIZE + _CRC_IN_RECORD)
            for place in (*places, checksums[-1]):
                fixed[place : place + 4] = False
        self._checksums = (np.array(checksums)[:, None] + np.arange(4)).reshape(-1)
        self._fixed_places = np.flatnonzero(fixed)
        self._fixed = self._bytes(content, self._fixed_places).tobytes()

    def fits(self, content: bytes | memoryview) -> bool:
        """Whether all but the storages and their checksums is as in the first checkpoint of this kind."""
        return self._bytes(content, self._fixed_places).tobytes() == self._fixed

    def read(self, content: bytes | memoryview) -> Checkpoint:
        """The state, its checksums checked."""
        view = memoryview(content)
        expected = self._bytes(content, self._checksums).view("<u4").tolist()
        pieces = [view[start:stop] for start, stop in self._spans]
        if list(map(zlib.crc32, pieces)) != expected:
            raise ZooFormatError("fails its checksum")
        del pieces[self._n_tensors :]
        for place, dtype in self._converted:
            pieces[place] = as_bytes(as_float32(np.frombuffer(pieces[place], dtype)))
        if self._twin is not None:
            pieces = [as_bytes(self._twin.evaluated(pieces))]
        return Checkpoint(self._structure, pieces)

    @staticmethod
    def _bytes(content: bytes | memoryview, places: np.ndarray) -> np.ndarray:
        return np.frombuffer(content, np.uint8).take(places)


def not_a_zip(head: bytes) -> ZooFormatError:
    """The error for a file that should be a zip and is none, by its first bytes."""
    if not head:
        return ZooFormatError("is empty; fetch it again")
    if head[:1] == b"\x80":
        return UnsafeFileError(
            "is a bare pickle or in the legacy torch format, which can run code when it is loaded; it has not been read"
        )
    if head.lstrip()[:1] == b"<":
        return ZooFormatError("is a web page, so its download went wrong; fetch it again")
    return ZooFormatError("is no torch file, or a damaged one: it does not begin like a zip")
