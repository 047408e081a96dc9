"""The axes of a recipe's grid, and the checks of what a recipe is made of."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoobench.generators.schedules import SCHEDULES

#: The values of each axis that is not in the grid; they are also the axes of every zoo, in canonical order.
DEFAULT_GRID: dict[str, list[Any]] = {
    "activation": ["tanh"],
    "init": ["uniform"],
    "optimizer": ["adam"],
    "dropout": [0.0],
    "lr": [3e-4],
    "weight_decay": [1e-3],
}

#: Axes that a zoo has only where its grid names them, in canonical order. They come after the others.
EXTRA_AXES = ("momentum", "batch_size", "schedule")

#: The values that the axes of names take.
CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("tanh", "sigmoid", "relu", "gelu"),
    "init": ("uniform", "normal", "kaiming_uniform", "kaiming_normal"),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": SCHEDULES,
}

#: Momentum of SGD, as in the Model Zoos, where the grid does not name it.
DEFAULT_MOMENTUM = 0.9

#: Seeds stay below this bound, so that they fit every generator and the int64 column of a zoo.
SEED_BOUND = 2**31

_SPANS = {
    "lr": ("above 0", lambda value: value > 0),
    "dropout": ("from 0, below 1", lambda value: 0 <= value < 1),
    "momentum": ("from 0, below 1", lambda value: 0 <= value < 1),
    "weight_decay": ("0 or above", lambda value: value >= 0),
}


def check_grid(grid: Any) -> dict[str, list[Any]]:
    """The grid with every axis of :data:`DEFAULT_GRID`, then those of :data:`EXTRA_AXES` that it names."""
    if not isinstance(grid, Mapping):
        raise ValueError(f"grid must map axes to lists of values, not {grid!r}")
    axes = (*DEFAULT_GRID, *EXTRA_AXES)
    for axis in grid:
        if axis not in axes:
            raise ValueError(f"the grid has no axis {axis!r}{hint(axis, axes)}")
    checked = {axis: _check_axis(axis, grid.get(axis, default)) for axis, default in DEFAULT_GRID.items()}
    checked |= {axis: _check_axis(axis, grid[axis]) for axis in EXTRA_AXES if axis in grid}
    # Where it has no effect, several values of it would be one model several times.
    if len(checked.get("momentum", [])) > 1:
        if checked["optimizer"] != ["sgd"]:
            raise ValueError("several values of momentum need optimizer ['sgd']; the others do not use it")
        if "onecycle" in checked.get("schedule", []):
            raise ValueError("several values of momentum and schedule 'onecycle' exclude each other: that sets it")
    return checked


def check_hyperparameter(axis: str, value: Any) -> Any:
    """One value of an axis, as a plain string or number."""
    return _check_axis(axis, [value.item() if isinstance(value, np.generic) else value])[0]


def _check_axis(axis: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise ValueError(f"grid axis {axis!r} must be a list of values, not {values!r}")
    if not len(values):
        raise ValueError(f"grid axis {axis!r} is empty; give at least one value or leave it out")
    checked: list[Any] = []
    for value in values:
        if axis in CHOICES:
            if not isinstance(value, str) or value not in CHOICES[axis]:
                raise ValueError(f"{axis} {value!r} is unknown{hint(value, CHOICES[axis])}")
        elif axis == "batch_size":
            check_count("batch_size", value, least=1)
        else:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{axis} must be a finite number, not {value!r}")
            value = float(value)
            span, holds = _SPANS[axis]
            if not holds(value):
                raise ValueError(f"{axis} must be {span}, not {value!r}")
        if value in checked:
            raise ValueError(f"grid axis {axis!r} names {value!r} twice; each model would be trained twice")
        checked.append(value)
    return checked


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """Explicit seeds, all of them different."""
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Sequence):
        raise ValueError(f"seeds must be a sequence of whole numbers or RandomSeeds(n), not {seeds!r}")
    if not len(seeds):
        raise ValueError("seeds is empty; give at least one seed, or RandomSeeds(n)")
    for seed in seeds:
        if not is_int(seed) or not 0 <= seed < SEED_BOUND:
            raise ValueError(f"a seed must be a whole number from 0 to {SEED_BOUND - 1}, not {seed!r}")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if list(seeds).count(seed) > 1)
        raise ValueError(f"seed {twice} is given twice; each model would be trained twice")
    return tuple(int(seed) for seed in seeds)


def check_epochs(epochs: Any, n_epochs: int) -> tuple[int, ...]:
    """The epochs after which a state is kept, ascending; None stands for all of them."""
    if epochs is None:
        return tuple(range(n_epochs + 1))
    if isinstance(epochs, (str, bytes)) or not isinstance(epochs, Sequence):
        raise ValueError(f"checkpoint_epochs must be a sequence of epochs, not {epochs!r}")
    if not len(epochs):
        raise ValueError("checkpoint_epochs is empty; give at least one epoch, or None for every one")
    for epoch in epochs:
        if not is_int(epoch) or not 0 <= epoch <= n_epochs:
            raise ValueError(f"checkpoint epoch {epoch!r} is not one of the epochs 0 to {n_epochs}")
    if len(set(epochs)) < len(epochs):
        raise ValueError(f"checkpoint_epochs {list(epochs)} names an epoch twice")
    return tuple(sorted(int(epoch) for epoch in epochs))


def check_count(name: str, value: Any, *, least: int) -> None:
    """Refuse what is no whole number, or too small a one."""
    if not is_int(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def is_int(value: Any) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def hint(value: Any, known: Any) -> str:
    """What to append to a message about an unknown name: close matches, or all that there is."""
    close = difflib.get_close_matches(str(value), list(known))
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; known: {', '.join(known)}"
