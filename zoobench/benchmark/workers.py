"""Calls on workers that may be killed: what one of them was doing is lost, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from zoobench.generators.parallel import count_jobs, unordered

Result = TypeVar("Result")


def surviving(
    work: Callable[..., Result], calls: Sequence[tuple[Any, ...]], n_jobs: int
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

    Yields
    ------
    call : tuple
        Of ``calls``.
    result
        None for a call that killed its worker, or could not be sent to one.
    error : str
        Why there is no result; else empty.

    Notes
    -----
    Joblib's processes end together when one of them is killed, and nobody says by which call. So those that may have
    been at work are done again one at a time, and then the others as before.
    """
    left = dict(enumerate(calls))
    while left:
        try:
            for number, result in unordered(_numbered, [(work, number, *left[number]) for number in left], n_jobs):
                yield left.pop(number), result, ""
        except Exception:
            # Joblib hands out twice as many calls as there are workers.
            for number in list(left)[: 2 * count_jobs(n_jobs)]:
                call = left.pop(number)
                try:
                    # Two jobs, so that a process of its own does it.
                    ((_, result),) = unordered(_numbered, [(work, number, *call)], 2)
                except Exception as failure:
                    yield call, None, _said(failure)
                else:
                    yield call, result, ""


def _numbered(work: Callable[..., Result], number: int, *arguments: Any) -> tuple[int, Result]:
    return number, work(*arguments)


def _said(failure: Exception) -> str:
    if isinstance(failure, BrokenProcessPool):
        return "its worker process was killed, most likely because memory ran out; it needs a machine with more"
    # What cannot be sent is named in the last line of joblib's account of the cause.
    lines = [*str(failure).splitlines(), *str(failure.__cause__ or "").strip(' \n"').splitlines()[-1:]]
    return f"its worker failed: {type(failure).__name__}: {' '.join(' '.join(lines).split())}"
