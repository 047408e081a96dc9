"""Layers of many models at once, as torch operations: every model has its own weights and its own batch.

Tensors have a leading axis of models. Convolutions are written as one batched matrix product, which keeps an
accelerator busy where a thousand small convolutions do not.
"""

from __future__ import annotations

import torch
from torch.nn import functional


def conv2d(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, stride: int = 1, padding: int = 0
) -> torch.Tensor:
    """Convolution of each model's images with its kernels.

    Parameters
    ----------
    images : Tensor of shape (n_models, n_images, n_in, height, width)
        A batch for each model.
    weight : Tensor of shape (n_models, n_out, n_in, kernel, kernel)
        Kernels.
    bias : Tensor of shape (n_models, n_out), optional
        Added to every position.
    stride, padding : int, default=1, 0
        As in :func:`torch.nn.functional.conv2d`.

    Returns
    -------
    Tensor of shape (n_models, n_images, n_out, height', width')
    """
    n_models, n_images, n_in, height, width = images.shape
    n_out, kernel = weight.shape[1], weight.shape[-1]
    rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    patches = functional.unfold(images.flatten(0, 1), kernel, padding=padding, stride=stride)
    patches = patches.view(n_models, n_images, n_in * kernel * kernel, rows * columns)
    products = weight.view(n_models, 1, n_out, -1) @ patches
    if bias is not None:
        products = products + bias.view(n_models, 1, n_out, 1)
    return products.view(n_models, n_images, n_out, rows, columns)


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Dense layer of each model.

    Parameters
    ----------
    values : Tensor of shape (n_models, n_images, n_in)
        A batch for each model.
    weight : Tensor of shape (n_models, n_out, n_in)
        Weights.
    bias : Tensor of shape (n_models, n_out), optional
        Added to every image's outputs.

    Returns
    -------
    Tensor of shape (n_models, n_images, n_out)
    """
    products = values @ weight.transpose(1, 2)
    return products if bias is None else products + bias.unsqueeze(1)


def max_pool2d(images: torch.Tensor, size: int = 2) -> torch.Tensor:
    """Maximum over squares, as :func:`torch.nn.functional.max_pool2d`, of (n_models, n_images, n, height, width)."""
    return functional.max_pool2d(images.flatten(0, 1), size).unflatten(0, images.shape[:2])
