"""What trains a zoo: image data, architecture, grid of hyper-parameters, seeds and epochs."""

from __future__ import annotations

import hashlib
import itertools
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoobench.errors import ZooFormatError
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.recipe_checks import (
    DEFAULT_GRID,
    DEFAULT_MOMENTUM,
    EXTRA_AXES,
    SEED_BOUND,
    check_count,
    check_epochs,
    check_grid,
    check_seeds,
    hint,
    is_int,
)
from zoobench.generators.registration import RegisteredArchitecture, layout_of, registered, restore_architecture
from zoobench.layout import WeightLayout

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
        if not is_int(self.n) or self.n < 1:
            raise ValueError(f"RandomSeeds takes a number of seeds of at least 1, not {self.n!r}")

    def of(self, combination: Mapping[str, Any]) -> tuple[int, ...]:
        """The seeds of one combination of hyper-parameters."""
        # Axes that the grid does not name are not in the text, so that there may come to be more of them.
        axes = (axis for axis in (*DEFAULT_GRID, *EXTRA_AXES) if axis in combination)
        text = ",".join(f"{axis}={combination[axis]}" for axis in axes)
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
        A value for each of ``activation init optimizer dropout lr weight_decay``, and for those of ``momentum
        batch_size schedule`` that the grid names.
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
    dataset : str, default="digits"
        Image data: ``"digits"``, ``"mnist"``, ``"fmnist"``, ``"svhn"``, ``"usps"``, ``"cifar10"``, ``"cifar100"``,
        ``"stl10"``, ``"eurosat"`` or ``"tinyimagenet"``. Splits and transforms belong to the name and the architecture.
    architecture : {"cnn_s", "cnn_l", "small_cnn", "resnet18"} or str, default="cnn_s"
        Network, one of these or one of :func:`register_architecture`; it must take the dataset's channels and classes.
    grid : mapping of str to list, optional
        Values of ``activation`` (tanh, sigmoid, relu, gelu), ``init`` (uniform, normal, kaiming_uniform,
        kaiming_normal), ``optimizer`` (adam, adamw, sgd), ``dropout`` (from 0, below 1), ``lr`` (above 0) and
        ``weight_decay`` (from 0); every combination is trained. Axes that are not named take the one value of the
        Model Zoos' seed populations: tanh, uniform, adam, 0.0, 3e-4, 1e-3. Also ``momentum`` (of sgd; from 0, below 1;
        default 0.9, as in the Model Zoos), ``batch_size`` (default: that of the recipe) and ``schedule`` (constant,
        which is the default, or onecycle: :class:`torch.optim.lr_scheduler.OneCycleLR` with its defaults). These three
        are properties of the zoo only where the grid names them.
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
        # Unknown images or architectures are refused here, and networks that do not take the images' channels.
        _ = self.layout
        check_count("n_epochs", self.n_epochs, least=0)
        check_count("batch_size", self.batch_size, least=1)
        object.__setattr__(self, "grid", check_grid(self.grid))
        if self.architecture == "resnet18" and any(self.grid["dropout"]):
            raise ValueError(f"architecture 'resnet18' has no dropout, but dropout is {self.grid['dropout']}")
        if not isinstance(self.seeds, RandomSeeds):
            object.__setattr__(self, "seeds", check_seeds(self.seeds))
        object.__setattr__(self, "checkpoint_epochs", check_epochs(self.checkpoint_epochs, self.n_epochs))
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
        channels = find_image_set(self.dataset).setting(self.architecture).channels
        return layout_of(self.architecture, channels=channels, n_classes=self.n_classes)

    @property
    def n_classes(self) -> int:
        """Classes of the images, which are outputs of the networks."""
        return find_image_set(self.dataset).n_classes

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
        varying = [axis for axis, values in self.grid.items() if len(values) > 1]
        models: list[ModelSettings] = []
        for values in itertools.product(*self.grid.values()):
            combination = dict(zip(self.grid, values, strict=True))
            seeds = self.seeds.of(combination) if isinstance(self.seeds, RandomSeeds) else self.seeds
            for seed in seeds:
                name = ",".join([*(f"{axis}={combination[axis]}" for axis in varying), f"seed={seed}"])
                models.append(ModelSettings(name, combination, seed))
        return models

    def training_values(self, model: ModelSettings) -> dict[str, Any]:
        """A value for every axis there is: a model's hyper-parameters, and the defaults of what the grid leaves out."""
        defaults = {"momentum": DEFAULT_MOMENTUM, "batch_size": self.batch_size, "schedule": "constant"}
        return defaults | model.hyperparameters

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

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers in other processes are to know the architecture too.
        return _unpickled, (dict(self.__dict__), registered(self.architecture))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Recipe from plain data.

        Parameters
        ----------
        data : mapping
            The constructor's arguments. ``seeds`` is a list, ``{"first": 1, "last": 40}`` (both included), or
            ``{"random": n}`` for :class:`RandomSeeds`; ``checkpoint_epochs`` is one of the first two.

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
            raise ValueError(f"a recipe has no setting {unknown[0]!r}{hint(unknown[0], cls.__dataclass_fields__)}")
        if isinstance(arguments.get("seeds"), Mapping):
            arguments["seeds"] = _seeds_from_table(arguments["seeds"])
        if isinstance(arguments.get("checkpoint_epochs"), Mapping):
            arguments["checkpoint_epochs"] = _span(arguments["checkpoint_epochs"], "checkpoint_epochs")
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


def _unpickled(state: dict[str, Any], architecture: RegisteredArchitecture | None) -> Recipe:
    restore_architecture(state["architecture"], architecture)
    recipe = object.__new__(Recipe)
    recipe.__dict__.update(state)
    return recipe


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
            _why_none(str(recipe), bundled)
            or f"no recipe is named {str(recipe)!r}{hint(str(recipe), bundled)}; or give the path of a TOML file"
        )
    return Recipe.from_toml(bundled[str(recipe)])


def _why_none(name: str, bundled: Mapping[str, Path]) -> str | None:
    """Why a zoo of the registry has no recipe; None where the name is that of no such zoo."""
    from zoobench.datasets_registry.cards import find_card, read_cards

    try:
        card = find_card(name)
    except ValueError:
        # Called as zoos with recipes are, by its images and its network.
        starts = {f"{card.dataset}_{card.architecture}": card for card in read_cards().values() if not card.recipe}
        called = [start for start in starts if name == start or name.startswith(f"{start}_")]
        if not called or any(other.startswith(called[0]) for other in bundled):
            return None
        card = starts[called[0]]
    if card.recipe:
        return None
    if card.twin_of:
        why = f"twins are made from another zoo, by zoobench sparsify {card.twin_of}"
    else:
        why = "a recipe is a grid of hyper-parameters, and this zoo's were drawn at random, or are not all published"
        why += f"; zoobench fetch {card.name} brings the zoo itself" if card.readable else ""
    return f"no recipe is named {name!r}: zoo {card.name!r} has none, because {why}"


def _seeds_from_table(table: Mapping[str, Any]) -> Sequence[int] | RandomSeeds:
    return RandomSeeds(table["random"]) if set(table) == {"random"} else _span(table, "seeds", " or {random = 10}")


def _span(table: Mapping[str, Any], name: str, other: str = "") -> range:
    """The whole numbers from ``first`` to ``last``, both included."""
    if set(table) == {"first", "last"} and all(is_int(value) for value in table.values()):
        return range(table["first"], table["last"] + 1)
    raise ValueError(f"{name} must be a list, {{first = 1, last = 40}}{other}, not {dict(table)!r}")
