"""Images made grey, cut and resized, to the last bit as torchvision does it on PIL images, without needing either."""

from __future__ import annotations

import math

import numpy as np

from zoobench.generators.image_sets import ImageSetting

#: Fractional bits of PIL's weights for images of bytes.
_BITS = 22

#: Images that are worked on at a time, so that the numbers in between take little room.
_CHUNK = 256


def fit_images(images: np.ndarray, setting: ImageSetting) -> np.ndarray:
    """Bring images to the channels and the size of a setting.

    Parameters
    ----------
    images : ndarray of shape (n_images, channels, height, width), uint8
        With one channel or three.
    setting : ImageSetting
        What is wanted.

    Returns
    -------
    ndarray of shape (n_images, setting.channels, setting.size, setting.size), uint8
        The images themselves, where they fit already.
    """
    shape = (len(images), setting.channels, setting.size, setting.size)
    if images.shape == shape:
        return images
    fitted = np.empty(shape, dtype=np.uint8)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        if setting.channels < images.shape[1]:
            chunk = make_grey(chunk)
        fitted[start : start + _CHUNK] = (crop_centre if setting.fit == "crop" else resize)(chunk, setting.size)
    return fitted


def make_grey(images: np.ndarray) -> np.ndarray:
    """Luma of ITU-R 601-2, rounded as PIL rounds it: (n, 3, height, width) to (n, 1, height, width), uint8."""
    red, green, blue = (images[:, channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[:, None]


def crop_centre(images: np.ndarray, size: int) -> np.ndarray:
    """The centre of the images, ``size`` pixels high and wide."""
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[:, :, top : top + size, left : left + size]


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Images scaled to ``size`` x ``size`` pixels: bilinear, averaging where it shrinks, columns before rows.

    PIL computes with whole numbers and rounds to a byte after each of the two passes, and so does this: the float64
    products below are exact.
    """
    n_images, channels, height, width = images.shape
    rows = np.ascontiguousarray(images, dtype=np.float64).reshape(-1, width)
    narrow = _rounded(rows @ _weights(width, size).T).reshape(-1, height, size)
    columns = np.ascontiguousarray(narrow.swapaxes(1, 2)).reshape(-1, height)
    small = _rounded(columns @ _weights(height, size).T).reshape(n_images, channels, size, size)
    return small.swapaxes(2, 3).astype(np.uint8)


def _weights(n_in: int, n_out: int) -> np.ndarray:
    """Weight of each pixel of the old row (columns) in each of the new one (rows), in units of 2 ** -22."""
    scale = n_in / n_out
    reach = max(scale, 1.0)
    weights = np.zeros((n_out, n_in))
    for row in range(n_out):
        centre = (row + 0.5) * scale
        first, last = max(0, int(centre - reach + 0.5)), min(n_in, int(centre + reach + 0.5))
        triangle = [max(0.0, 1.0 - abs((pixel - centre + 0.5) / reach)) for pixel in range(first, last)]
        total = sum(triangle)
        weights[row, first:last] = [math.floor(0.5 + weight / total * 2**_BITS) for weight in triangle]
    return weights


def _rounded(sums: np.ndarray) -> np.ndarray:
    """Sums of weighted bytes as whole numbers from 0 to 255; the sums are lost."""
    sums += 2 ** (_BITS - 1)
    sums *= 2.0**-_BITS
    return np.clip(np.floor(sums, out=sums), 0, 255, out=sums)
