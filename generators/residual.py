"""ResNet-18 for small images as a plain torch module.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, in the form of the Model Zoos (NeurIPS
2022, appendix): torchvision's names and shapes, but the first convolution is 3 x 3 with stride 1, without pooling.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def _convolution(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    # skip_init, because torch's own initialisation would draw from the global generator.
    return nn.utils.skip_init(nn.Conv2d, n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    stride : int
        Of the first convolution and of the shortcut.
    activation : callable
        Makes the module behind each of the two convolutions.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = _convolution(n_in, n_out, 3, stride)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.activation_1 = activation()
        self.conv2 = _convolution(n_out, n_out, 3)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.activation_2 = activation()
        if n_in != n_out:
            self.downsample: nn.Module = nn.Sequential(_convolution(n_in, n_out, 1, stride), nn.BatchNorm2d(n_out))
        else:
            self.downsample = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Activations of shape (n_images, n_out, height / stride, width / stride)."""
        values = self.activation_1(self.bn1(self.conv1(images)))
        summed: torch.Tensor = self.activation_2(self.bn2(self.conv2(values)) + self.downsample(images))
        return summed


class ResNet18(nn.Module):
    """Four stages of two residual blocks.

    Parameters
    ----------
    channels, n_classes : int
        Of the images.
    activation : callable
        Makes each of the modules that are not linear.
    """

    def __init__(self, channels: int, n_classes: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, 64, 3)
        self.bn1 = nn.BatchNorm2d(64)
        self.activation = activation()
        n_in = 64
        for stage, n_out in enumerate((64, 128, 256, 512), 1):
            blocks = (
                BasicBlock(n_in, n_out, 1 if stage == 1 else 2, activation),
                BasicBlock(n_out, n_out, 1, activation),
            )
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            n_in = n_out
        self.fc = nn.utils.skip_init(nn.Linear, n_in, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n_images, n_classes) of images of shape (n_images, channels, height, width)."""
        values = self.activation(self.bn1(self.conv1(images)))
        for stage in range(1, 5):
            values = self.get_submodule(f"layer{stage}")(values)
        logits: torch.Tensor = self.fc(values.mean(dim=(2, 3)))
        return logits
