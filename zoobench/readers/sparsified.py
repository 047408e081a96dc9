"""Sparsified twins: from what their checkpoints hold, the weights of the network that is evaluated.

Variational dropout (Molchanov et al. 2017, arXiv 1701.05369) learns a variance for every weight, and drops the weights
whose variance is large beside them. Pruning by torch's utilities keeps weights and a mask. In a zoo, both are networks
of the plain architecture with some weights zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.properties import IDENTITY, MEASURED

#: Weights are dropped from this logarithm of alpha on, the ratio of variance to squared weight (section 4 there). The
#: published code clamps the logarithm before, to bounds beyond this one, which changes nothing.
DROPPED_FROM = np.float32(3)

#: Keeps the logarithm of a zero weight finite; from the published code.
_TINY = np.float32(1e-15)

_VARIANCE, _DEVIATION = "log_sigma2", "log_sigma"
_PRUNED, _MASK = "_orig", "_mask"
_ORDER = {"weight": 0, "bias": 1}
_BLOCK_BYTES = 1 << 26

#: Name and shape of a tensor.
NamedShape = tuple[str, tuple[int, ...]]


class _Part(NamedTuple):
    """One tensor of the network: which of the checkpoint's tensors are its values, its mask and its variances."""

    role: str
    shape: tuple[int, ...]
    values: int
    mask: int | None = None
    variances: int | None = None
    factor: float = 1.0  # what makes the logarithm of a variance of them


class Twin:
    """How the tensors of a sparsified network's checkpoint make up its weight vector.

    Attributes
    ----------
    tensors : list of (name, shape)
        The network's tensors, in the order of the weight vector.
    """

    def __init__(self, modules: dict[str, list[_Part]]) -> None:
        parts = [part for module in modules.values() for part in module]
        names = [f"{module}.{part.role}".removeprefix(".") for module in modules for part in modules[module]]
        self.tensors = [(name, part.shape) for name, part in zip(names, parts, strict=True)]
        self._values = [part.values for part in parts]
        sizes = [math.prod(part.shape) for part in parts]
        # What a tensor lacks is filled in such that it changes nothing: a mask of ones, a variance of zero.
        self._masks = _filled([part.mask for part in parts], sizes, 1.0)
        self._variances = _filled([part.variances for part in parts], sizes, -np.inf)
        factors = np.repeat(np.array([part.factor for part in parts], np.float32), sizes)
        self._factors = None if np.all(factors == 1) else factors

    def evaluated(self, pieces: Sequence[memoryview]) -> np.ndarray:
        """The weight vector of the network that is evaluated.

        Parameters
        ----------
        pieces : sequence of memoryview
            The numbers of each of the checkpoint's tensors, as bytes of float32.

        Returns
        -------
        ndarray of shape (n_weights,), float32
        """
        weights = _joined(pieces, self._values)
        # What is not finite goes its way, as in torch: such a state is told by its weights.
        with np.errstate(invalid="ignore", over="ignore"):
            if self._masks:
                weights = weights * _joined(pieces, self._masks)
            if self._variances:
                log_variances = _joined(pieces, self._variances)
                if self._factors is not None:
                    log_variances = log_variances * self._factors
                weights = np.where(log_variances - 2 * _log(np.abs(weights) + _TINY) >= DROPPED_FROM, 0, weights)
        return weights


def find_twin(tensors: Sequence[NamedShape]) -> Twin | None:
    """How the tensors of a checkpoint make up a sparsified network; None for any other network.

    Parameters
    ----------
    tensors : sequence of (name, shape)
        In the order of the checkpoint. Variances are told by ``log_sigma2`` in their names (``log_sigma``: standard
        deviations), and belong to the weight or bias of the same module that has their shape; pruned tensors are told
        by the endings ``_orig`` and ``_mask``.

    Returns
    -------
    Twin or None

    Raises
    ------
    ZooFormatError
        If a variance or mask does not have the shape of what it belongs to.
    """
    split = [(*name.rpartition(".")[::2], shape) for name, shape in tensors]
    if not any(_DEVIATION in role or role.endswith(_MASK) for _, role, _ in split):
        return None
    modules: dict[str, list[tuple[str, tuple[int, ...], int]]] = {}
    for index, (module, role, shape) in enumerate(split):
        modules.setdefault(module, []).append((role, shape, index))
    parts = {module: _parts(module, found) for module, found in modules.items()}
    sparse = any(part.mask is not None or part.variances is not None for found in parts.values() for part in found)
    return Twin(parts) if sparse else None


def with_sparsity(contents: ZooContents) -> ZooContents:
    """The zoo with the property ``sparsity`` filled in where it is missing.

    It is the share of zeros among the weights: biases and buffers of batch normalisation are left out.
    """
    table, weights = contents.properties, contents.weights
    known = table["sparsity"].to_numpy() if "sparsity" in table else np.full(len(table), np.nan)
    rows = np.flatnonzero(np.isnan(known))
    if not len(rows):
        return contents
    tensors = contents.layout.tensors
    counted = [not tensor.is_buffer and tensor.role != "bias" for tensor in tensors]
    columns = np.repeat(counted, [tensor.size for tensor in tensors])
    sparsity, n_counted = known.copy(), max(1, np.count_nonzero(columns))
    step = max(1, _BLOCK_BYTES // (4 * weights.shape[1]))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        sparsity[block] = np.count_nonzero((weights[block] == 0) & columns, axis=1) / n_counted
    place = sum(name in (*IDENTITY, *MEASURED) for name in table.columns.drop("sparsity", errors="ignore"))
    table = table.drop(columns="sparsity", errors="ignore")
    table.insert(place, "sparsity", sparsity)
    return replace(contents, properties=table)


def _parts(module: str, tensors: list[tuple[str, tuple[int, ...], int]]) -> list[_Part]:
    """The tensors of the network that those of one module make up."""
    pairs = {role.removesuffix(_PRUNED) for role, _, _ in tensors if role.endswith(_PRUNED)}
    pairs &= {role.removesuffix(_MASK) for role, _, _ in tensors if role.endswith(_MASK)}
    # What belongs to no weight is no variance, whatever it is called.
    owned = any(role.removesuffix(_PRUNED) in _ORDER for role, _, _ in tensors)
    parts: dict[str, _Part] = {}
    masks, variances = [], []
    for role, shape, index in tensors:
        if role.endswith(_MASK) and role.removesuffix(_MASK) in pairs:
            masks.append((role, shape, index))
        elif owned and _DEVIATION in role:
            variances.append((role, shape, index))
        else:
            plain = role.removesuffix(_PRUNED) if role.removesuffix(_PRUNED) in pairs else role
            if plain in parts:
                raise ZooFormatError(f"has two tensors for {module}.{plain}")
            parts[plain] = _Part(plain, shape, index)
    for role, shape, index in masks:
        plain = role.removesuffix(_MASK)
        if parts[plain].shape != shape:
            raise ZooFormatError(
                f"has a mask {module}.{role} of shape {shape} for a tensor of shape {parts[plain].shape}"
            )
        parts[plain] = parts[plain]._replace(mask=index)
    for role, shape, index in variances:
        owner = _owner(role, shape, parts)
        if owner is None:
            there = " and ".join(f"{name} of shape {parts[name].shape}" for name in _ORDER if name in parts)
            raise ZooFormatError(f"has variances {module}.{role} of shape {shape}, but its module has {there}")
        if parts[owner].variances is not None:
            raise ZooFormatError(f"has two tensors of variances for {module}.{owner}")
        parts[owner] = parts[owner]._replace(variances=index, factor=1.0 if _VARIANCE in role else 2.0)
    if not masks and not variances:
        return list(parts.values())
    # Pruning puts what it has pruned behind the rest.
    return sorted(parts.values(), key=lambda part: _ORDER.get(part.role, len(_ORDER)))


def _owner(role: str, shape: tuple[int, ...], parts: dict[str, _Part]) -> str | None:
    """Which tensor of the module variances belong to; None if there is none of their shape."""
    fitting = [name for name in _ORDER if name in parts and parts[name].shape == shape]
    named = "bias" if "bias" in role else "weight"
    return named if named in fitting else next(iter(fitting), None)


def _filled(indices: list[int | None], sizes: list[int], value: float) -> list[int | bytes]:
    """Places of tensors, and where there is none, numbers of that value as bytes; empty if there is none at all."""
    if all(index is None for index in indices):
        return []
    pairs = zip(indices, sizes, strict=True)
    return [np.full(size, value, np.float32).tobytes() if index is None else index for index, size in pairs]


def _joined(pieces: Sequence[memoryview], places: Sequence[int | bytes]) -> np.ndarray:
    return np.frombuffer(b"".join([pieces[p] if isinstance(p, int) else p for p in places]), np.float32)


def _log(numbers: np.ndarray) -> np.ndarray:
    """Natural logarithms, rounded correctly.

    numpy's own for float32 differ from torch's in the last digit of one number in fourteen, these in one of nine
    thousand; and that digit can matter only to a weight that is exactly on the edge.
    """
    logarithms: np.ndarray = np.log(numbers.astype(np.float64)).astype(np.float32)
    return logarithms
