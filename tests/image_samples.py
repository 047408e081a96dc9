"""Tiny files in the formats in which the image sets are published, and what is in them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from loopback import Loopback
from zoobench.generators.image_sets import IMAGE_SETS, ImageFile, ImageSet

#: Images of each sample: training and validation together, and test.
N_POOL, N_TEST = 30, 8

EUROSAT_CLASSES = (
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
    "Residential", "River", "SeaLake",
)  # fmt: skip

Parts = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Sample:
    """Files of an image set by name, its facts, and its images and labels as they should be read."""

    facts: ImageSet
    files: dict[str, bytes]
    parts: Parts


def sample(name: str) -> Sample:
    """A few random images of a set, in its format; the facts have the sizes of the sample."""
    published = IMAGE_SETS[name]
    rng = np.random.default_rng(len(name))
    files, parts = _WRITERS[published.format](published, rng)
    return Sample(facts_of(published, files, parts), files, parts)


def facts_of(published: ImageSet, files: Mapping[str, bytes], parts: Parts) -> ImageSet:
    """The set's facts with the sizes and checksums of these files."""
    n_pool = len(parts[0][1])
    n_test = len(parts[1][1]) if published.has_test else n_pool // 5
    n_val = n_pool // 5
    n_train = n_pool - n_val - (0 if published.has_test else n_test)
    settings = {key: replace(value, n_train=n_train, n_val=n_val) for key, value in published.settings.items()}
    return replace(
        published,
        n_test=n_test,
        settings=settings,
        files=tuple(replace(file, checksum=checksum(files[file.name], file)) for file in published.files),
    )


def checksum(content: bytes, like: ImageFile) -> str:
    algorithm = like.checksum.split(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def publish(
    sample: Sample, host: Loopback, monkeypatch: pytest.MonkeyPatch, *, contents: Mapping[str, bytes] | None = None
) -> ImageSet:
    """Serve a sample, and put it in the place of the published set; other contents may be served under its names."""
    for name, content in (sample.files if contents is None else contents).items():
        host.add(f"{sample.facts.name}/{name}", content)
    files = tuple(replace(f, addresses=(host.url(f"{sample.facts.name}/{f.name}"),)) for f in sample.facts.files)
    facts = replace(sample.facts, files=files)
    monkeypatch.setitem(IMAGE_SETS, facts.name, facts)
    return facts


# -- formats -----------------------------------------------------------------------------------------------------------


def _random(facts: ImageSet, rng: np.random.Generator) -> Parts:
    shape = (facts.channels, facts.side, facts.side)
    return [
        (rng.integers(0, 256, (n, *shape), dtype=np.uint8), rng.integers(0, facts.n_classes, n))
        for n in (N_POOL, N_TEST)
    ]


def idx(array: np.ndarray) -> bytes:
    """A gzipped idx file of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


def mat(**arrays: np.ndarray) -> bytes:
    """A compressed .mat file."""
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def tar_gz(members: Mapping[str, bytes]) -> bytes:
    """A gzipped tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def zip_of(members: Mapping[str, bytes]) -> bytes:
    """A zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    """A JPEG file of an image, (channels, height, width) or grey (height, width)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.ndim == 2 else pixels.transpose(1, 2, 0)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """Pixels of a JPEG file in colours, (3, height, width)."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def _write_idx(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    parts = _random(facts, rng)
    contents = [idx(array) for images, labels in parts for array in (images[:, 0], labels)]
    return {file.name: content for file, content in zip(facts.files, contents, strict=True)}, parts


def _write_svhn(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    parts = _random(facts, rng)
    files = {}
    for file, (images, labels) in zip(facts.files, parts, strict=True):
        labels = np.where(labels == 0, 10, labels).astype(np.uint8)
        files[file.name] = mat(X=images.transpose(2, 3, 1, 0), y=labels[:, None])
    return files, parts


def libsvm(values: np.ndarray, labels: np.ndarray) -> bytes:
    """Lines of libsvm's format, packed; labels from 0."""
    lines = (
        f"{label + 1} " + " ".join(f"{number}:{value:.7g}" for number, value in enumerate(row, 1)) + " \n"
        for row, label in zip(values, labels, strict=True)
    )
    return bz2.compress("".join(lines).encode())


def _write_libsvm(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    files, parts = {}, []
    for file, (images, labels) in zip(facts.files, _random(facts, rng), strict=True):
        # Numbers of three digits, as in the published file, so that rounding to bytes is not on an edge.
        values = np.round(images.reshape(len(images), -1) / 127.5 - 1, 3)
        values[0, :2] = -1, 1
        files[file.name] = libsvm(values, labels)
        pixels = np.floor((values.astype(np.float32) + np.float32(1)) / np.float32(2) * np.float32(255))
        parts.append((pixels.astype(np.uint8).reshape(images.shape), labels))
    return files, parts


def _write_cifar(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    parts = _random(facts, rng)
    fine = facts.n_classes == 100
    records = []
    for images, labels in parts:
        columns = [rng.integers(0, 20, len(labels)), labels] if fine else [labels]
        records.append(np.hstack([np.stack(columns, 1).astype(np.uint8), images.reshape(len(images), -1)]))
    if fine:
        names = ["cifar-100-binary/test.bin", "cifar-100-binary/train.bin"]
        members = dict(zip(names, [records[1].tobytes(), records[0].tobytes()], strict=True))
    else:
        batches = np.array_split(records[0], 5)
        members = {f"cifar-10-batches-bin/data_batch_{i}.bin": batches[i - 1].tobytes() for i in (2, 1, 3, 5, 4)}
        members |= {
            "cifar-10-batches-bin/readme.html": b"<html>",
            "cifar-10-batches-bin/test_batch.bin": records[1].tobytes(),
        }
    return {facts.files[0].name: tar_gz(members)}, parts


def _write_stl10(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    parts = _random(facts, rng)
    members = {"stl10_binary/class_names.txt": b"airplane\n", "stl10_binary/unlabeled_X.bin": bytes(200_000)}
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        members[f"stl10_binary/{part}_X.bin"] = images.transpose(0, 1, 3, 2).tobytes()
        members[f"stl10_binary/{part}_y.bin"] = (labels + 1).astype(np.uint8).tobytes()
    return {facts.files[0].name: tar_gz(members)}, parts


def _write_eurosat(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    # Three of each class; as names go, 10 comes before 2.
    members = {
        f"2750/{label}/{label}_{number}.jpg": jpeg(_blocks(facts, rng))
        for number in (2, 10, 1)
        for label in reversed(EUROSAT_CLASSES)
    }
    labels = np.repeat(np.arange(10), 3)
    images = np.stack([decoded(members[name]) for name in sorted(members)])
    return {facts.files[0].name: zip_of({"2750/": b""} | members)}, [(images, labels)]


def _write_tinyimagenet(facts: ImageSet, rng: np.random.Generator) -> tuple[dict[str, bytes], Parts]:
    root = "tiny-imagenet-200"
    classes = [f"n{number:08d}" for number in rng.permutation(200) + 1_440_000]
    train = {f"{root}/train/{label}/images/{label}_0.JPEG": jpeg(_blocks(facts, rng)) for label in classes}
    grey = next(iter(train))
    train[grey] = jpeg(_blocks(facts, rng)[0])
    chosen = [classes[number] for number in rng.integers(0, 200, N_TEST)]
    test = {f"val_{number}.JPEG": jpeg(_blocks(facts, rng)) for number in range(N_TEST)}
    notes = "".join(f"{name}\t{label}\t0\t32\t44\t62\n" for name, label in zip(test, chosen, strict=True))
    members = {f"{root}/words.txt": b"n01443537\tgoldfish\n", f"{root}/val/val_annotations.txt": notes.encode()}
    members |= train | {f"{root}/val/images/{name}": content for name, content in test.items()}
    members |= {f"{root}/train/{label}/{label}_boxes.txt": b"" for label in classes[:2]}
    members[f"{root}/test/images/test_0.JPEG"] = jpeg(_blocks(facts, rng))
    order = sorted(range(N_TEST), key=lambda number: (chosen[number], f"val_{number}.JPEG"))
    numbers = {label: number for number, label in enumerate(sorted(classes))}
    parts = [
        (np.stack([decoded(train[name]) for name in sorted(train)]), np.arange(200)),
        (
            np.stack([decoded(test[f"val_{number}.JPEG"]) for number in order]),
            np.array([numbers[chosen[number]] for number in order]),
        ),
    ]
    return {facts.files[0].name: zip_of(members)}, parts


def _blocks(facts: ImageSet, rng: np.random.Generator) -> np.ndarray:
    """Coloured squares: what JPEG keeps, unlike noise."""
    return rng.integers(0, 256, (3, 8, 8), dtype=np.uint8).repeat(facts.side // 8, 1).repeat(facts.side // 8, 2)


_WRITERS = {
    "idx": _write_idx,
    "svhn": _write_svhn,
    "libsvm": _write_libsvm,
    "cifar": _write_cifar,
    "stl10": _write_stl10,
    "eurosat": _write_eurosat,
    "tinyimagenet": _write_tinyimagenet,
}
