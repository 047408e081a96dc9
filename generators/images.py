"""The image data that zoos are trained on, with the splits and transforms that belong to each name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional


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
    """

    name: str
    train: torch.Tensor
    train_labels: torch.Tensor
    val: torch.Tensor
    val_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return int(self.train.shape[1])

    def to(self, device: torch.device | str) -> ImageData:
        """The same data on a device."""
        tensors = (self.train, self.train_labels, self.val, self.val_labels, self.test, self.test_labels)
        return ImageData(self.name, *(tensor.to(device) for tensor in tensors))


def load_images(name: str) -> ImageData:
    """Image data by name.

    Parameters
    ----------
    name : {"digits"}
        ``"digits"``: scikit-learn's 1797 handwritten digits, enlarged to 28 x 28 pixels, scaled to [-1, 1]; 1100
        train, 300 validation and 397 test images.

    Returns
    -------
    ImageData

    Raises
    ------
    ValueError
        If the name is unknown; the message has close matches.

    Examples
    --------
    >>> from zoobench.generators.images import load_images
    >>> load_images("digits").train.shape
    torch.Size([1100, 1, 28, 28])
    """
    if name not in _LOADERS:
        close = difflib.get_close_matches(str(name), _LOADERS)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"known: {', '.join(_LOADERS)}"
        raise ValueError(f"no image data named {name!r}; {hint}")
    return _LOADERS[name]()


def _digits() -> ImageData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None] / 16
    images = functional.interpolate(images, size=(28, 28), mode="bilinear", align_corners=False)
    images = (images - 0.5) / 0.5
    labels = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(42))
    return _split("digits", images[order], labels[order], n_train=1100, n_val=300)


def _split(name: str, images: torch.Tensor, labels: torch.Tensor, *, n_train: int, n_val: int) -> ImageData:
    """The first images train, the next validate, the rest test."""
    sizes = [n_train, n_val, len(labels) - n_train - n_val]
    train, val, test = images.split(sizes)
    train_labels, val_labels, test_labels = labels.split(sizes)
    return ImageData(name, train, train_labels, val, val_labels, test, test_labels)


_LOADERS: dict[str, Callable[[], ImageData]] = {"digits": _digits}
