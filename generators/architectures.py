"""The networks that zoos are made of as plain torch modules, and their initialisation.

Sources: Schürholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022,
section 3 and appendix; Unterthiner et al., "Predicting Neural Network Accuracy from Weights", 2020, section 3, for the
network of the Small CNN Zoo.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from zoobench.generators.dropout import UNITS_A_LAYER, DropoutMasks
from zoobench.generators.registration import build_registered, layout_of, registered
from zoobench.generators.residual import ResNet18
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
    "small_cnn": (
        ("activation", "dropout"),
        ("activation", "dropout"),
        ("activation", "dropout", "average"),
        (),
    ),
}

#: Stride of the convolutions, where it is not 1.
STRIDES = {"small_cnn": 2}

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
}

_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

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


def build_module(
    architecture: str, *, channels: int, n_classes: int = 10, activation: str, dropout: float = 0.0
) -> nn.Module:
    """An untrained network of a named architecture.

    Parameters
    ----------
    architecture : {"cnn_s", "cnn_l", "small_cnn", "resnet18"} or str
        One of these, whose layers' shapes and names are those of :meth:`WeightLayout.from_architecture`, or one that
        was registered.
    channels : int
        Image channels: 1 or 3 for ``"cnn_s"`` (28 x 28 pixels), 1 for ``"small_cnn"``, 3 for ``"cnn_l"`` (32 x 32
        pixels) and ``"resnet18"``.
    n_classes : int, default=10
        Outputs: 10, 100 or 200 of ``"resnet18"``, 10 of the other named ones.
    activation : {"tanh", "sigmoid", "relu", "gelu"}
        The non-linearity behind each layer but the last.
    dropout : float, default=0.0
        Probability of dropping a unit in training. It has no weights and does not change the names of those that have.
        ``"resnet18"`` has no dropout.

    Returns
    -------
    Module
        Its weights are not set: use :func:`initialise` or ``load_state_dict``.

    Raises
    ------
    ValueError
        If the architecture, its number of channels or classes, or the activation is unknown.

    Examples
    --------
    >>> from zoobench.generators.architectures import build_module
    >>> module = build_module("cnn_s", channels=1, activation="tanh", dropout=0.5)
    >>> list(module.state_dict())[:3]
    ['module_list.0.weight', 'module_list.0.bias', 'module_list.3.weight']
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is unknown; known: {', '.join(_ACTIVATIONS)}")
    if registered(architecture):
        return build_registered(
            architecture, channels=channels, n_classes=n_classes, activation=activation, dropout=dropout
        )
    layout = layout_of(architecture, channels=channels, n_classes=n_classes)
    if architecture == "resnet18":
        if dropout:
            raise ValueError(f"architecture 'resnet18' has no dropout, but dropout is {dropout}")
        return ResNet18(channels, n_classes, _ACTIVATIONS[activation])
    return ConvolutionalNetwork(_steps(architecture, layout, _ACTIVATIONS[activation], dropout))


def _steps(
    architecture: str, layout: WeightLayout, activation: type[nn.Module], dropout: float
) -> OrderedDict[str, nn.Module]:
    """The layers of a chain with what follows each."""
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (layer, followers) in enumerate(zip(layout.layers, FOLLOWERS[architecture], strict=True)):
        assert layer.weight is not None  # all layers of chains have one
        shape = layer.weight.shape
        # Layers keep their published numbers as names; what has no weights is named by its role, so that a dropout
        # more or less cannot shift them.
        # skip_init, because torch's own initialisation would draw from the global generator.
        steps[layer.name.rpartition(".")[2]] = (
            nn.utils.skip_init(nn.Conv2d, shape[1], shape[0], shape[2:], stride=STRIDES.get(architecture, 1))
            if layer.kind == "conv2d"
            else nn.utils.skip_init(nn.Linear, shape[1], shape[0])
        )
        for role in followers:
            if role == "pool":
                steps[f"pool_{number}"] = nn.MaxPool2d(2)
            elif role == "activation":
                steps[f"activation_{number}"] = activation()
            elif role == "average":
                steps["average"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            elif role == "flatten":
                steps["flatten"] = nn.Flatten()
            elif dropout:
                steps[f"dropout_{number}"] = Dropout(dropout, first_unit(number))
    return steps


@torch.no_grad()
def initialise(module: nn.Module, init: str, generator: torch.Generator) -> None:
    """Draw a network's starting point, in place.

    Parameters
    ----------
    module : Module
        Its weights (tensors of two or more axes) follow the scheme, and its biases become 0.01. Normalisations, such as
        that of batches, start as torch has them, with weight 1, bias 0 and statistics of 0 and 1: the published scheme
        is one for convolutions and linear layers.
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
    for part in module.modules():
        if isinstance(part, _NORMALISATIONS):
            part.reset_parameters()
            continue
        for parameter in part.parameters(recurse=False):
            if parameter.ndim > 1:
                schemes[init](parameter, generator=generator)
            else:
                parameter.fill_(INITIAL_BIAS)
