"""The two small convolutional networks of the Model Zoos as plain torch modules, and their initialisation.

Source: Schürholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022,
section 3 and appendix.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from zoobench.generators.dropout import UNITS_A_LAYER, DropoutMasks
from zoobench.layout import WeightLayout

#: What follows the weights of each layer, in order; "dropout" only in networks that have any.
FOLLOWERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "cnn_s": (
        ("pool", "activation", "dropout"),
        ("pool", "activation", "dropout"),
        ("activation", "flatten"),
        ("activation", "dropout"),
        (),
    ),
    "cnn_l": (
        ("pool", "activation", "dropout"),
        ("pool", "activation", "dropout"),
        ("pool", "activation", "dropout", "flatten"),
        ("activation", "dropout"),
        (),
    ),
}

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}

#: Every bias starts at this value, whatever the scheme of the weights.
INITIAL_BIAS = 0.01


class Dropout(nn.Module):
    """Dropout whose draws are a model's own, so that models trained side by side do not share them.

    Parameters
    ----------
    p : float
        Probability of dropping a unit in training; the others are scaled by ``1 / (1 - p)``.
    first_unit : int
        Number of the first unit, which sets those of this layer apart from another's.
    """

    def __init__(self, p: float, first_unit: int) -> None:
        super().__init__()
        self.p = p
        self.first_unit = first_unit
        self.masks: DropoutMasks | None = None  # None: drawn from torch's global generator

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values, some of them zero while the module is in training mode."""
        if self.masks is None or not self.training:
            return functional.dropout(values, self.p, self.training)
        n_units = values[0].numel()
        mask = self.masks.draw(self.p, len(values), range(self.first_unit, self.first_unit + n_units))
        return values * torch.from_numpy(mask).view_as(values).to(values.device)

    def extra_repr(self) -> str:
        """What ``repr`` shows between the brackets."""
        return f"p={self.p}"


def first_unit(number: int) -> int:
    """Number of the first unit behind the ``number``-th layer (from 0), for dropout."""
    return number * UNITS_A_LAYER


class ConvolutionalNetwork(nn.Module):
    """A chain of layers that maps images to ten logits.

    Parameters
    ----------
    steps : OrderedDict of str to Module
        Applied one after another; their names become ``module_list.<name>``.
    """

    def __init__(self, steps: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        self.module_list = nn.Sequential(steps)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n_images, 10) of images of shape (n_images, channels, height, width)."""
        logits: torch.Tensor = self.module_list(images)
        return logits


def build_module(architecture: str, *, channels: int, activation: str, dropout: float = 0.0) -> nn.Module:
    """An untrained network of a named architecture.

    Parameters
    ----------
    architecture : {"cnn_s", "cnn_l"}
        The layers' shapes and names are those of :meth:`WeightLayout.from_architecture`.
    channels : int
        Image channels: 1 or 3 for ``"cnn_s"`` (28 x 28 pixels), 3 for ``"cnn_l"`` (32 x 32 pixels).
    activation : {"tanh", "sigmoid", "relu", "gelu"}
        The non-linearity behind each layer but the last.
    dropout : float, default=0.0
        Probability of dropping a unit in training. It has no weights and does not change the names of those that have.

    Returns
    -------
    Module
        Its parameters are not set: use :func:`initialise` or ``load_state_dict``.

    Raises
    ------
    ValueError
        If the architecture, its number of channels or the activation is unknown.

    Examples
    --------
    >>> from zoobench.generators.architectures import build_module
    >>> module = build_module("cnn_s", channels=1, activation="tanh", dropout=0.5)
    >>> list(module.state_dict())[:3]
    ['module_list.0.weight', 'module_list.0.bias', 'module_list.3.weight']
    """
    if architecture not in FOLLOWERS:
        raise ValueError(f"architecture {architecture!r} cannot be built; known: {', '.join(FOLLOWERS)}")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is unknown; known: {', '.join(_ACTIVATIONS)}")
    layout = WeightLayout.from_architecture(architecture, channels=channels)
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (layer, followers) in enumerate(zip(layout.layers, FOLLOWERS[architecture], strict=True)):
        if layer.weight is None:
            raise ValueError(f"layer {layer.name!r} of {architecture!r} has no weight")
        shape = layer.weight.shape
        # Layers keep their published numbers as names; what has no weights is named by its role, so that a dropout
        # more or less cannot shift them.
        # skip_init, because torch's own initialisation would draw from the global generator.
        steps[layer.name.rpartition(".")[2]] = (
            nn.utils.skip_init(nn.Conv2d, shape[1], shape[0], shape[2:])
            if layer.kind == "conv2d"
            else nn.utils.skip_init(nn.Linear, shape[1], shape[0])
        )
        for role in followers:
            if role == "pool":
                steps[f"pool_{number}"] = nn.MaxPool2d(2)
            elif role == "activation":
                steps[f"activation_{number}"] = _ACTIVATIONS[activation]()
            elif role == "flatten":
                steps["flatten"] = nn.Flatten()
            elif dropout:
                steps[f"dropout_{number}"] = Dropout(dropout, first_unit(number))
    return ConvolutionalNetwork(steps)


@torch.no_grad()
def initialise(module: nn.Module, init: str, generator: torch.Generator) -> None:
    """Draw a network's starting point, in place.

    Parameters
    ----------
    module : Module
        Its weights (tensors of two or more axes) follow the scheme; every other parameter becomes 0.01.
    init : {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
        U(0, 1), N(0, 1), or torch's Kaiming schemes with their defaults (``a=0``, fan in), which are not the ones that
        ``Conv2d`` and ``Linear`` start with.
    generator : torch.Generator
        Where the draws come from; the global generator is not touched.

    Raises
    ------
    ValueError
        If the scheme is unknown.
    """
    schemes: dict[str, Callable[..., torch.Tensor]] = {
        "uniform": nn.init.uniform_,
        "normal": nn.init.normal_,
        "kaiming_uniform": nn.init.kaiming_uniform_,
        "kaiming_normal": nn.init.kaiming_normal_,
    }
    if init not in schemes:
        raise ValueError(f"init {init!r} is unknown; known: {', '.join(schemes)}")
    for parameter in module.parameters():
        if parameter.ndim > 1:
            schemes[init](parameter, generator=generator)
        else:
            parameter.fill_(INITIAL_BIAS)
