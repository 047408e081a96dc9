"""Work on several processes or machines, through joblib."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import joblib.parallel

Result = TypeVar("Result")


def _register_ray() -> None:
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ImportError("the backend 'ray' needs Ray: pip install 'zoobench[ray]'") from error
    register_ray()


# joblib knows Dask by name and asks for Ray's own registration, which a user of zoobench need not think of.
getattr(joblib.parallel, "EXTERNAL_BACKENDS", {}).setdefault("ray", _register_ray)


def resolve_jobs(n_jobs: int | None) -> int:
    """How many jobs are asked for, -1 for as many as there can be.

    Parameters
    ----------
    n_jobs : int or None
        None is what the surrounding ``joblib.parallel_config`` says, and 1 outside of one. On a cluster that is
        everything it has, unless ``n_jobs`` says otherwise: joblib itself would take one job of Ray's.

    Returns
    -------
    int
    """
    if n_jobs is not None:
        return n_jobs
    _, configured = joblib.parallel.get_active_backend()
    return int(configured or 1) if on_this_machine() or configured not in (None, 1) else -1


def on_this_machine() -> bool:
    """Whether joblib keeps the work on this machine: its own backends do, those of clusters need not."""
    backend, _ = joblib.parallel.get_active_backend()
    return type(backend).__module__ == "joblib._parallel_backends"


def count_jobs(n_jobs: int | None) -> int:
    """How many jobs run at a time, for :func:`make_zoo`'s argument."""
    asked = resolve_jobs(n_jobs)
    return 1 if asked == 1 else max(1, int(joblib.effective_n_jobs(asked)))


def unordered(work: Callable[..., Result], calls: Iterable[tuple[Any, ...]], n_jobs: int) -> Iterator[Result]:
    """What a function returns, called with each of the arguments elsewhere, in the order in which it comes back."""
    # Processes, because the Python part of the plain loop is what takes its time.
    options: dict[str, Any] = {"n_jobs": n_jobs, "prefer": "processes"}
    backend, _ = joblib.parallel.get_active_backend()
    if getattr(backend, "supports_return_generator", False):
        parallel = joblib.Parallel(return_as="generator_unordered", **options)
        yield from parallel(joblib.delayed(work)(*arguments) for arguments in calls)
        return
    # Ray's hands over nothing before everything is done. So that a killed run keeps what it has, it gets as many calls
    # at a time as it can work on at once.
    with joblib.Parallel(**options) as parallel:
        n_at_once = count_jobs(n_jobs)
        left = iter(calls)
        while some := list(islice(left, n_at_once)):
            yield from parallel(joblib.delayed(work)(*arguments) for arguments in some)
