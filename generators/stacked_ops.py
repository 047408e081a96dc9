"""Layers of many models at once, as torch operations: every model has its own weights and its own batch.

Tensors have a leading axis of models. Convolutions are written as one batched matrix product, which keeps an
accelerator busy where a thousand small convolutions do not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def conv2d(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, stride: int = 1, padding: int = 0
) -> torch.Tensor:
    """Convolution of each model's images with its kernels.

    Parameters
    ----------
    images : Tensor of shape (n_models, n_images, n_in, height, width)
        A batch for each model; with a first axis of 1, the same batch for all.
    weight : Tensor of shape (n_models, n_out, n_in, kernel, kernel)
        Kernels.
    bias : Tensor of shape (n_models, n_out), optional
        Added to every position.
    stride, padding : int, default=1, 0
        As in :func:`torch.nn.functional.conv2d`.

    Returns
    -------
    Tensor of shape (n_models, n_images, n_out, height', width')
        A view: in memory, channels come before images, as the next layer here reads them.
    """
    if padding:
        images = functional.pad(images, (padding,) * 4)
    products: torch.Tensor = _Convolution.apply(images, weight, stride)
    return products if bias is None else products + bias[:, None, :, None, None]


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
    planes = images.transpose(1, 2)  # the order in which convolutions leave them: nothing is copied
    pooled = functional.max_pool2d(planes.flatten(0, 1), size)
    return pooled.unflatten(0, planes.shape[:2]).transpose(1, 2)


class _Convolution(torch.autograd.Function):
    """Patches and one product for each model. Torch's own backward of the patches takes twice as long."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        n_models, n_out, n_in, kernel, _ = weight.shape
        # Not functional.unfold, which on CUDA starts a kernel for each image.
        patches = images.unfold(3, kernel, stride).unfold(4, kernel, stride)
        n_images, rows, columns = patches.shape[1], *patches.shape[3:5]
        patches = patches.permute(0, 2, 5, 6, 1, 3, 4).reshape(len(images), n_in * kernel**2, -1)
        ctx.save_for_backward(patches, weight)
        ctx.images, ctx.stride, ctx.places = images.shape, stride, (n_images, rows, columns)
        products = torch.bmm(weight.flatten(2), patches.expand(n_models, -1, -1))
        return products.view(n_models, n_out, n_images, rows, columns).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *of_products: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        patches, weight = ctx.saved_tensors
        n_models, n_out, n_in, kernel, _ = weight.shape
        (n_images, rows, columns), stride = ctx.places, ctx.stride
        gradient = of_products[0].transpose(1, 2).reshape(n_models, n_out, -1)
        of_weight = of_images = None
        if ctx.needs_input_grad[1]:
            of_weight = torch.bmm(gradient, patches.expand(n_models, -1, -1).transpose(1, 2)).view_as(weight)
        if ctx.needs_input_grad[0]:
            of_patches = torch.bmm(weight.flatten(2).transpose(1, 2), gradient)
            of_patches = of_patches.view(n_models, n_in, kernel, kernel, n_images, rows, columns)
            of_images = gradient.new_zeros(n_models, n_in, n_images, *ctx.images[3:])
            for i in range(kernel):
                for j in range(kernel):
                    there = of_images[..., i : i + stride * rows : stride, j : j + stride * columns : stride]
                    there += of_patches[:, :, i, j]
            of_images = of_images.transpose(1, 2)
            if ctx.images[0] < n_models:
                of_images = of_images.sum(0, keepdim=True)
        return of_images, of_weight, None
