"""What trains a zoo: image data, architecture, grid of hyper-parameters, seeds and epochs."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoobench.errors import ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.properties import HYPERPARAMETERS

#: The values of each axis that is not in the grid; they are also the axes there are, in canonical order.
DEFAULT_GRID: dict[str, list[Any]] = {
    "activation": ["tanh"],
    "init": ["uniform"],
    "optimizer": ["adam"],
    "dropout": [0.0],
    "lr": [3e-4],
    "weight_decay": [1e-3],
}

#: The values that the axes of names take.
CHOICES: dict[str, tuple[str, ...]] = {
    "activation": ("tanh", "sigmoid", "relu", "gelu"),
    "init": ("uniform", "normal", "kaiming_uniform", "kaiming_normal"),
    "optimizer": ("adam", "sgd"),
}

#: Image datasets that zoos can be trained on, with their channels.
DATASETS: dict[str, int] = {"digits": 1}

#: Seeds stay below this bound, so that they fit every generator and the int64 column of a zoo.
SEED_BOUND = 2**31

RECIPE_FOLDER = Path(__file__).resolve().parent.parent / "datasets_registry" / "recipes"


@dataclass(frozen=True)
class RandomSeeds:
    """Fresh seeds for each combination of the grid.

    The seeds of a combination are a hash of its hyper-parameters and of the seed's position, so that adding a
    combination, or asking for more seeds, changes no other model.

    Parameters
    ----------
    n : int
        Seeds per combination.

    Examples
    --------
    >>> from zoobench.generators import RandomSeeds, Recipe
    >>> recipe = Recipe(grid={"activation": ["tanh", "relu"]}, seeds=RandomSeeds(10))
    >>> recipe.n_models
    20
    """

    n: int

    def __post_init__(self) -> None:
        if not _is_int(self.n) or self.n < 1:
            raise ValueError(f"RandomSeeds takes a number of seeds of at least 1, not {self.n!r}")

    def of(self, combination: Mapping[str, Any]) -> tuple[int, ...]:
        """The seeds of one combination of hyper-parameters."""
        text = ",".join(f"{axis}={combination[axis]}" for axis in DEFAULT_GRID)
        seeds: list[int] = []
        position = 0
        while len(seeds) < self.n:
            digest = hashlib.blake2b(f"{text}#{position}".encode(), digest_size=8).digest()
            seed = int.from_bytes(digest, "little") % SEED_BOUND
            # Two equal seeds would be one model twice.
            if seed not in seeds:
                seeds.append(seed)
            position += 1
        return tuple(seeds)


@dataclass(frozen=True)
class ModelSettings:
    """What one model of a zoo is trained with.

    Attributes
    ----------
    name : str
        Unique in its zoo, and told by the settings alone: the axes of the grid that vary, and the seed.
    hyperparameters : dict
        A value for each of ``activation init optimizer dropout lr weight_decay``.
    seed : int
        Where the model's initialisation, batch order and dropout come from.
    """

    name: str
    hyperparameters: dict[str, Any]
    seed: int


@dataclass(frozen=True)
class Recipe:
    """What trains a zoo.

    Parameters
    ----------
    dataset : {"digits"}, default="digits"
        Image data; splits and transforms belong to the name.
    architecture : {"cnn_s", "cnn_l"}, default="cnn_s"
        Network; it must take the dataset's number of channels.
    grid : mapping of str to list, optional
        Values of ``activation`` (tanh, sigmoid, relu, gelu), ``init`` (uniform, normal, kaiming_uniform,
        kaiming_normal), ``optimizer`` (adam; sgd, with momentum 0.9), ``dropout`` (from 0, below 1), ``lr`` (above 0)
        and ``weight_decay`` (from 0); every combination is trained. Axes that are not named take the one value of the
        Model Zoos' seed populations: tanh, uniform, adam, 0.0, 3e-4, 1e-3.
    seeds : sequence of int or RandomSeeds, default=range(1, 41)
        Explicit seeds, each used with every combination, or ``RandomSeeds(n)``: n fresh ones per combination.
    n_epochs : int, default=10
        Passes over the training images.
    batch_size : int, default=10
        Images a step, as in the Model Zoos. The last batch of an epoch may be smaller.
    checkpoint_epochs : sequence of int, optional
        After which epochs a state is kept; 0 is the untrained network. Default: every epoch, 0 included.
    name : str, optional
        Name of the zoo. Default: made of dataset and architecture.

    Raises
    ------
    ValueError
        If a value is out of range, unknown, or given twice.

    Examples
    --------
    >>> from zoobench.generators import Recipe
    >>> recipe = Recipe(grid={"lr": [1e-3, 1e-2]}, seeds=[1, 2], n_epochs=5, checkpoint_epochs=[0, 5])
    >>> recipe.n_models, recipe.n_states
    (4, 8)
    >>> [model.name for model in recipe.models()][:2]
    ['lr=0.001,seed=1', 'lr=0.001,seed=2']
    """

    dataset: str = "digits"
    architecture: str = "cnn_s"
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: Sequence[int] | RandomSeeds = range(1, 41)
    n_epochs: int = 10
    batch_size: int = 10
    checkpoint_epochs: Sequence[int] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.dataset not in DATASETS:
            raise ValueError(f"no image data named {self.dataset!r}{_hint(self.dataset, DATASETS)}")
        _ = self.layout  # An unknown architecture is refused here, and one that does not take the dataset's channels.
        for key, value, least in (("n_epochs", self.n_epochs, 0), ("batch_size", self.batch_size, 1)):
            if not _is_int(value) or value < least:
                raise ValueError(f"{key} must be a whole number of at least {least}, not {value!r}")
        object.__setattr__(self, "grid", _checked_grid(self.grid))
        object.__setattr__(self, "seeds", _checked_seeds(self.seeds))
        object.__setattr__(self, "checkpoint_epochs", _checked_epochs(self.checkpoint_epochs, self.n_epochs))
        if self.name is None:
            object.__setattr__(self, "name", f"{self.dataset}_{self.architecture}")
        elif not str(self.name).strip():
            raise ValueError(f"the name of a recipe must not be empty, but is {self.name!r}")

    def __hash__(self) -> int:
        return hash(repr(self.to_dict()))

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs after which a state is kept, ascending."""
        assert self.checkpoint_epochs is not None  # __post_init__ filled it in
        return tuple(self.checkpoint_epochs)

    @property
    def layout(self) -> WeightLayout:
        """Layout of the models' weights."""
        return WeightLayout.from_architecture(self.architecture, channels=DATASETS[self.dataset])

    @property
    def n_models(self) -> int:
        """Models that the recipe trains."""
        seeds = self.seeds.n if isinstance(self.seeds, RandomSeeds) else len(self.seeds)
        return seeds * math.prod(len(values) for values in self.grid.values())

    @property
    def n_states(self) -> int:
        """Rows of the zoo: models times checkpoints."""
        return self.n_models * len(self.epochs)

    def models(self) -> list[ModelSettings]:
        """Settings of every model, in the zoo's order: the grid's axes in canonical order, seeds innermost."""
        varying = [axis for axis in DEFAULT_GRID if len(self.grid[axis]) > 1]
        models: list[ModelSettings] = []
        for values in itertools.product(*(self.grid[axis] for axis in DEFAULT_GRID)):
            combination = dict(zip(DEFAULT_GRID, values, strict=True))
            seeds = self.seeds.of(combination) if isinstance(self.seeds, RandomSeeds) else self.seeds
            for seed in seeds:
                name = ",".join([*(f"{axis}={combination[axis]}" for axis in varying), f"seed={seed}"])
                models.append(ModelSettings(name, combination, seed))
        return models

    # -- plain data ------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, complete: what ``zoo.json`` holds and :meth:`from_dict` reads."""
        seeds = {"random": self.seeds.n} if isinstance(self.seeds, RandomSeeds) else list(self.seeds)
        return {
            "name": self.name,
            "dataset": self.dataset,
            "architecture": self.architecture,
            "grid": {axis: list(values) for axis, values in self.grid.items()},
            "seeds": seeds,
            "n_epochs": self.n_epochs,
            "batch_size": self.batch_size,
            "checkpoint_epochs": list(self.epochs),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Recipe from plain data.

        Parameters
        ----------
        data : mapping
            The constructor's arguments. ``seeds`` is a list, ``{"first": 1, "last": 40}`` (both included), or
            ``{"random": n}`` for :class:`RandomSeeds`.

        Returns
        -------
        Recipe

        Raises
        ------
        ValueError
            If a key is unknown, or a value is one that the constructor refuses.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"a recipe is a table of settings, not {data!r}")
        arguments = dict(data)
        unknown = sorted(set(arguments) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(f"a recipe has no setting {unknown[0]!r}{_hint(unknown[0], cls.__dataclass_fields__)}")
        if isinstance(arguments.get("seeds"), Mapping):
            arguments["seeds"] = _seeds_from_table(arguments["seeds"])
        return cls(**arguments)

    @classmethod
    def from_toml(cls, path: str | Path) -> Recipe:
        """Recipe from a TOML file with the keys of :meth:`from_dict`.

        Parameters
        ----------
        path : path-like
            Where the file's stem is the name of the zoo unless the file gives one.

        Returns
        -------
        Recipe

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ZooFormatError
            If the file is not TOML, or its settings make no recipe.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no recipe file {path}")
        try:
            return cls.from_dict({"name": path.stem} | tomllib.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ZooFormatError(f"{path} is not a recipe: {error}") from error


def find_recipe(recipe: Recipe | str | Path) -> Recipe:
    """The recipe that a name, a TOML path or a recipe stands for.

    Parameters
    ----------
    recipe : Recipe, str or path-like
        A path is what ends in ``.toml`` or exists as a file; everything else is the name of a bundled recipe.

    Returns
    -------
    Recipe

    Raises
    ------
    ValueError
        If no bundled recipe has the name; the message has close matches.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, (str, Path)):
        raise TypeError(f"a recipe is a name, the path of a TOML file or a Recipe, not {recipe!r}")
    if Path(recipe).suffix == ".toml" or Path(recipe).is_file():
        return Recipe.from_toml(recipe)
    bundled = {path.stem: path for path in sorted(RECIPE_FOLDER.glob("*.toml"))}
    if str(recipe) not in bundled:
        raise ValueError(
            f"no recipe is named {str(recipe)!r}{_hint(str(recipe), bundled)}; or give the path of a TOML file"
        )
    return Recipe.from_toml(bundled[str(recipe)])


def _checked_grid(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(grid, Mapping):
        raise ValueError(f"grid must map axes to lists of values, not {grid!r}")
    for axis in grid:
        if axis not in HYPERPARAMETERS:
            raise ValueError(f"the grid has no axis {axis!r}{_hint(axis, HYPERPARAMETERS)}")
    return {axis: _checked_axis(axis, grid.get(axis, default)) for axis, default in DEFAULT_GRID.items()}


def _checked_axis(axis: str, values: Any) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        raise ValueError(f"grid axis {axis!r} must be a list of values, not {values!r}")
    if not len(values):
        raise ValueError(f"grid axis {axis!r} is empty; give at least one value or leave it out")
    checked: list[Any] = []
    for value in values:
        if axis in CHOICES:
            if value not in CHOICES[axis]:
                raise ValueError(f"{axis} {value!r} is unknown{_hint(value, CHOICES[axis])}")
        else:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{axis} must be a finite number, not {value!r}")
            value = float(value)
            if value < 0 or (axis == "lr" and value == 0) or (axis == "dropout" and value >= 1):
                span = {"lr": "above 0", "dropout": "from 0, below 1"}.get(axis, "0 or above")
                raise ValueError(f"{axis} must be {span}, not {value!r}")
        if value in checked:
            raise ValueError(f"grid axis {axis!r} names {value!r} twice; each model would be trained twice")
        checked.append(value)
    return checked


def _checked_seeds(seeds: Any) -> tuple[int, ...] | RandomSeeds:
    if isinstance(seeds, RandomSeeds):
        return seeds
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Sequence):
        raise ValueError(f"seeds must be a sequence of whole numbers or RandomSeeds(n), not {seeds!r}")
    if not len(seeds):
        raise ValueError("seeds is empty; give at least one seed, or RandomSeeds(n)")
    for seed in seeds:
        if not _is_int(seed) or not 0 <= seed < SEED_BOUND:
            raise ValueError(f"a seed must be a whole number from 0 to {SEED_BOUND - 1}, not {seed!r}")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if list(seeds).count(seed) > 1)
        raise ValueError(f"seed {twice} is given twice; each model would be trained twice")
    return tuple(int(seed) for seed in seeds)


def _checked_epochs(epochs: Any, n_epochs: int) -> tuple[int, ...]:
    if epochs is None:
        return tuple(range(n_epochs + 1))
    if isinstance(epochs, (str, bytes)) or not isinstance(epochs, Sequence):
        raise ValueError(f"checkpoint_epochs must be a sequence of epochs, not {epochs!r}")
    if not len(epochs):
        raise ValueError("checkpoint_epochs is empty; give at least one epoch, or None for every one")
    for epoch in epochs:
        if not _is_int(epoch) or not 0 <= epoch <= n_epochs:
            raise ValueError(f"checkpoint epoch {epoch!r} is not one of the epochs 0 to {n_epochs}")
    if len(set(epochs)) < len(epochs):
        raise ValueError(f"checkpoint_epochs {list(epochs)} names an epoch twice")
    return tuple(sorted(int(epoch) for epoch in epochs))


def _seeds_from_table(table: Mapping[str, Any]) -> Sequence[int] | RandomSeeds:
    if set(table) == {"random"}:
        return RandomSeeds(table["random"])
    if set(table) == {"first", "last"} and all(_is_int(value) for value in table.values()):
        return range(table["first"], table["last"] + 1)
    raise ValueError(f"seeds must be a list, {{first = 1, last = 40}} or {{random = 10}}, not {dict(table)!r}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _hint(value: Any, known: Any) -> str:
    close = difflib.get_close_matches(str(value), list(known))
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; known: {', '.join(known)}"
