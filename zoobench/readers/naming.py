"""Errors that say which file they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zoobench.errors import UnsafeFileError, ZooFormatError


@contextmanager
def naming(name: object) -> Iterator[None]:
    """Put the name of what is being read before the message of any format error from inside."""
    try:
        yield
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{shortened(name)}: {error}") from None
    except ZooFormatError as error:
        raise ZooFormatError(f"{shortened(name)}: {error}") from None


def shortened(name: object, length: int = 400) -> str:
    """A name from a file, fit for a message: printable, and cut in the middle where it is too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in str(name))
    return text if len(text) <= length else f"{text[: length // 2]}...{text[-length // 2 :]}"
