"""Convolution with noisy weights, for many models at once: mean and variance of the output from one set of patches."""

from __future__ import annotations

from typing import Any

import torch


def conv2d_moments(
    images: torch.Tensor, weight: torch.Tensor, variance: torch.Tensor, *, stride: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """The images convolved with the weights, and their squares with the variances.

    Parameters
    ----------
    images : Tensor of shape (n_models, n_images, n_in, height, width)
        A batch for each model.
    weight, variance : Tensor of shape (n_models, n_out, n_in, kernel, kernel)
        Mean and variance of each weight.
    stride : int, default=1
        As in :func:`torch.nn.functional.conv2d`.

    Returns
    -------
    mean, variance : Tensor of shape (n_models, n_images, n_out, height', width')
        Views: in memory, channels come before images.
    """
    mean, spread = _Moments.apply(images, weight, variance, stride)
    return mean, spread


class _Moments(torch.autograd.Function):
    """Gathering patches, and adding up what comes back for them, takes as long as the products: it is done once."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, weight: torch.Tensor, variance: torch.Tensor, stride: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n_models, n_out, n_in, kernel, _ = weight.shape
        patches = images.unfold(3, kernel, stride).unfold(4, kernel, stride)
        places = (patches.shape[1], *patches.shape[3:5])
        patches = patches.permute(0, 2, 5, 6, 1, 3, 4).reshape(n_models, n_in * kernel**2, -1)
        ctx.save_for_backward(patches, weight, variance)
        ctx.images, ctx.stride, ctx.places = images.shape, stride, places
        mean = torch.bmm(weight.flatten(2), patches)
        spread = torch.bmm(variance.flatten(2), patches * patches)
        return mean.view(n_models, n_out, *places).transpose(1, 2), spread.view(n_models, n_out, *places).transpose(
            1, 2
        )

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        patches, weight, variance = ctx.saved_tensors
        n_models, n_out, n_in, kernel, _ = weight.shape
        (n_images, rows, columns), stride = ctx.places, ctx.stride
        of_mean, of_spread = (gradient.transpose(1, 2).reshape(n_models, n_out, -1) for gradient in gradients)
        of_weight = torch.bmm(of_mean, patches.transpose(1, 2)).view_as(weight)
        of_variance = torch.bmm(of_spread, (patches * patches).transpose(1, 2)).view_as(variance)
        of_images = None
        if ctx.needs_input_grad[0]:
            of_squares = torch.bmm(variance.flatten(2).transpose(1, 2), of_spread)
            of_patches = torch.bmm(weight.flatten(2).transpose(1, 2), of_mean).addcmul_(patches, of_squares, value=2)
            of_patches = of_patches.view(n_models, n_in, kernel, kernel, n_images, rows, columns)
            of_images = patches.new_zeros(n_models, n_in, n_images, *ctx.images[3:])
            for i in range(kernel):
                for j in range(kernel):
                    there = of_images[..., i : i + stride * rows : stride, j : j + stride * columns : stride]
                    there += of_patches[:, :, i, j]
            of_images = of_images.transpose(1, 2)
        return of_images, of_weight, of_variance, None
