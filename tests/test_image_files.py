"""Files of images that are damaged, wrong or hostile: one clear sentence, and nothing written or executed."""

from __future__ import annotations

import gzip
import io
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from image_samples import Sample, idx, jpeg, libsvm, mat, sample, tar_gz, zip_of
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.generators.image_files import Part, read_image_files

CIFAR, CIFAR_ROOT = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


def read(sample: Sample, folder: Path, **other: bytes) -> list[Part]:
    """Read a sample's files from a folder, some of them with other contents."""
    paths = []
    for file in sample.facts.files:
        paths.append(folder / file.name)
        paths[-1].write_bytes(other.get(file.name, sample.files[file.name]))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    try:
        return read_image_files(sample.facts, paths)
    finally:
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        assert sorted(os.listdir(folder.parent)) == [folder.name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


def members_of(sample: Sample) -> dict[str, bytes]:
    """Contents of a sample's zip."""
    (content,) = sample.files.values()
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "svhn", "usps", "cifar10", "cifar100", "stl10", "eurosat", "tinyimagenet"])
@pytest.mark.parametrize("damage", ["nothing", "cut", "text", "page"])
def test_damaged_files_are_named(name: str, damage: str, folder: Path) -> None:
    """An empty file, a truncated one, text, a web page: the message names the file, whatever its format."""
    whole = sample(name)
    first = whole.facts.files[0].name
    content = {
        "nothing": b"",
        "cut": whole.files[first][: len(whole.files[first]) * 2 // 3],
        "text": b"not images at all\n" * 100,
        "page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    }[damage]
    with pytest.raises(ZooFormatError, match=first):
        read(whole, folder, **{first: content})


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]


@pytest.mark.parametrize(
    ("name", "least"), [("mnist", 10), ("svhn", 10), ("usps", 10), ("cifar10", 1), ("stl10", 1), ("eurosat", 10)]
)
def test_flipped_bytes_do_no_more_than_fail(name: str, least: int, folder: Path) -> None:
    """Whichever byte is wrong, either the file is refused in one sentence or the images have their sizes.

    Tars are left before their end, where the checksum of the compressed stream is: it was checked as a file before.
    """
    whole = sample(name)
    first = whole.facts.files[0].name
    content = whole.files[first]
    refused = []
    for position in range(0, len(content), max(1, len(content) // 40)):
        try:
            parts = read(whole, folder, **{first: flipped(content, position)})
        except ZooFormatError as error:
            refused.append(str(error))
        else:
            assert [len(part.labels) for part in parts] == [len(labels) for _, labels in whole.parts]
    assert len(refused) >= least
    assert all(first in message for message in refused)


# -- idx ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, gzip.compress(b"\0\0\x0d\x03" + bytes(100)), "begins with 00 00 0d 03, but 00 00 08 03 was expected"),
        (IMAGES, gzip.compress(b"\0\0\x08"), "begins with 00 00 08, but"),
        (IMAGES, gzip.compress(b""), "begins with nothing"),
        (IMAGES, idx(np.zeros((29, 28, 28))), r"shape \(29, 28, 28\), but \(30, 28, 28\) was expected"),
        (IMAGES, idx(np.zeros((30, 27, 28))), r"shape \(30, 27, 28\)"),
        (IMAGES, gzip.compress(gzip.decompress(idx(np.zeros((30, 28, 28))))[:-1]), "the 23520 values that its header"),
        (
            IMAGES,
            gzip.compress(gzip.decompress(idx(np.zeros((30, 28, 28)))) + b"x"),
            "the 23520 values that its header",
        ),
        (LABELS, idx(np.zeros((30, 28, 28))), "no idx file of bytes with 1 axes"),
        (LABELS, idx(np.full(30, 10)), "number 0, whose label is class 10, but MNIST has classes 0 to 9"),
    ],
)
def test_wrong_idx_files_are_refused(name: str, content: bytes, message: str, folder: Path) -> None:
    """Magic number, shape, length and labels are checked, and the message has what was found and expected."""
    with pytest.raises(ZooFormatError, match=message) as caught:
        read(sample("mnist"), folder, **{name: content})
    assert "train-" in str(caught.value)


def test_a_huge_idx_file_is_not_read(folder: Path) -> None:
    """A header that announces what is not expected, or a bomb behind a right one, costs no memory."""
    whole = sample("mnist")
    bomb = gzip.compress(gzip.decompress(whole.files[IMAGES]) + bytes(200_000_000), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(ZooFormatError, match="values that its header announces"):
            read(whole, folder, **{IMAGES: bomb})
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


# -- mat and libsvm ----------------------------------------------------------------------------------------------------

PIXELS = np.zeros((32, 32, 3, 30), dtype=np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": PIXELS}, "no array 'y'"),
        ({"y": np.ones((30, 1), np.uint8)}, "no array 'X'"),
        ({"X": PIXELS, "y": np.array([["a", "b"]])}, "no array 'y' of numbers with 2 axes"),
        ({"X": PIXELS.astype(float), "y": np.ones((30, 1), np.uint8)}, "no array 'X' of numbers with 4 axes"),
        ({"X": PIXELS[:, :, 0], "y": np.ones((30, 1), np.uint8)}, "no array 'X'"),
        ({"X": PIXELS[:30], "y": np.ones((30, 1), np.uint8)}, "30 images of 3 x 30 x 32 .*30 images of 3 x 32 x 32"),
        ({"X": PIXELS, "y": np.ones((29, 1), np.uint8)}, "29 labels, but SVHN, cropped digits has 30"),
        ({"X": PIXELS, "y": np.zeros((30, 1), np.uint8)}, "label is class -1"),
        ({"X": PIXELS, "y": np.full((30, 1), 11, np.uint8)}, "label is class 11"),
        ({"X": PIXELS, "y": np.full((30, 1), 1.5)}, "label is class -1"),
    ],
    ids=range(10),
)
def test_wrong_mat_files_are_refused(arrays: dict[str, np.ndarray], message: str, folder: Path) -> None:
    """Arrays, their kinds, sizes and labels; a class 0 is no digit there, because 0 is written as 10."""
    with pytest.raises(ZooFormatError, match=f"train_32x32.mat.*{message}"):
        read(sample("svhn"), folder, **{"train_32x32.mat": mat(**arrays)})


VALUES = np.zeros((30, 256))


@pytest.mark.parametrize(
    ("values", "labels", "message"),
    [
        (VALUES + 1.001, np.zeros(30, int), "not between -1 and 1"),
        (VALUES * np.nan, np.zeros(30, int), "not between -1 and 1"),
        (VALUES, np.full(30, 10), "label is class 10"),
        (VALUES, np.full(30, 0.5), "label is class -2"),
        (VALUES[:29], np.zeros(29, int), "29 images"),
        (np.zeros((30, 257)), np.zeros(30, int), "libsvm's format"),
    ],
    ids=range(6),
)
def test_wrong_libsvm_files_are_refused(values: np.ndarray, labels: np.ndarray, message: str, folder: Path) -> None:
    """Values, labels and numbers of pixels and images are checked."""
    with pytest.raises(ZooFormatError, match=f"usps.bz2.*{message}"):
        read(sample("usps"), folder, **{"usps.bz2": libsvm(values, labels)})


# -- tar ---------------------------------------------------------------------------------------------------------------

RECORD = bytes(3073)


def batches(**changed: bytes) -> dict[str, bytes]:
    """Members of a CIFAR-10 archive with six images a batch and eight in the test batch."""
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    contents = {name: RECORD * (8 if name == "test_batch" else 6) for name in names} | changed
    return {f"{CIFAR_ROOT}/{name}.bin": content for name, content in contents.items()}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (batches(data_batch_3=RECORD * 6 + b"x"), "data_batch_3.bin has 18439 bytes, no multiple of 3073"),
        (batches(data_batch_3=RECORD * 7), "31 images of 3 x 32 x 32 .*30 images"),
        (batches(data_batch_3=(b"\x0a" + RECORD[1:]) * 6), "number 12, whose label is class 10"),
        (batches(data_batch_3=RECORD * 60), "data_batch_3.bin.*too large"),
        ({k: v for k, v in batches().items() if "batch_3" not in k}, f"no member '{CIFAR_ROOT}/data_batch_3.bin'"),
    ],
    ids=range(5),
)
def test_wrong_cifar_archives_are_refused(members: dict[str, bytes], message: str, folder: Path) -> None:
    """Members, their lengths, numbers of images and labels are checked."""
    with pytest.raises(ZooFormatError, match=f"{CIFAR}.*{message}"):
        read(sample("cifar10"), folder, **{CIFAR: tar_gz(members)})


@pytest.mark.parametrize("name", ["../outside.bin", "/outside.bin", f"{CIFAR_ROOT}/../../outside.bin"])
def test_members_outside_the_archive_are_refused(name: str, folder: Path) -> None:
    """A name that leads out of the archive is no image set's, and nothing is written anywhere."""
    with pytest.raises(UnsafeFileError, match=f"{CIFAR}.*outside"):
        read(sample("cifar10"), folder, **{CIFAR: tar_gz({name: b"x"} | batches())})


def test_the_coarse_label_of_cifar100_is_not_taken(folder: Path) -> None:
    """Of its two labels the second is the one of the hundred classes."""
    whole = sample("cifar100")
    train = read(whole, folder)[0]
    assert train.labels.tolist() == whole.parts[0][1].tolist()
    assert max(train.labels) > 19


def test_unlabelled_images_take_no_memory(folder: Path) -> None:
    """Of STL-10's archive, the large member is passed by, wherever it lies."""
    whole = sample("stl10")
    n_pixels = 3 * 96 * 96
    members = {"stl10_binary/unlabeled_X.bin": bytes(100_000_000)}
    for part, count in (("train", 30), ("test", 8)):
        members[f"stl10_binary/{part}_X.bin"] = bytes(count * n_pixels)
        members[f"stl10_binary/{part}_y.bin"] = bytes([1] * count)
    content = tar_gz(members)
    tracemalloc.start()
    try:
        parts = read(whole, folder, **{"stl10_binary.tar.gz": content})
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert [part.images.shape[0] for part in parts] == [30, 8]


# -- zip ---------------------------------------------------------------------------------------------------------------

RIVER = "2750/River/River_1.jpg"
NOTES = "tiny-imagenet-200/val/val_annotations.txt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m | {RIVER: b"GIF89a" + bytes(100)}, f"{RIVER}.*no whole JPEG file"),
        (lambda m: m | {RIVER: m[RIVER][: len(m[RIVER]) // 2]}, f"{RIVER}.*no whole JPEG file"),
        (lambda m: m | {RIVER: jpeg(np.zeros((3, 32, 64), np.uint8))}, "64 x 32 pixels, but 64 x 64 was expected"),
        (lambda m: m | {RIVER: bytes(2_000_000)}, f"{RIVER}.*too large"),
        (lambda m: {k: v for k, v in m.items() if "River" not in k}, "9 folders of images, but EuroSAT, RGB has 10"),
        (lambda m: m | {"2750/Lake/Lake_1.jpg": m[RIVER]}, "11 folders of images"),
        (lambda m: m | {"2750/River/River_3.jpg": m[RIVER]}, "31 images of 3 x 64 x 64 .*30 images"),
    ],
    ids=range(7),
)
def test_wrong_zips_of_folders_are_refused(change: Callable[..., dict[str, bytes]], message: str, folder: Path) -> None:
    """Every file is a whole JPEG of the right size, and folders and numbers are those of the set."""
    whole = sample("eurosat")
    with pytest.raises(ZooFormatError, match=f"EuroSAT.zip.*{message}"):
        read(whole, folder, **{"EuroSAT.zip": zip_of(change(members_of(whole)))})


@pytest.mark.parametrize("name", ["../River_9.jpg", "/2750/River/River_9.jpg", "2750/../../River/River_9.jpg"])
def test_zip_members_outside_the_archive_are_refused(name: str, folder: Path) -> None:
    """A name that leads out of the archive is refused before anything is decoded."""
    whole = sample("eurosat")
    with pytest.raises(UnsafeFileError, match=r"EuroSAT.zip.*outside"):
        read(whole, folder, **{"EuroSAT.zip": zip_of(members_of(whole) | {name: b"x"})})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {k: v for k, v in m.items() if k != NOTES}, f"no {NOTES}"),
        (lambda m: m | {NOTES: b"val_0.JPEG n01440000\n"}, f"{NOTES}: line 1 does not give"),
        (lambda m: m | {NOTES: m[NOTES] + b"val_9.JPEG\tn99999999\t0\t0\t1\t1\n"}, "line 9 does not give"),
        (lambda m: m | {NOTES: m[NOTES] + m[NOTES]}, "line 9 does not give"),
        (lambda m: m | {NOTES: b"\n".join(m[NOTES].splitlines()[:-1])}, "val_7.JPEG is in one of them only"),
        (lambda m: m | {NOTES: b"\xff\xfe\0"}, "line 1 does not give"),
    ],
    ids=range(6),
)
def test_wrong_lists_of_validation_images_are_refused(
    change: Callable[..., dict[str, bytes]], message: str, folder: Path
) -> None:
    """Every image of Tiny-ImageNet's validation folder has one line with one of the classes."""
    whole = sample("tinyimagenet")
    with pytest.raises(ZooFormatError, match=f"tiny-imagenet-200.zip.*{message}"):
        read(whole, folder, **{"tiny-imagenet-200.zip": zip_of(change(members_of(whole)))})


def test_sizes_come_from_the_table(folder: Path) -> None:
    """A whole file of another number of images than published is refused."""
    whole = sample("mnist")
    more = replace(whole, facts=replace(whole.facts, n_test=9))
    with pytest.raises(ZooFormatError, match=r"t10k-images.*shape \(8, 28, 28\), but \(9, 28, 28\)"):
        read(more, folder)
