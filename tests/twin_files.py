"""Checkpoints of sparsified networks, made of real ones, and by torch what they are when they are evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import torch

import zoo_files
from zoo_files import Members, State

TorchState = dict[str, torch.Tensor]


def log_alpha(weight: torch.Tensor, log_sigma2: torch.Tensor) -> torch.Tensor:
    """As the published layers compute it: with other bounds for convolutions than for linear layers."""
    bound = 8 if weight.ndim == 4 else 10
    return torch.clamp(log_sigma2 - 2 * torch.log(torch.abs(weight) + 1e-15), -bound, bound)


def evaluated(state: Mapping[str, torch.Tensor]) -> TorchState:
    """The plain state_dict that a checkpoint by variational dropout stands for."""
    plain: TorchState = {}
    for name, weight in state.items():
        if "log_sigma2" in name:
            continue
        module, _, role = name.rpartition(".")
        log_sigma2 = state.get(f"{module}.log_sigma2{'_bias' if role == 'bias' else ''}")
        if log_sigma2 is not None:
            weight = torch.where(log_alpha(weight, log_sigma2) >= 3, torch.zeros_like(weight), weight)
        plain[name] = weight
    return plain


def with_variances(state: Mapping[str, torch.Tensor], *, seed: int = 0, biases: bool = True) -> TorchState:
    """A checkpoint by variational dropout: weight, bias, then a variance for each of them."""
    generator = torch.Generator().manual_seed(seed)
    modules: dict[str, TorchState] = {}
    for name, tensor in state.items():
        module, _, role = name.rpartition(".")
        modules.setdefault(module, {})[role] = tensor
    found: TorchState = {}
    for module, tensors in modules.items():
        for role, tensor in tensors.items():
            found[f"{module}.{role}"] = tensor
        for role, tensor in tensors.items():
            if role == "weight" or biases:
                variance = 4 * torch.randn(tensor.shape, generator=generator) - 3
                found[f"{module}.log_sigma2{'_bias' if role == 'bias' else ''}"] = variance
    return found


def with_masks(state: Mapping[str, torch.Tensor], share: float = 0.5) -> TorchState:
    """A checkpoint in the form that torch.nn.utils.prune leaves: what is pruned comes behind the biases."""
    found: TorchState = {name: tensor for name, tensor in state.items() if name.endswith("bias")}
    order = dict.fromkeys(name.rpartition(".")[0] for name in state)
    pruned: TorchState = {}
    for module in order:
        pruned[f"{module}.bias"] = found[f"{module}.bias"]
        weight = state[f"{module}.weight"]
        pruned[f"{module}.weight_orig"] = weight
        pruned[f"{module}.weight_mask"] = (weight.abs() > weight.abs().flatten().quantile(share)).float()
    return pruned


def twins_of(
    members: Members,
    make: Callable[[TorchState, int], TorchState],
    *,
    sparsity: Callable[[int], float] | None = None,
) -> Members:
    """An experiment whose checkpoints are those of another, changed; by default its results say no sparsity."""
    twins: Members = {}
    for number, (name, content) in enumerate(members.items()):
        if name.endswith("/checkpoints"):
            content = zoo_files.torch_bytes(make(zoo_files.state_dict(content), number))
        elif name.endswith("/result.json") and sparsity is not None:
            lines = [json.loads(line) for line in content.splitlines()]
            lines = [line | {"sparsity_ratio": sparsity(line["training_iteration"])} for line in lines]
            content = "\n".join(map(json.dumps, lines)).encode()
        twins[name] = content
    return twins


def evaluated_vectors(members: Members) -> dict[State, np.ndarray]:
    """(model, epoch) -> vector of the evaluated network, of every checkpoint by variational dropout."""
    found = {}
    for name, content in members.items():
        if name.endswith("/checkpoints"):
            trial, checkpoint = name.split("/")[-3:-1]
            vector = zoo_files.vector(evaluated(zoo_files.state_dict(content)))
            found[trial, int(checkpoint.removeprefix("checkpoint_"))] = vector
    return found
