"""The formats in which image sets are published, read as they lie there: nothing is unpacked, nothing is executed."""

from __future__ import annotations

import bz2
import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.generators.image_folders import read_eurosat, read_tinyimagenet
from zoobench.generators.image_sets import ImageSet
from zoobench.readers.archive import TarArchive
from zoobench.readers.naming import naming


class Part(NamedTuple):
    """Images with their classes.

    Attributes
    ----------
    images : ndarray of shape (n_images, channels, height, width), uint8
    labels : ndarray of shape (n_images,), int64
        Classes from 0.
    """

    images: np.ndarray
    labels: np.ndarray


def read_image_files(facts: ImageSet, paths: Sequence[Path]) -> list[Part]:
    """The images of a set, from its published files.

    Parameters
    ----------
    facts : ImageSet
        The image set.
    paths : sequence of path-like
        Its files, in the order of ``facts.files``.

    Returns
    -------
    list of Part
        The training part, in the order of the files, and the test part, where the makers published one.

    Raises
    ------
    ZooFormatError
        If a file is damaged or is not what it should be: the message names it, what was found and what was expected.
    ImportError
        If the images are JPEG files and Pillow is not installed.
    """
    counts = [facts.n_pool, facts.n_test] if facts.has_test else [facts.n_pool]
    parts = _READERS[facts.format](facts, paths, counts)
    for part, count, path in zip(parts, counts, _named_by(paths, len(counts)), strict=True):
        with naming(path):
            _check(part, count, facts)
    return parts


def _named_by(paths: Sequence[Path], n_parts: int) -> list[Path]:
    """The file that each part is from."""
    return [paths[index * len(paths) // n_parts] for index in range(n_parts)]


def _check(part: Part, count: int, facts: ImageSet) -> None:
    expected = (count, facts.channels, facts.side, facts.side)
    if part.images.shape != expected or part.images.dtype != np.uint8:
        raise ZooFormatError(
            f"holds {_describe(part.images.shape)} ({part.images.dtype}), but {facts.title} has {_describe(expected)}"
        )
    if part.labels.shape != (count,):
        raise ZooFormatError(f"holds {len(part.labels)} labels, but {facts.title} has {count}")
    if len(wrong := np.flatnonzero((part.labels < 0) | (part.labels >= facts.n_classes))):
        raise ZooFormatError(
            f"has an image, number {wrong[0]}, whose label is class {part.labels[wrong[0]]}, but {facts.title} has "
            f"classes 0 to {facts.n_classes - 1}"
        )


def _describe(shape: Sequence[int]) -> str:
    return f"{shape[0]} images of " + " x ".join(map(str, shape[1:]))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in whatever its decompression raises; failures of the disk stay what they are."""
    with naming(path):
        try:
            yield
        except (EOFError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            text = str(error).rstrip(".") or type(error).__name__
            raise ZooFormatError(f"is truncated or damaged ({text}); delete it, and it is fetched again") from None


# -- MNIST and Fashion-MNIST -------------------------------------------------------------------------------------------


def _read_idx_files(facts: ImageSet, paths: Sequence[Path], counts: Sequence[int]) -> list[Part]:
    """Images and labels of each part lie in files of their own."""
    parts = []
    for count, images, labels in zip(counts, paths[::2], paths[1::2], strict=True):
        pixels = _read_idx(images, (count, facts.side, facts.side))[:, None]
        parts.append(Part(pixels, _read_idx(labels, (count,)).astype(np.int64)))
    return parts


def _read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An array of bytes: two zeros, 8 for bytes, the number of axes, their lengths, and then the values."""
    with _reading(path), gzip.open(path) as file:
        head = file.read(4 + 4 * len(shape))
        if head[:4] != bytes([0, 0, 8, len(shape)]) or len(head) < 4 + 4 * len(shape):
            raise ZooFormatError(
                f"is no idx file of bytes with {len(shape)} axes: it begins with {head[:4].hex(' ') or 'nothing'}, but "
                f"{bytes([0, 0, 8, len(shape)]).hex(' ')} was expected"
            )
        found = struct.unpack(f">{len(shape)}I", head[4:])
        if found != shape:
            raise ZooFormatError(f"is an array of shape {found}, but {shape} was expected")
        size = math.prod(shape)
        content = file.read(size + 1)
        if len(content) != size:
            raise ZooFormatError(f"does not have the {size} values that its header announces")
    return np.frombuffer(content, np.uint8).reshape(shape)


# -- SVHN --------------------------------------------------------------------------------------------------------------

#: Name -> kinds of numbers, and how many axes.
_MAT_ARRAYS = {"X": ("u", 4), "y": ("uif", 2)}


def _read_svhn(facts: ImageSet, paths: Sequence[Path], counts: Sequence[int]) -> list[Part]:
    """Arrays X (height, width, channels, images) and y of a .mat file; the digit 0 is class 10 there."""
    parts = []
    for path in paths:
        arrays = _read_mat(path)
        images, labels = arrays["X"], _whole(arrays["y"].ravel())
        labels[labels == 0] = -1  # which no digit has there; it must not become one
        labels[labels == facts.n_classes] = 0
        parts.append(Part(images.transpose(3, 2, 0, 1), labels))
    return parts


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    with naming(path):
        try:
            arrays = loadmat(path, variable_names=list(_MAT_ARRAYS))
        except Exception as error:  # of a damaged file, whatever the parser stumbles over
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a failure of the disk
            raise ZooFormatError(f"is no whole .mat file ({error}); delete it, and it is fetched again") from None
        for name, (kinds, n_axes) in _MAT_ARRAYS.items():
            array = arrays.get(name)
            if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or array.ndim != n_axes:
                raise ZooFormatError(f"has no array {name!r} of numbers with {n_axes} axes, so it is another file")
    return {name: arrays[name] for name in _MAT_ARRAYS}


def _whole(labels: np.ndarray) -> np.ndarray:
    """Labels as whole numbers; what is none becomes class -1, which is refused later."""
    return np.where(labels == np.round(labels), labels, -1).astype(np.int64)


# -- USPS --------------------------------------------------------------------------------------------------------------


def _read_libsvm(facts: ImageSet, paths: Sequence[Path], counts: Sequence[int]) -> list[Part]:
    """Lines ``label 1:value 2:value ...``, with values from -1 to 1 and labels from 1."""
    from sklearn.datasets import load_svmlight_file

    parts = []
    for path in paths:
        with _reading(path), bz2.open(path) as file:
            try:
                sparse, labels = load_svmlight_file(file, n_features=facts.side**2, dtype=np.float32, zero_based=False)
            except ValueError as error:
                raise ZooFormatError(f"is not in libsvm's format ({error})") from None
            values = sparse.toarray()
            if not np.all(np.abs(values) <= 1):
                raise ZooFormatError("has values that are not between -1 and 1")
            # In float32 and cut off, as torchvision does it.
            pixels = ((values + 1) / 2 * 255).astype(np.uint8)
            images = pixels.reshape(-1, 1, facts.side, facts.side)
            parts.append(Part(images, _whole(labels) - 1))
    return parts


# -- CIFAR and STL-10 --------------------------------------------------------------------------------------------------


def _read_cifar(facts: ImageSet, paths: Sequence[Path], counts: Sequence[int]) -> list[Part]:
    """Records of one label (two in CIFAR-100: coarse and fine) and the three channels, row by row."""
    if facts.n_classes == 100:
        folder, files, n_labels = "cifar-100-binary", [["train.bin"], ["test.bin"]], 2
    else:
        batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
        folder, files, n_labels = "cifar-10-batches-bin", [batches, ["test_batch.bin"]], 1
    n_pixels = facts.channels * facts.side**2
    record = n_labels + n_pixels
    wanted = [f"{folder}/{name}" for names in files for name in names]
    contents = _read_members(paths[0], wanted, limit=record * max(counts))
    parts = []
    for names in files:
        records = []
        for name in names:
            content = contents[f"{folder}/{name}"]
            if len(content) % record:
                raise ZooFormatError(f"{paths[0]}: {name} has {len(content)} bytes, no multiple of {record}")
            records.append(np.frombuffer(content, np.uint8).reshape(-1, record))
        whole = np.concatenate(records)
        images = whole[:, n_labels:].reshape(-1, facts.channels, facts.side, facts.side)
        parts.append(Part(images, whole[:, n_labels - 1].astype(np.int64)))
    return parts


def _read_stl10(facts: ImageSet, paths: Sequence[Path], counts: Sequence[int]) -> list[Part]:
    """Channel by channel and column by column; labels from 1. The images without labels are passed by."""
    n_pixels = facts.channels * facts.side**2
    wanted = [f"stl10_binary/{part}_{kind}.bin" for part in ("train", "test") for kind in "Xy"]
    contents = _read_members(paths[0], wanted, limit=n_pixels * max(counts))
    parts = []
    for images, labels in zip(wanted[::2], wanted[1::2], strict=True):
        pixels = np.frombuffer(contents[images], np.uint8)
        if len(pixels) % n_pixels:
            raise ZooFormatError(f"{paths[0]}: {images} has {len(pixels)} bytes, no multiple of {n_pixels}")
        columns = pixels.reshape(-1, facts.channels, facts.side, facts.side)
        classes = np.frombuffer(contents[labels], np.uint8).astype(np.int64) - 1
        parts.append(Part(columns.transpose(0, 1, 3, 2), classes))
    return parts


def _read_members(path: Path, wanted: Sequence[str], *, limit: int) -> dict[str, bytes]:
    """Contents of some members of a tar.gz, which is left as soon as all of them have passed."""
    contents: dict[str, bytes] = {}
    with naming(path), TarArchive(path, gzip.GzipFile) as archive:
        for member in archive.members():
            if member.name in wanted:
                with naming(member.name):
                    contents[member.name] = bytes(member.read(limit))
                if len(contents) == len(wanted):
                    return contents
        missing = [name for name in wanted if name not in contents]
        raise ZooFormatError(f"has no member {missing[0]!r}, so it is not the archive of the images")


_READERS: dict[str, Callable[[ImageSet, Sequence[Path], Sequence[int]], list[Part]]] = {
    "idx": _read_idx_files,
    "svhn": _read_svhn,
    "libsvm": _read_libsvm,
    "cifar": _read_cifar,
    "stl10": _read_stl10,
    "eurosat": lambda facts, paths, counts: [Part(*part) for part in read_eurosat(paths[0], facts)],
    "tinyimagenet": lambda facts, paths, counts: [Part(*part) for part in read_tinyimagenet(paths[0], facts)],
}
