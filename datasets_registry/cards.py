"""Cards: the registry's descriptions of zoos, read from TOML."""

from __future__ import annotations

import difflib
import functools
import math
import re
import tomllib
import types
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zoobench.datasets_registry.schema import from_table
from zoobench.datasets_registry.sources import Source

ROOT = Path(__file__).resolve().parent

#: The variant that a name without one stands for: the most used, and the one with nothing but the seed to vary.
DEFAULT_VARIANT = "seed"

#: ``"other"`` is for populations that vary something else than the Model Zoos do. Sparsified twins append to the
#: variant of the zoo that they come from: see :data:`_TWIN`.
VARIANTS = ("seed", "hyp_rand", "hyp_fix", "other")

_KNOWN_VARIANTS = f"{', '.join(VARIANTS)}, and for twins each with _sparse or _sparse_magnitude_<percentage> appended"

#: What a twin's name and variant end in: sparsified by variational dropout, or by magnitude with the percentage.
_TWIN = re.compile(r"_sparse(_magnitude_[1-9][0-9]?)?$")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The registry's description of one zoo. What is None is not known, or differs between the models.

    Attributes
    ----------
    name : str
        Full name, such as ``"digits_cnn_s_seed"``.
    title : str
        One line.
    description : str
        What the models are, for people.
    dataset : str
        The images that the models classify.
    architecture : str
        Architecture of every model: ``"cnn_s"``, ``"cnn_l"``, ``"resnet18"``, or a word of our own for another.
    variant : str
        ``"seed"``, ``"hyp_rand"``, ``"hyp_fix"`` or ``"other"``; of a sparsified twin with ``"_sparse"`` or
        ``"_sparse_magnitude_<percentage>"`` appended.
    channels : int or None
        Image channels.
    n_models : int or None
        Models in the zoo.
    epochs : tuple of int or None
        Epochs of which every model has a state, as the authors count them.
    n_weights : int or None
        Numbers of a network that are trained. A weight vector also holds the buffers of batch normalisation, where
        there is one: ``X[:, zoo.layout.mask(roles=["weight", "bias"])]`` leaves them out.
    grid : dict of str to list, or None
        Values of each hyper-parameter that was set on a grid.
    seeds : str or None
        How seeds are drawn, in words.
    twin_of : str or None
        Name of the zoo whose last states a sparsified twin starts from.
    licence : str
        Licence of the data, ``"unknown"`` where none is stated.
    citation : str
        What to cite.
    sources : tuple of Source
        Where the zoo comes from, best first.
    recipe : str or None
        Name of the recipe that trains it, where there is one.

    Raises
    ------
    ValueError
        For an unknown variant, and for values that contradict each other.

    Examples
    --------
    >>> from zoobench.datasets_registry import find_card
    >>> card = find_card("svhn_cnn_s", "hyp_rand")
    >>> card.n_models, card.n_states, card.grid["dropout"]
    (4320, 220320, [0.0, 0.3, 0.5])
    >>> [source.kind for source in card.sources]
    ['zenodo', 'directory', 'zenodo']
    """

    name: str
    title: str
    description: str
    dataset: str
    architecture: str
    variant: str
    channels: int | None = None
    n_models: int | None = None
    epochs: tuple[int, ...] | None = None
    n_weights: int | None = None
    grid: dict[str, list[Any]] | None = None
    seeds: str | None = None
    twin_of: str | None = None
    licence: str
    citation: str
    sources: tuple[Source, ...]
    recipe: str | None = None

    def __post_init__(self) -> None:
        if _TWIN.sub("", self.variant) not in VARIANTS:
            raise ValueError(f"variant {self.variant!r} is unknown; known are {_KNOWN_VARIANTS}")
        if bool(_TWIN.search(self.variant)) != (self.twin_of is not None):
            raise ValueError(f"variant is {self.variant!r} and twin_of {self.twin_of!r}, but only a twin has both")
        if not self.sources:
            raise ValueError("at least one source was expected")
        unknown = [
            n for n in ("channels", "n_models", "epochs", "n_weights", "grid", "seeds") if getattr(self, n) is None
        ]
        if self.bundled and unknown:
            raise ValueError(f"the card of a bundled zoo lacks {', '.join(unknown)}")
        for name in ("channels", "n_models", "n_weights"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count}, but at least 1 was expected")
        if self.epochs is not None and (not self.epochs or list(self.epochs) != sorted(set(self.epochs))):
            raise ValueError(f"epochs are {list(self.epochs)}, but some, in ascending order, were expected")
        if self.grid is not None and self.n_models is not None:
            combinations = math.prod(len(values) for values in self.grid.values())
            if not combinations or self.n_models % combinations:
                raise ValueError(
                    f"n_models is {self.n_models}, but a multiple of the grid's {combinations} was expected"
                )

    @property
    def n_states(self) -> int | None:
        """Rows of the zoo; None where models or epochs are not known."""
        return None if self.n_models is None or self.epochs is None else self.n_models * len(self.epochs)

    @property
    def bundled(self) -> Path | None:
        """Folder of a zoo that comes with the package; None for others."""
        return ROOT / "bundled" / self.name if any(s.kind == "bundled" for s in self.sources) else None

    @property
    def readable(self) -> bool:
        """Whether zoobench has a reader for what at least one of the sources holds."""
        return any(source.readable for source in self.sources)

    @property
    def family(self) -> str:
        """The name without its variant, which the zoos of one dataset and architecture share."""
        return self.name.removesuffix(f"_{self.variant}")

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data, which is what ``zoo.json`` holds; what is not known is absent."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        known["sources"] = [source.to_dict() for source in self.sources]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in known.items()}


def parse_card(text: str, *, where: str) -> Card:
    """A card from TOML.

    Parameters
    ----------
    text : str
        The TOML document. ``epochs`` may be a list or ``{ first = 0, last = 50 }``.
    where : str
        Name of the file, for messages; it has to be the card's name.

    Returns
    -------
    Card

    Raises
    ------
    ValueError
        For broken TOML, for a field that is unknown, missing or of the wrong type, and for values that contradict
        each other.

    Examples
    --------
    >>> from zoobench.datasets_registry.cards import parse_card
    >>> parse_card('name = "mine"', where="mine.toml")
    Traceback (most recent call last):
        ...
    ValueError: card mine.toml lacks title, description, dataset, architecture, variant, licence, citation, sources
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"card {where} is no valid TOML: {error}") from error
    card = from_table(Card, data, f"card {where}")
    if Path(where).stem != card.name:
        raise ValueError(f"card {where} names the zoo {card.name!r}; the file must be {card.name}.toml")
    return card


@functools.cache
def read_cards() -> types.MappingProxyType[str, Card]:
    """Every card of the registry, by name.

    Returns
    -------
    mapping of str to Card

    Examples
    --------
    >>> from zoobench.datasets_registry import read_cards
    >>> read_cards()["digits_cnn_s_seed"].n_models
    200
    """
    return types.MappingProxyType({name: _read_card(name) for name in _names()})


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in (ROOT / "cards").glob("*.toml")))


@functools.cache
def _read_card(name: str) -> Card:
    # One by one, so that fetching a zoo does not cost the reading of all cards.
    file = ROOT / "cards" / f"{name}.toml"
    return parse_card(file.read_text(encoding="utf-8"), where=file.name)


def find_card(name: str, variant: str | None = None) -> Card:
    """The card of a zoo.

    Parameters
    ----------
    name : str
        Full name, or the name without its variant. A sparsified twin's name ends in ``"_sparse"`` or
        ``"_sparse_magnitude_<percentage>"`` either way.
    variant : {"seed", "hyp_rand", "hyp_fix"}, optional
        The variant, where the name has none; ``"seed"`` by default.

    Returns
    -------
    Card

    Raises
    ------
    ValueError
        For an unknown name or variant, with close matches; for a full name beside a variant that contradicts it.

    Examples
    --------
    >>> from zoobench.datasets_registry import find_card
    >>> find_card("digits_cnn_s", "hyp_rand").name
    'digits_cnn_s_hyp_rand'
    >>> find_card("mnist_cnn_s_sparse").twin_of
    'mnist_cnn_s_seed'
    """
    if variant is not None and _TWIN.sub("", str(variant)) not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known are {_KNOWN_VARIANTS}")
    if name in _names():
        card = _read_card(name)
        if variant not in (None, card.variant):
            raise ValueError(f"zoo {name!r} is the variant {card.variant!r}, but variant={variant!r} was given")
        return card
    twin = _TWIN.search(str(name))
    family, suffix = (name[: twin.start()], twin[0]) if twin else (name, "")
    wanted = f"{variant or DEFAULT_VARIANT}{suffix}"
    if f"{family}_{wanted}" in _names():
        return _read_card(f"{family}_{wanted}")
    cards = read_cards()
    others = [card.variant for card in cards.values() if card.family == family]
    if others:
        raise ValueError(f"zoo {family!r} has no variant {wanted!r}; it has {', '.join(others)}")
    # A name without a variant is closer to what is typed than a full one, so it is suggested as well.
    default = [card for card in cards.values() if card.variant.startswith(DEFAULT_VARIANT)]
    short = {f"{card.family}{card.variant.removeprefix(DEFAULT_VARIANT)}": None for card in default}
    close = difflib.get_close_matches(str(name), list(short | dict.fromkeys(cards)), n=3)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "list_zoos() names them all."
    raise ValueError(f"unknown zoo {name!r}; {hint}")
