"""The weights of samples of a preprocessed file."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.readers.admitted import Record
from zoobench.readers.blocks import Block, Template
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.rows import as_bytes
from zoobench.readers.tensors import Tensor, join_tensors
from zoobench.readers.torchfile import TorchFile

#: A state_dict that looked like another, one that did not, or a weight vector.
Sample = Block | Record | Tensor

#: Recognised states whose places in the file are looked up at once: enough to be fast, few enough to be small.
_STATES_AT_ONCE = 4096


def shapes_of(sample: object) -> list[tuple[int, ...]]:
    """Shapes of the sample's tensors; of a vector, its length alone."""
    if isinstance(sample, Block):
        return sample.template.shapes
    if isinstance(sample, Tensor):
        return [(sample.size,)]
    if isinstance(sample, Record) and sample and all(type(tensor) is Tensor for tensor in sample.values()):
        return [tensor.shape for tensor in sample.values()]
    raise ZooFormatError("is damaged: a sample is neither a state_dict nor a weight vector")


def read_samples(file: TorchFile, samples: Sequence[Sample], room: Room = MEMORY) -> np.ndarray:
    """Weights of samples of one shape.

    Parameters
    ----------
    file : TorchFile
        Where their numbers are.
    samples : sequence
        In the order of the rows; not empty.
    room : Room
        Where they go.

    Returns
    -------
    ndarray of shape (n_samples, n_weights), float32

    Raises
    ------
    ZooFormatError
        If the samples differ in shape, or anything is damaged.
    """
    shapes = shapes_of(samples[0])
    for sample in samples:
        found = shapes_of(sample)
        if found is not shapes and found != shapes:
            raise ZooFormatError(f"has samples of shapes {shapes} and of shapes {found}; a zoo has one architecture")
    n_weights = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
    if not n_weights:
        raise ZooFormatError("has samples without weights")
    weights = room.matrix(len(samples), n_weights)
    blocks: dict[Template, list[tuple[int, int]]] = defaultdict(list)
    vectors: list[tuple[int, Tensor]] = []
    for row, sample in enumerate(samples):
        if isinstance(sample, Block):
            blocks[sample.template].append((row, sample.number))
        elif isinstance(sample, Tensor):
            vectors.append((row, sample))
        else:
            tensors = list(sample.values())
            weights[row] = join_tensors(tensors, file.storages(tensors))
    for template, pairs in blocks.items():
        rows, numbers = np.array(pairs).T
        _read_blocks(file, template, numbers, rows, weights)
    contents = file.storages([tensor for _, tensor in vectors])
    for (row, tensor), content in zip(vectors, contents, strict=True):
        weights[row] = join_tensors([tensor], [content])
    return weights


def _read_blocks(
    file: TorchFile, template: Template, numbers: np.ndarray, rows: np.ndarray, weights: np.ndarray
) -> None:
    """Copy the storages of a template's states into rows of the matrix."""
    directory = file.directory
    sizes = 4 * template.sizes
    target, view, row_size = as_bytes(weights), directory.view, 4 * weights.shape[1]
    # In the order of the file: a disk reads that faster than any other.
    keys = template.keys()[numbers]
    order = np.argsort(keys[:, 0])
    for begin in range(0, len(order), _STATES_AT_ONCE):
        chosen = order[begin : begin + _STATES_AT_ONCE]
        entries = file.entries(keys[chosen].reshape(-1))
        if np.any(directory.size[entries].reshape(-1, len(sizes)) != sizes):
            raise ZooFormatError("is damaged: a storage is not as large as its pickle says")
        packed = bool(np.any(directory.method[entries]))
        starts = np.zeros(len(entries), np.int64) if packed else directory.stored_starts(entries)
        places = (rows[chosen][:, None] * row_size + np.cumsum(sizes) - sizes).reshape(-1)
        for entry, start, place, size, checksum in zip(
            entries.tolist(),
            starts.tolist(),
            places.tolist(),
            np.tile(sizes, len(chosen)).tolist(),
            directory.crc[entries].tolist(),
            strict=True,
        ):
            content = directory.read(entry, size) if packed else view[start : start + size]
            if zlib.crc32(content) != checksum:
                raise ZooFormatError("fails its checksum")
            target[place : place + size] = content
