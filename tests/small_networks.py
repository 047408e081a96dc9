"""Small networks of every kind whose neurons can be permuted, and the means to compare what two states compute."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn

from zoobench.layout import WeightLayout
from zoobench.network import state_tensors


class Block(nn.Module):
    """A residual block in torchvision's order, or one that normalises before each convolution."""

    def __init__(self, widths: tuple[int, ...], *, pre_activation: bool) -> None:
        super().__init__()
        self.pre_activation = pre_activation
        self.n_convolutions = len(widths) - 1
        for i, (n_in, n_out) in enumerate(pairwise(widths), 1):
            normalisation = nn.BatchNorm2d(n_in if pre_activation else n_out)
            parts: list[tuple[str, nn.Module]] = [
                (f"conv{i}", nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)),
                (f"bn{i}", normalisation),
            ]
            for name, part in parts[::-1] if pre_activation else parts:
                self.add_module(name, part)
        if widths[0] != widths[-1]:
            self.downsample: nn.Module = nn.Sequential(
                nn.Conv2d(widths[0], widths[-1], 1, bias=False), nn.BatchNorm2d(widths[-1])
            )
        else:
            self.downsample = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images
        for i in range(1, self.n_convolutions + 1):
            convolution, normalisation = getattr(self, f"conv{i}"), getattr(self, f"bn{i}")
            if self.pre_activation:
                values = convolution(torch.tanh(normalisation(values)))
            else:
                values = normalisation(convolution(values if i == 1 else torch.tanh(values)))
        summed = values + self.downsample(images)
        return summed if self.pre_activation else torch.tanh(summed)


class SmallResNet(nn.Module):
    """A residual network of one channel and three classes; each block is given by its widths."""

    def __init__(self, *blocks: tuple[int, ...], pre_activation: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, blocks[0][0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(blocks[0][0])
        self.layer1 = nn.Sequential(*(Block(widths, pre_activation=pre_activation) for widths in blocks))
        self.fc = nn.Linear(blocks[-1][-1], 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(torch.tanh(self.bn1(self.conv1(images)))).mean((2, 3)))


def random_states(layout: WeightLayout, n_states: int, seed: int) -> np.ndarray:
    """Random weights, with variances that are positive and counts that are whole."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 0.3, size=(n_states, layout.n_weights)).astype(np.float32)
    for tensor in layout.tensors:
        if tensor.role == "running_var":
            X[:, tensor.slice] = rng.uniform(0.5, 2, size=(n_states, tensor.size))
        elif tensor.role == "num_batches_tracked":
            X[:, tensor.slice] = 7
    return X


def assert_same_function(
    module: nn.Module, layout: WeightLayout, one: np.ndarray, other: np.ndarray, images: torch.Tensor
) -> None:
    """Two states give the same outputs, to 1e-5 of the largest."""
    outputs = []
    with torch.no_grad():
        for vector in (one, other):
            module.load_state_dict(state_tensors(layout, vector))
            outputs.append(module.eval()(images).numpy())
    scale = np.abs(outputs[0]).max()
    assert scale > 0
    np.testing.assert_allclose(outputs[1] / scale, outputs[0] / scale, rtol=0, atol=1e-5)


def images_for(channels: int, side: int, n: int = 3) -> torch.Tensor:
    """Random images."""
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, channels, side, side)).astype(np.float32))
