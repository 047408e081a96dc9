"""Cards: the registry's descriptions of zoos, read from TOML."""

from __future__ import annotations

import difflib
import functools
import tomllib
import types
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

#: The variant that a name without one stands for: the most used, and the one with nothing but the seed to vary.
DEFAULT_VARIANT = "seed"

VARIANTS = ("seed", "hyp_rand", "hyp_fix")


@dataclass(frozen=True)
class Source:
    """One place that a zoo comes from.

    Attributes
    ----------
    kind : str
        ``"bundled"``: a folder of this package.
    """

    kind: str


@dataclass(frozen=True)
class Card:
    """The registry's description of one zoo.

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
        Architecture of every model.
    variant : str
        ``"seed"``, ``"hyp_rand"`` or ``"hyp_fix"``.
    channels : int
        Image channels.
    n_models : int
        Models in the zoo.
    epochs : tuple of int
        Epochs of which every model has a state.
    n_weights : int
        Length of a weight vector.
    grid : dict of str to list
        Values of each hyper-parameter.
    seeds : str
        How seeds are drawn, in words.
    licence : str
        Licence of the data.
    citation : str
        What to cite.
    sources : tuple of Source
        Where the zoo comes from, best first.
    recipe : str or None
        Name of the recipe that trains it, where there is one.
    """

    name: str
    title: str
    description: str
    dataset: str
    architecture: str
    variant: str
    channels: int
    n_models: int
    epochs: tuple[int, ...]
    n_weights: int
    grid: dict[str, list[Any]]
    seeds: str
    licence: str
    citation: str
    sources: tuple[Source, ...]
    recipe: str | None = None

    @property
    def n_states(self) -> int:
        """Rows of the zoo."""
        return self.n_models * len(self.epochs)

    @property
    def bundled(self) -> Path | None:
        """Folder of a zoo that comes with the package; None for others."""
        return ROOT / "bundled" / self.name if any(s.kind == "bundled" for s in self.sources) else None

    def to_dict(self) -> dict[str, Any]:
        """The card as plain data, which is what ``zoo.json`` holds."""
        return asdict(self) | {"epochs": list(self.epochs), "sources": [asdict(source) for source in self.sources]}


def parse_card(text: str, *, where: str) -> Card:
    """A card from TOML.

    Parameters
    ----------
    text : str
        The TOML document.
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
    ValueError: card mine.toml lacks title, description, dataset, architecture, variant, channels, n_models, epochs, \
n_weights, grid, seeds, licence, citation, sources
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"card {where} is no valid TOML: {error}") from error
    card: Card = _typed(Card, data, where)
    if Path(where).stem != card.name:
        raise ValueError(f"card {where} names the zoo {card.name!r}; the file must be {card.name}.toml")
    if card.variant not in VARIANTS:
        raise ValueError(f"card {where} has variant {card.variant!r}; known are {', '.join(VARIANTS)}")
    if not card.sources or card.n_models < 1 or list(card.epochs) != sorted(set(card.epochs)):
        raise ValueError(f"card {where} needs a source, at least one model, and epochs in ascending order")
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
    files = sorted((ROOT / "cards").glob("*.toml"))
    cards = [parse_card(file.read_text(encoding="utf-8"), where=file.name) for file in files]
    return types.MappingProxyType({card.name: card for card in cards})


def find_card(name: str, variant: str | None = None) -> Card:
    """The card of a zoo.

    Parameters
    ----------
    name : str
        Full name, or the name without its variant.
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
    """
    cards = read_cards()
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known are {', '.join(VARIANTS)}")
    if name in cards:
        if variant not in (None, cards[name].variant):
            raise ValueError(f"zoo {name!r} is the variant {cards[name].variant!r}, but variant={variant!r} was given")
        return cards[name]
    full = f"{name}_{variant or DEFAULT_VARIANT}"
    if full in cards:
        return cards[full]
    stems = {card.name.removesuffix(f"_{card.variant}"): None for card in cards.values()}
    if name in stems:
        others = [card.variant for card in cards.values() if card.name == f"{name}_{card.variant}"]
        raise ValueError(f"zoo {name!r} has no variant {variant or DEFAULT_VARIANT!r}; it has {', '.join(others)}")
    close = difflib.get_close_matches(str(name), [*stems, *cards], n=3)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else "list_zoos() names them all."
    raise ValueError(f"unknown zoo {name!r}; {hint}")


def _typed(cls: type, data: Any, where: str) -> Any:
    """An instance of a dataclass from plain data, every field checked."""
    if not isinstance(data, dict):
        raise ValueError(f"card {where} has {data!r} where a table is expected")
    known = {field.name: field for field in fields(cls)}
    unknown = [key for key in data if key not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        raise ValueError(
            f"card {where} has an unknown field {unknown[0]!r}" + (f"; did you mean {close[0]!r}?" if close else "")
        )
    missing = [key for key, field in known.items() if key not in data and field.default is not None]
    if missing:
        raise ValueError(f"card {where} lacks {', '.join(missing)}")
    hints = typing.get_type_hints(cls)
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Source:
        return _typed(Source, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin in (typing.Union, types.UnionType):
        return _value(arguments[0], value, where)
    plain = origin or hint
    if plain is Any or (isinstance(value, plain) and not (plain is int and isinstance(value, bool))):
        return value
    raise ValueError(f"card {where} is {value!r}, but {getattr(plain, '__name__', plain)} was expected")
