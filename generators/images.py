"""The image data that zoos are trained on, with the splits and transforms that belong to each name."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from zoobench.generators.image_download import fetch_image_files
from zoobench.generators.image_files import read_image_files
from zoobench.generators.image_sets import ImageSet, ImageSetting, find_image_set
from zoobench.generators.image_transforms import fit_images

#: The published splits are drawn with this seed.
_SPLIT_SEED = 42


@dataclass(frozen=True)
class ImageData:
    """Images ready to train on, in three parts.

    Attributes
    ----------
    name : str
        Name of the dataset.
    train, val, test : Tensor of shape (n_images, channels, height, width), float32
        Transformed images.
    train_labels, val_labels, test_labels : Tensor of shape (n_images,), int64
        Classes from 0.
    augmentation : {"crop_flip", "flip_rotate"} or None
        What is done to the batches in training, by :func:`zoobench.generators.augmentation.augment`.
    black : tuple of float
        What a black pixel has become, by channel: what augmentation fills up with.
    """

    name: str
    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor
    augmentation: str | None = None
    black: tuple[float, ...] = ()

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return int(self.train.shape[1])

    def to(self, device: torch.device | str) -> ImageData:
        """The same data on a device."""
        names = [name for part in ("train", "val", "test") for name in (part, f"{part}_labels")]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def load_images(
    name: str,
    architecture: str = "cnn_s",
    *,
    data_home: str | os.PathLike[str] | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
) -> ImageData:
    """Image data by name, downloaded first where it is not on this machine.

    Published files are fetched once into ``images/<name>`` in the data folder, checked against their published
    checksums, and read as they are: nothing is unpacked. Training images are split into training and validation as
    ``torch.utils.data.random_split`` does it with a generator of seed 42, so that the Model Zoos' networks are
    evaluated on the images that they were held back from.

    Parameters
    ----------
    name : {"digits", "mnist", "fmnist", "svhn", "usps", "cifar10", "cifar100", "stl10", "eurosat", "tinyimagenet"}
        ``"digits"`` are scikit-learn's 1797 handwritten digits, enlarged to 28 x 28 pixels, scaled to [-1, 1]; 1100
        train, 300 validation and 397 test images, with no download. ``"eurosat"`` and ``"tinyimagenet"`` need Pillow:
        ``pip install zoobench[images]``.
    architecture : str, default="cnn_s"
        What the images are for: size, channels and normalisation, the sizes of the split, and augmentation can depend
        on it. :data:`zoobench.generators.image_sets.IMAGE_SETS` says how.
    data_home : path-like, optional
        The data folder, as in :func:`zoobench.get_data_home`.
    n_retries, delay : int, float, default=3, 1.0
        Further attempts after a request that failed, and seconds before the first of them.

    Returns
    -------
    ImageData

    Raises
    ------
    ValueError
        If the name is unknown; the message has close matches.
    OSError
        If a file is not here and cannot be fetched: the message names it, its addresses, the folder and the remedy.
    ZooFormatError
        If a file does not hold what it should.
    ImportError
        If Pillow is needed and not installed.

    Notes
    -----
    Pixels are bytes until the last step, and become float32 once. Of STL-10's archive the images without labels are
    not kept, but whatever lies before the labelled ones has to be decompressed each time.

    Examples
    --------
    >>> from zoobench.generators import load_images
    >>> load_images("digits").train.shape
    torch.Size([1100, 1, 28, 28])
    """
    facts = find_image_set(name)
    setting = facts.setting(architecture)
    if not facts.files:
        return _digits(facts, setting)
    parts = read_image_files(facts, fetch_image_files(facts, data_home=data_home, n_retries=n_retries, delay=delay))
    sizes = [setting.n_train, setting.n_val] + ([] if facts.has_test else [facts.n_test])
    fitted = [fit_images(part.images, setting) for part in parts]
    # One part after the other, so that the bytes of each are gone before the next comes.
    made = [
        (_normalised(fitted[0][chosen], setting), torch.from_numpy(parts[0].labels[chosen]))
        for chosen in _random_split(sizes)
    ]
    made += [
        (_normalised(images, setting), torch.from_numpy(part.labels))
        for images, part in zip(fitted[1:], parts[1:], strict=True)
    ]
    return _image_data(name, setting, made)


def _random_split(sizes: list[int]) -> list[np.ndarray]:
    """Which images belong to each part, as ``torch.utils.data.random_split`` chooses them."""
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return [part.numpy() for part in order.split(sizes)]


def _normalised(images: np.ndarray, setting: ImageSetting) -> torch.Tensor:
    """Bytes as float32 between 0 and 1, less the mean, by the standard deviation: the operations of torchvision."""
    tensor = torch.from_numpy(images.astype(np.float32, order="C")).div_(255)
    mean, std = (torch.tensor(values)[:, None, None] for values in (setting.mean, setting.std))
    return tensor.sub_(mean).div_(std)


def _digits(facts: ImageSet, setting: ImageSetting) -> ImageData:
    """Not bytes but values from 0 to 16, and enlarged as they are: no image of PIL's ever was in between."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16
    images = functional.interpolate(images, size=(setting.size, setting.size), mode="bilinear", align_corners=False)
    images = (images - setting.mean[0]) / setting.std[0]
    labels = torch.from_numpy(bunch.target).long()
    chosen = [torch.from_numpy(part) for part in _random_split([setting.n_train, setting.n_val, facts.n_test])]
    return _image_data(facts.name, setting, [(images[part], labels[part]) for part in chosen])


def _image_data(name: str, setting: ImageSetting, parts: list[tuple[torch.Tensor, torch.Tensor]]) -> ImageData:
    (train, train_labels), (val, val_labels), (test, test_labels) = parts
    black = tuple(-mean / std for mean, std in zip(setting.mean, setting.std, strict=True))
    return ImageData(
        name, train, train_labels, val, val_labels, test, test_labels, augmentation=setting.augmentation, black=black
    )
