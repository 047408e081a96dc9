"""Calls on workers that may be killed: what one of them was doing is lost, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from zoobench.generators.parallel import unordered

Result = TypeVar("Result")


def _whole(*call: Any) -> list[tuple[Any, ...]]:
    return [call]


def surviving(
    work: Callable[..., Result],
    calls: Sequence[tuple[Any, ...]],
    n_jobs: int,
    split: Callable[..., list[tuple[Any, ...]]] = _whole,
) -> Iterator[tuple[tuple[Any, ...], Result | None, str]]:
    """Each call with what it returned, in the order in which they end.

    Parameters
    ----------
    work : callable
        A module-level function that raises nothing by itself.
    calls : sequence of tuple
        Its arguments.
    n_jobs : int
        How many calls are worked on at the same time.
    split : callable, optional
        Takes a call apart into smaller ones, which are done instead of one that killed its worker, so that what it has
        in common with the culprit does not come to nothing. By default calls stay whole.

    Yields
    ------
    call : tuple
        Of ``calls``, or a part of one.
    result
        None for a call that killed its worker, or could not be sent to one.
    error : str
        Why there is no result; else empty.

    Notes
    -----
    Joblib's processes end together when one of them is killed, and nobody says by which call. So those that had been
    handed out and of which nothing had come back yet are done again one at a time, each once, and then the others as
    before. Of these some may have ended well: they are done twice.
    """
    left = dict(enumerate(calls))
    while left:
        out: list[int] = []
        try:
            for number, result in unordered(_numbered, _noted(work, left, out), n_jobs):
                yield left.pop(number), result, ""
        except Exception:
            suspects = [number for number in out if number in left]
            if not suspects:  # the fault lies in no call
                raise
            for number in suspects:
                yield from _alone(work, left.pop(number), split)


def _noted(work: Callable[..., Any], left: dict[int, tuple[Any, ...]], out: list[int]) -> Iterator[tuple[Any, ...]]:
    """Calls that are left, each noted when it is handed out."""
    for number in list(left):
        out.append(number)
        yield work, number, *left[number]


def _alone(
    work: Callable[..., Result], call: tuple[Any, ...], split: Callable[..., list[tuple[Any, ...]]]
) -> Iterator[tuple[tuple[Any, ...], Result | None, str]]:
    """A call, with nothing beside it that could be blamed; its parts, if it fails."""
    try:
        # Two jobs, so that a process of its own does it.
        (result,) = unordered(work, [call], 2)
    except Exception as failure:
        parts = split(*call)
        if len(parts) == 1:
            yield call, None, _said(failure)
            return
    else:
        yield call, result, ""
        return
    for part in parts:
        yield from _alone(work, part, split)


def _numbered(work: Callable[..., Result], number: int, *arguments: Any) -> tuple[int, Result]:
    return number, work(*arguments)


def _said(failure: Exception) -> str:
    if isinstance(failure, BrokenProcessPool):
        return "its worker process was killed, most likely because memory ran out; it needs a machine with more"
    # What cannot be sent is named in the last line of joblib's account of the cause.
    lines = [*str(failure).splitlines(), *str(failure.__cause__ or "").strip(' \n"').splitlines()[-1:]]
    return f"its worker failed: {type(failure).__name__}: {' '.join(' '.join(lines).split())}"
