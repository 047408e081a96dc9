"""The network that one state of a zoo stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoobench.layout import WeightLayout

if TYPE_CHECKING:
    import torch


def build_network(
    zoo: str, layout: WeightLayout, properties: Mapping[str, Any], state_dict: Mapping[str, torch.Tensor]
) -> torch.nn.Module:
    """A network with a state's weights, in evaluation mode.

    Parameters
    ----------
    zoo : str
        The zoo's name, for messages.
    layout : WeightLayout
        Of the state; it has to be that of a named architecture.
    properties : mapping
        Of the state: ``activation`` has to be among them, ``dropout`` may be.
    state_dict : mapping of str to torch.Tensor
        The weights.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If the architecture is no named one, or the activation is not known.
    """
    from zoobench.generators.architectures import build_module

    remedy = "build the module yourself and load zoo.state_dict(i)"
    if layout.architecture is None:
        raise ValueError(f"the models of zoo {zoo!r} have no named architecture; {remedy}")
    if "activation" not in properties:
        raise ValueError(f"zoo {zoo!r} does not say which activation its models use; {remedy}")
    module = build_module(
        layout.architecture,
        channels=layout.tensors[0].shape[1],
        activation=str(properties["activation"]),
        dropout=float(properties.get("dropout", 0.0)),
    )
    module.load_state_dict(dict(state_dict))
    return module.eval()
