"""Image data by name: fetched, read, transformed and split as published."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import random_split

from image_samples import Sample, publish, sample
from loopback import Fault, Loopback
from zoobench.download.remote import DownloadError, OfflineError, RemoteFile
from zoobench.generators.image_sets import IMAGE_SETS, ImageSet, ImageSetting
from zoobench.generators.image_transforms import crop_centre, make_grey, resize
from zoobench.generators.images import ImageData, load_images

FETCHED = [name for name, facts in IMAGE_SETS.items() if facts.files]

#: Every published combination, and ours.
PAIRS = [(name, architecture) for name in FETCHED for architecture in IMAGE_SETS[name].settings]


@pytest.fixture
def host() -> Iterator[Loopback]:
    with Loopback() as server:
        yield server


@pytest.fixture(scope="module")
def samples() -> dict[str, Sample]:
    return {name: sample(name) for name in FETCHED}


def load(name: str, architecture: str = "cnn_s") -> ImageData:
    return load_images(name, architecture, n_retries=0, delay=0.01)


# -- what is published -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "architecture", "size", "channels", "n_train", "n_val", "n_test"),
    [
        ("digits", "cnn_s", 28, 1, 1_100, 300, 397),
        ("mnist", "cnn_s", 28, 1, 50_000, 10_000, 10_000),
        ("fmnist", "cnn_s", 28, 1, 50_000, 10_000, 10_000),
        ("svhn", "cnn_s", 28, 1, 60_000, 13_257, 26_032),
        ("usps", "cnn_s", 28, 1, 6_000, 1_291, 2_007),
        ("cifar10", "cnn_s", 28, 3, 42_000, 8_000, 10_000),
        ("cifar10", "cnn_l", 32, 3, 42_000, 8_000, 10_000),
        ("cifar10", "resnet18", 32, 3, 40_000, 10_000, 10_000),
        ("cifar10", "small_cnn", 32, 1, 42_000, 8_000, 10_000),
        ("cifar100", "resnet18", 32, 3, 40_000, 10_000, 10_000),
        ("stl10", "cnn_s", 28, 3, 4_200, 800, 8_000),
        ("stl10", "cnn_l", 32, 3, 4_200, 800, 8_000),
        ("eurosat", "cnn_s", 28, 3, 16_200, 5_400, 5_400),
        ("tinyimagenet", "resnet18", 64, 3, 80_000, 20_000, 10_000),
    ],
)
def test_sizes_are_those_of_the_model_zoos(name, architecture, size, channels, n_train, n_val, n_test):
    """Pixels, channels and the numbers of training, validation and test images, by dataset and architecture."""
    facts = IMAGE_SETS[name]
    setting = facts.setting(architecture)
    assert (setting.size, setting.channels) == (size, channels)
    assert (setting.n_train, setting.n_val, facts.n_test) == (n_train, n_val, n_test)


@pytest.mark.parametrize("facts", IMAGE_SETS.values(), ids=lambda facts: facts.name)
def test_the_table_is_whole(facts: ImageSet) -> None:
    """Every file has an address and a published checksum, every setting fits, and all settings share the pool."""
    assert IMAGE_SETS[facts.name] is facts
    for file in facts.files:
        assert file.addresses
        for address in file.addresses:
            assert address.endswith(f"/{file.name}")
            assert RemoteFile(address, file.name, checksum=file.checksum).checksum
    for setting in facts.settings.values():
        assert setting.n_train + setting.n_val + (0 if facts.has_test else facts.n_test) == facts.n_pool
        assert len(setting.mean) == len(setting.std) == setting.channels <= facts.channels
    assert facts.citation
    assert facts.setting("an architecture of a user's own") is next(iter(facts.settings.values()))


def test_facts_need_neither_torch_nor_data() -> None:
    """Recipes are checked and counted with the table alone."""
    code = "import sys; import zoobench.generators.image_sets; assert not {'torch', 'PIL', 'scipy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- from the host to the tensors --------------------------------------------------------------------------------------


def as_torchvision_does(image: np.ndarray, setting: ImageSetting) -> np.ndarray:
    """An image of bytes, by PIL and plain arithmetic in float64."""
    pil = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    if setting.channels == 1:
        pil = pil.convert("L")
    if setting.fit == "crop":
        left = (pil.width - setting.size) // 2
        pil = pil.crop((left, left, left + setting.size, left + setting.size))
    else:
        pil = pil.resize((setting.size, setting.size), Image.Resampling.BILINEAR)
    pixels = np.asarray(pil, dtype=np.float64).reshape(setting.size, setting.size, -1).transpose(2, 0, 1)
    return (pixels / 255 - np.reshape(setting.mean, (-1, 1, 1))) / np.reshape(setting.std, (-1, 1, 1))


@pytest.mark.parametrize(("name", "architecture"), PAIRS)
def test_images_are_fetched_read_transformed_and_split(name, architecture, samples, host, monkeypatch):
    """Each set arrives as PIL and random_split with seed 42 make it of the published files; labels follow."""
    facts = publish(samples[name], host, monkeypatch)
    data = load(name, architecture)
    setting = facts.setting(architecture)
    pool, labels = samples[name].parts[0]
    sizes = [setting.n_train, setting.n_val] + ([] if facts.has_test else [facts.n_test])
    drawn = random_split(range(len(labels)), sizes, generator=torch.Generator().manual_seed(42))
    wanted = [(pool[part.indices], labels[part.indices]) for part in drawn] + samples[name].parts[1:]
    for part, (images, classes) in zip(("train", "val", "test"), wanted, strict=True):
        got, got_classes = getattr(data, part), getattr(data, f"{part}_labels")
        assert (got.dtype, got_classes.dtype) == (torch.float32, torch.int64)
        assert got.shape == (len(images), setting.channels, setting.size, setting.size)
        expected = np.stack([as_torchvision_does(image, setting) for image in images])
        # Half a level of a byte is .002 / .25 of a standard deviation: no pixel is off by one level.
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-5)
        assert got_classes.tolist() == classes.tolist()
    assert (data.name, data.channels, data.augmentation) == (name, setting.channels, setting.augmentation)
    assert data.black == pytest.approx([-m / s for m, s in zip(setting.mean, setting.std, strict=True)], rel=1e-6)


@pytest.mark.parametrize("name", FETCHED)
def test_the_second_call_needs_no_network(name, samples, host, monkeypatch, data_home):
    """Files are fetched once, to a folder of their own, and nothing is unpacked beside them."""
    publish(samples[name], host, monkeypatch)
    first = load(name)
    n_requests = len(host.requests())
    assert n_requests == len(samples[name].files)
    again = load(name)
    assert len(host.requests()) == n_requests
    assert torch.equal(first.train, again.train)
    visible = [
        p.relative_to(data_home).as_posix() for p in data_home.rglob("*") if p.is_file() and ".download" not in p.parts
    ]
    assert sorted(visible) == sorted(f"images/{name}/{file}" for file in samples[name].files)


def test_digits_need_no_file(data_home: Path) -> None:
    """The default comes with scikit-learn."""
    assert load("digits").black == (-1.0,)
    assert list(data_home.iterdir()) == []


def test_labels_lie_on_the_device_with_the_images(samples, host, monkeypatch):
    """Moving the data moves all of it, and keeps what belongs to it."""
    publish(samples["cifar10"], host, monkeypatch)
    moved = load("cifar10", "resnet18").to("meta")
    parts = [getattr(moved, f"{part}{kind}") for part in ("train", "val", "test") for kind in ("", "_labels")]
    assert {tensor.device.type for tensor in parts} == {"meta"}
    assert (moved.augmentation, len(moved.black)) == ("crop_flip", 3)


# -- what can go wrong -------------------------------------------------------------------------------------------------


def test_an_unknown_name_has_close_matches() -> None:
    """A misspelt set is answered with the right ones."""
    with pytest.raises(ValueError, match="no image data named 'cifar'; did you mean 'cifar10' or 'cifar100'"):
        load_images("cifar")


def test_the_second_address_helps_out(samples, host, monkeypatch, capsys):
    """Where the first address has not the file, the next one is asked."""
    facts = publish(samples["mnist"], host, monkeypatch)
    files = tuple(replace(f, addresses=(host.url(f"gone/{f.name}"), *f.addresses)) for f in facts.files)
    monkeypatch.setitem(IMAGE_SETS, "mnist", replace(facts, files=files))
    assert len(load("mnist").train) == facts.setting().n_train
    assert [len(host.requests(f"{folder}/{facts.files[0].name}")) for folder in ("gone", "mnist")] == [1, 1]


def test_a_mirror_is_asked_first(samples, host, monkeypatch, tmp_path):
    """A folder or a host with `images/<name>/<file>` stands in for the publisher."""
    publish(samples["usps"], host, monkeypatch)
    folder = tmp_path / "mirror" / "images" / "usps"
    folder.mkdir(parents=True)
    for name, content in samples["usps"].files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror"))
    load("usps")
    assert host.requests() == []


def test_a_wrong_mirror_does_no_harm(samples, host, monkeypatch, tmp_path, capsys):
    """What a mirror has under the name is checked like anything else; if it is wrong, the publisher is asked."""
    publish(samples["usps"], host, monkeypatch)
    folder = tmp_path / "mirror" / "images" / "usps"
    folder.mkdir(parents=True)
    for name in samples["usps"].files:
        (folder / name).write_bytes(b"something else")
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror"))
    load("usps")
    assert len(host.requests()) == 2
    assert "Trying the next source" in capsys.readouterr().err


def test_offline_the_message_says_everything(samples, host, monkeypatch, data_home):
    """Without a network: which file, from where, where it belongs, and what to do."""
    facts = publish(samples["usps"], host, monkeypatch)
    files = tuple(replace(file, addresses=(f"http://127.0.0.1:9/{file.name}",)) for file in facts.files)
    monkeypatch.setitem(IMAGE_SETS, "usps", replace(facts, files=files))
    with pytest.raises(OSError, match="usps") as caught:
        load("usps")
    assert isinstance(caught.value, OfflineError)
    folder = data_home / "images" / "usps"
    for text in (
        "http://127.0.0.1:9/usps.bz2",
        "check the network",
        f"save it as {folder / 'usps.bz2'}",
        "ZOOBENCH_MIRROR",
    ):
        assert text in str(caught.value)


def test_a_wrong_checksum_is_refused(samples, host, monkeypatch, data_home):
    """What is not the published file is neither read nor kept; the right one is fetched later."""
    contents = dict(samples["mnist"].files)
    name = "train-labels-idx1-ubyte.gz"
    publish(samples["mnist"], host, monkeypatch, contents=contents | {name: contents[name] + b"more"})
    with pytest.raises(DownloadError, match=f"{name}.* does not match the known hash|{name}.*hash"):
        load("mnist")
    assert not (data_home / "images" / "mnist" / name).exists()
    host.add(f"mnist/{name}", contents[name])
    assert len(load("mnist").train) > 0


def test_a_web_page_instead_of_the_file_is_refused(samples, host, monkeypatch, data_home):
    """A login page of the network says so, and is not taken for the file."""
    publish(samples["svhn"], host, monkeypatch)
    page = Fault(status=200, headers={"Content-Type": "text/html"}, body=b"<!DOCTYPE html><html>Log in</html>")
    host.fail("svhn/train_32x32.mat", page)
    with pytest.raises(DownloadError, match=r"train_32x32\.mat.*web page instead of the file"):
        load("svhn")
    assert not (data_home / "images" / "svhn" / "train_32x32.mat").exists()


def test_jpeg_files_say_what_they_need(samples, host, monkeypatch):
    """Without Pillow the message is the command that installs it."""
    publish(samples["eurosat"], host, monkeypatch)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"'eurosat'.*pip install zoobench\[images\]"):
        load("eurosat")


# -- transforms --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_resizing_is_that_of_pil_to_the_last_bit(side: int, size: int, seed: int) -> None:
    """Larger or smaller, by any factor: the bytes that PIL's antialiased bilinear resize gives."""
    images = np.random.default_rng(seed).integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    wanted = [
        np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize((size, size), Image.Resampling.BILINEAR))
        for image in images
    ]
    assert np.array_equal(resize(images, size).transpose(0, 2, 3, 1), wanted)


def test_grey_is_that_of_pil_for_every_colour_level() -> None:
    """The luma of all combinations of 52 levels, black and white included, is rounded as PIL rounds it."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, len(levels), 3)
    wanted = np.asarray(Image.fromarray(colours[0]).convert("L"))
    assert np.array_equal(make_grey(colours.transpose(0, 3, 1, 2))[0, 0], wanted)


def test_a_crop_takes_the_centre() -> None:
    """Two pixels of each side of 32 go."""
    images = np.arange(32 * 32, dtype=np.uint16).reshape(1, 1, 32, 32)
    assert np.array_equal(crop_centre(images, 28), images[:, :, 2:30, 2:30])
