"""Augmentation of training batches, as the Model Zoos' ResNet-18 populations have it, from a model's own random stream.

Drawing and doing are apart, so that the batches of many models can be augmented at once, each by its own draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

#: Pixels of black around an image before it is cut to its size again, and the largest angle in degrees.
PADDING, MAX_ANGLE = 4, 20.0

#: PIL computes where a rotated pixel comes from in whole numbers of this part of a pixel.
_FINE = 65536


def augment(
    batch: torch.Tensor, kind: str, generator: torch.Generator, *, black: Sequence[float] | torch.Tensor
) -> torch.Tensor:
    """Augment a batch of images, each by draws of its own.

    Parameters
    ----------
    batch : Tensor of shape (n_images, channels, height, width)
        Normalised images; they stay as they are.
    kind : {"crop_flip", "flip_rotate"}
        ``"crop_flip"``: four pixels of black are put on each side, and a window of the old size is cut out anywhere;
        then every other image is mirrored. ``"flip_rotate"``: every other image is mirrored; then each is turned by
        up to 20 degrees either way, with black at the corners, and the nearest pixel taken.
    generator : Generator
        The model's random stream, on the CPU.
    black : sequence of float
        Value of a black pixel, by channel: :attr:`ImageData.black`.

    Returns
    -------
    Tensor of shape (n_images, channels, height, width)

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> import torch
    >>> from zoobench.generators.augmentation import augment
    >>> batch = torch.rand(2, 3, 32, 32)
    >>> augment(batch, "crop_flip", torch.Generator().manual_seed(1), black=(0.0, 0.0, 0.0)).shape
    torch.Size([2, 3, 32, 32])
    """
    return apply_draws(batch, kind, draw(kind, len(batch), generator), black=black)


def draw(kind: str, n_images: int, generator: torch.Generator) -> torch.Tensor:
    """The random numbers by which so many images are augmented.

    Parameters
    ----------
    kind : {"crop_flip", "flip_rotate"}
        See :func:`augment`.
    n_images : int
        Images of the batch.
    generator : Generator
        The model's random stream, on the CPU.

    Returns
    -------
    Tensor of shape (n_images, 3), float64
        Of each image: whether it is mirrored (0 or 1), and two more, for cropping the first row and column, for
        rotating the angle in degrees, counter-clockwise, and nothing.
    """
    if kind not in ("crop_flip", "flip_rotate"):
        raise ValueError(f"augmentation {kind!r} is unknown; there are 'crop_flip' and 'flip_rotate'")
    uniform = torch.rand(n_images, 3, generator=generator, dtype=torch.float64)
    mirrored = (uniform[:, :1] < 0.5).double()
    if kind == "crop_flip":
        return torch.cat([mirrored, (uniform[:, 1:] * (2 * PADDING + 1)).floor()], dim=1)
    angles = (uniform[:, 1:2] * 2 - 1) * MAX_ANGLE
    return torch.cat([mirrored, angles, torch.zeros_like(angles)], dim=1)


def apply_draws(
    batch: torch.Tensor, kind: str, draws: torch.Tensor, *, black: Sequence[float] | torch.Tensor
) -> torch.Tensor:
    """Augment a batch of images by numbers that have been drawn; see :func:`augment` and :func:`draw`."""
    height, width = batch.shape[2:]
    rows, columns = (_cropped if kind == "crop_flip" else _rotated)(draws, height, width, batch.device)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    # A mirrored image is read from right to left.
    mirrored = draws[:, 0].bool().to(batch.device)[:, None, None]
    columns = torch.where(mirrored, width - 1 - columns, columns)
    places = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    n_images, channels = batch.shape[:2]
    taken = batch.flatten(2).gather(2, places.reshape(n_images, 1, -1).expand(-1, channels, -1))
    filling = torch.as_tensor(black, dtype=batch.dtype, device=batch.device)[:, None, None]
    return torch.where(inside[:, None], taken.view_as(batch), filling)


def _cropped(draws: torch.Tensor, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column, in the images, of every pixel of the cut ones: (n_images, height, width), int64."""
    offsets = (draws[:, 1:].long() - PADDING).to(device)
    rows = (offsets[:, :1] + torch.arange(height, device=device))[:, :, None].expand(-1, -1, width)
    columns = (offsets[:, 1:] + torch.arange(width, device=device))[:, None, :].expand(-1, height, -1)
    return rows, columns


def _rotated(draws: torch.Tensor, height: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column, in the images, of every pixel of the rotated ones, as PIL finds them."""
    angles = -draws[:, 1] * (math.pi / 180)
    # On the CPU, and whole numbers from then on: every device takes the same pixels.
    cosine, sine = angles.cos(), angles.sin()
    from_left = width / 2 - cosine * (width / 2) - sine * (height / 2)
    from_top = height / 2 + sine * (width / 2) - cosine * (height / 2)
    right, down = torch.arange(width, device=device), torch.arange(height, device=device)[:, None]
    columns = _steps(from_left, cosine, sine, right, down)
    rows = _steps(from_top, -sine, cosine, right, down)
    return rows, columns


def _steps(
    start: torch.Tensor, across: torch.Tensor, below: torch.Tensor, right: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """A coordinate that grows by fixed steps from pixel to pixel and from row to row, in whole pixels."""
    first, step, row_step = (
        (value * _FINE + 0.5).floor().long().to(right.device)[:, None, None]
        for value in (start + (across + below) / 2, across, below)
    )
    return (first + step * right + row_step * down) // _FINE
