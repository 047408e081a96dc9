"""The tensors and the network that one state of a zoo stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.layout import WeightLayout

if TYPE_CHECKING:
    import torch


#: The buffer that batch normalisation counts its batches in: an integer, though a weight vector holds floats.
_COUNT = "num_batches_tracked"


def state_tensors(layout: WeightLayout, vector: np.ndarray) -> dict[str, torch.Tensor]:
    """The tensors of one state, of the types that torch's modules have.

    Parameters
    ----------
    layout : WeightLayout
        Of the state.
    vector : ndarray of shape (n_weights,), float32
        The state. Counts of more than 16 million batches have lost their last digits in it.

    Returns
    -------
    dict of str to torch.Tensor
        Copies.
    """
    import torch

    tensors = {name: torch.from_numpy(np.array(values)) for name, values in layout.unflatten(vector).items()}
    for tensor in layout.tensors:
        if tensor.role == _COUNT:
            tensors[tensor.name] = tensors[tensor.name].to(torch.int64)
    return tensors


def origin_of(recipe: Mapping[str, Any] | None, provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """What names a zoo's architecture and images: its recipe, or what sparsified twins say of the zoo they are of."""
    twins = provenance.get("twins")
    return recipe or (twins if isinstance(twins, Mapping) else {})


def build_network(
    zoo: str,
    layout: WeightLayout,
    properties: Mapping[str, Any],
    state_dict: Mapping[str, torch.Tensor],
    recipe: Mapping[str, Any] | None = None,
) -> torch.nn.Module:
    """A network with a state's weights, in evaluation mode.

    Parameters
    ----------
    zoo : str
        The zoo's name, for messages.
    layout : WeightLayout
        Of the state; without a recipe that names the architecture, it has to be that of a named one.
    properties : mapping
        Of the state: ``activation`` has to be among them, ``dropout`` may be.
    state_dict : mapping of str to torch.Tensor
        The weights.
    recipe : mapping, optional
        What the zoo was trained by, or :func:`origin_of` it.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If the architecture is neither a named nor a registered one, the activation is not known, or the running
        statistics of batch normalisation are missing.
    """
    from zoobench.generators.architectures import build_module
    from zoobench.generators.image_sets import find_image_set
    from zoobench.generators.registration import registered

    remedy = "build the module yourself and load zoo.state_dict(i)"
    recipe = recipe or {}
    architecture = recipe.get("architecture", layout.architecture)
    if architecture is None:
        raise ValueError(f"the models of zoo {zoo!r} have no named architecture; {remedy}")
    if "activation" not in properties:
        raise ValueError(f"zoo {zoo!r} does not say which activation its models use; {remedy}")
    if registered(architecture) is not None:
        images = find_image_set(recipe["dataset"])
        channels, n_classes = images.setting(architecture).channels, images.n_classes
    elif layout.architecture is not None:
        channels, n_classes = layout.tensors[0].shape[1], layout.tensors[-1].shape[0]
    else:
        raise ValueError(
            f"the models of zoo {zoo!r} are of the architecture {architecture!r}, which this process does not know; "
            "register it first: zoobench.generators.register_architecture(name, build)"
        )
    module = build_module(
        architecture,
        channels=channels,
        n_classes=n_classes,
        activation=str(properties["activation"]),
        dropout=float(properties.get("dropout", 0.0)),
    )
    try:
        missing = module.load_state_dict(dict(state_dict), strict=False).missing_keys
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n\t")[1:2])
        raise ValueError(
            f"the states of zoo {zoo!r} do not fit the networks that architecture {architecture!r} builds: {reason}"
        ) from None
    if missing:
        raise ValueError(
            f"the states of zoo {zoo!r} lack {len(missing)} tensors, the first of them {missing[0]}: without the "
            f"running statistics of batch normalisation a network cannot be evaluated; {remedy}, and set them"
        )
    return module.eval()
