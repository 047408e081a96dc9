"""Zips of JPEG files, one folder a class: read where they lie, in the order of torchvision's ImageFolder."""

from __future__ import annotations

import io
import mmap
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.generators.image_sets import ImageSet
from zoobench.readers.archive import Member, ZipArchive
from zoobench.readers.naming import naming
from zoobench.readers.zipdir import ZipDirectory

#: Images of 64 x 64 pixels take a few kB.
_LARGEST_FILE = 1 << 20
_LARGEST_LIST = 1 << 24

_EUROSAT = re.compile(r"2750/(?P<label>[^/]+)/[^/]+\.jpg")
_TINY_TRAIN = re.compile(r"tiny-imagenet-200/train/(?P<label>[^/]+)/images/[^/]+\.JPEG")
_TINY_VALIDATION = re.compile(r"tiny-imagenet-200/val/images/(?P<name>[^/]+\.JPEG)")
_TINY_ANNOTATIONS = "tiny-imagenet-200/val/val_annotations.txt"


def read_eurosat(path: Path, facts: ImageSet) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of EuroSAT: all in one part, classes in alphabetical order."""
    with naming(path):
        decode = _decoder(facts)
        labelled = [(found["label"], member) for member in _members(path) if (found := _EUROSAT.fullmatch(member.name))]
        classes = _classes({label for label, _ in labelled}, facts)
        return [_read(labelled, classes, facts, decode)]


def read_tinyimagenet(path: Path, facts: ImageSet) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of Tiny-ImageNet: the training folders, then the validation folder with its list of classes."""
    with naming(path):
        decode = _decoder(facts)
        train: list[tuple[str, Member]] = []
        validation: dict[str, Member] = {}
        annotations: Member | None = None
        for member in _members(path):
            if found := _TINY_TRAIN.fullmatch(member.name):
                train.append((found["label"], member))
            elif found := _TINY_VALIDATION.fullmatch(member.name):
                validation[found["name"]] = member
            elif member.name == _TINY_ANNOTATIONS:
                annotations = member
        classes = _classes({label for label, _ in train}, facts)
        if annotations is None:
            raise ZooFormatError(f"has no {_TINY_ANNOTATIONS}, which says the classes of the validation images")
        with naming(annotations.name):
            labels = _annotated(bytes(annotations.read(_LARGEST_LIST)), classes)
            if labels.keys() != validation.keys():
                odd = min(labels.keys() ^ validation.keys())
                raise ZooFormatError(f"lists other images than the zip has: {odd} is in one of them only")
        test = [(labels[name], member) for name, member in validation.items()]
        return [_read(train, classes, facts, decode), _read(test, classes, facts, decode)]


def _annotated(content: bytes, classes: dict[str, int]) -> dict[str, str]:
    """File -> class, from lines of which these are the first two fields, with tabs between them."""
    labels: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in classes or fields[0] in labels:
            raise ZooFormatError(f"line {number} does not give a file one of the {len(classes)} classes")
        labels[fields[0]] = fields[1]
    return labels


def _members(path: Path) -> list[Member]:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ZooFormatError("is empty; delete it, and it is fetched again")
        # Members are slices of the map, which lasts as long as they do.
        return list(ZipArchive(ZipDirectory(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))).members())


def _classes(names: set[str], facts: ImageSet) -> dict[str, int]:
    if len(names) != facts.n_classes:
        raise ZooFormatError(f"has {len(names)} folders of images, but {facts.title} has {facts.n_classes} classes")
    return {name: number for number, name in enumerate(sorted(names))}


def _read(
    labelled: Sequence[tuple[str, Member]],
    classes: dict[str, int],
    facts: ImageSet,
    decode: Callable[[Any], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Decoded images in order of class, then of name."""
    ordered = sorted(labelled, key=lambda item: (item[0], item[1].name))
    images = np.empty((len(ordered), facts.channels, facts.side, facts.side), dtype=np.uint8)
    for image, (_, member) in zip(images, ordered, strict=True):
        with naming(member.name):
            image[...] = decode(member.read(_LARGEST_FILE))
    return images, np.array([classes[label] for label, _ in ordered], dtype=np.int64)


def _decoder(facts: ImageSet) -> Callable[[Any], np.ndarray]:
    """What makes pixels, (channels, height, width), of a JPEG file's content."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError(
            f"the images of {facts.name!r} are JPEG files, which Pillow decodes: pip install zoobench[images]"
        ) from None

    def decode(content: Any) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
                if image.size != (facts.side, facts.side):
                    found = " x ".join(map(str, image.size))
                    raise ZooFormatError(f"is an image of {found} pixels, but {facts.side} x {facts.side} was expected")
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)  # a few files are grey
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ZooFormatError(f"is no whole JPEG file ({error})") from None

    return decode
