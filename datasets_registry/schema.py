"""Strict reading of plain data into dataclasses: what is unknown, missing or of the wrong type is named."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


def from_table(cls: type[T], table: Any, where: str) -> T:
    """An instance of a dataclass from a table.

    Parameters
    ----------
    cls : type
        The dataclass. If it has ``kinds``, a dict of classes, the table's ``kind`` says which of them is meant.
    table : dict
        Plain data. A sequence of integers may also be given as ``{"first": 0, "last": 50}``.
    where : str
        What is read, for messages.

    Returns
    -------
    instance of cls

    Raises
    ------
    ValueError
        For a field that is unknown, missing or of the wrong type, and for values that the class refuses.

    Examples
    --------
    >>> from zoobench.datasets_registry.schema import from_table
    >>> from zoobench.datasets_registry.sources import UrlSource
    >>> from_table(UrlSource, {"url": "https://example.org/a.zip", "fromat": "zoo"}, "mine.toml")
    Traceback (most recent call last):
        ...
    ValueError: mine.toml has an unknown field 'fromat'; did you mean 'format'?
    """
    if not isinstance(table, dict):
        raise ValueError(f"{where} is {table!r}, but a table was expected")
    kinds = getattr(cls, "kinds", None)
    if kinds is not None and "kind" in table:
        kind = table["kind"]
        if kind not in kinds:
            raise ValueError(f"{where} has kind {kind!r}; known are {', '.join(kinds)}")
        cls, table = kinds[kind], {key: value for key, value in table.items() if key != "kind"}
    elif kinds is not None and cls not in kinds.values():
        raise ValueError(f"{where} lacks kind")
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{where} has an unknown field {key!r}{hint}")
    missing = [key for key, field in known.items() if key not in table and field.default is dataclasses.MISSING]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    hints = _hints(cls)  # type: ignore[arg-type]  # mypy holds type[T] for unhashable
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _value(hint: Any, value: Any, where: str) -> Any:
    """A value of the type that a hint asks for."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        # "or None" is what stands for a field that is absent; TOML has no None to write.
        return _value(arguments[0], value, where)
    if dataclasses.is_dataclass(hint):
        return from_table(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if arguments[0] is int and isinstance(value, dict):
            return _span(value, where)
        if isinstance(value, list):
            return tuple(_value(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    plain = origin or hint
    if plain is Any or (isinstance(value, plain) and not (plain is int and isinstance(value, bool))):
        return value
    name = "list" if plain is tuple else getattr(plain, "__name__", plain)
    raise ValueError(f"{where} is {value!r}, but {name} was expected")


def _span(value: dict[str, Any], where: str) -> tuple[int, ...]:
    """The integers from ``first`` to ``last``, both included."""
    ends = [value.get("first"), value.get("last")]
    if len(value) != 2 or any(type(end) is not int for end in ends):
        raise ValueError(f"{where} is {value!r}, but a list or {{ first = ..., last = ... }} was expected")
    first, last = typing.cast(list[int], ends)
    return tuple(range(first, last + 1))
