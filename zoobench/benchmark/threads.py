"""What a process changes while a method is fitted, and gives back: how many threads compute, and what is warned of."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


class _Change:
    """What is changed as long as anybody in this process wants it to be.

    Threads of BLAS and filters of warnings belong to the process. Of two fits that overlap, in two threads, neither may
    give them back before the other has ended; the one that ends last gives back what the first one found. Threads of
    OpenMP, which torch's are, belong to the thread that starts them: each gives back its own.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._n_users = 0
        self._libraries: list[tuple[Any, int]] = []
        self._torch_threads: int | None = None
        self._warnings: Any = None

    def enter(self) -> None:
        from threadpoolctl import ThreadpoolController, threadpool_limits  # type: ignore[import-untyped]

        with self._lock:
            torch = sys.modules.get("torch")
            if torch and self._torch_threads is None:
                self._torch_threads = torch.get_num_threads()
            known = {library.filepath for library, _ in self._libraries}
            found = ThreadpoolController().lib_controllers  # anew each time: libraries may have been loaded meanwhile
            self._libraries += [(library, library.num_threads) for library in found if library.filepath not in known]
            if not self._n_users:
                self._warnings = warnings.catch_warnings()
                self._warnings.__enter__()
                warnings.simplefilter("ignore")
            self._n_users += 1
            threadpool_limits(1)
            if torch:
                torch.set_num_threads(1)

    def leave(self) -> None:
        with self._lock:
            self._n_users -= 1
            last = not self._n_users
            for library, n_threads in self._libraries:
                if last or library.user_api == "openmp":
                    _set(library, n_threads)
            if self._torch_threads is not None:
                sys.modules["torch"].set_num_threads(self._torch_threads)
            if last:
                self._libraries, self._torch_threads = [], None
                self._warnings.__exit__(None, None, None)


def _set(library: Any, n_threads: int) -> None:
    """Set the threads of a library, whichever thread did it before: threadpoolctl lets nobody else, from 3.8 on."""
    release = getattr(library, "clear_controlling_thread", lambda force: None)
    release(force=True)
    library.set_num_threads(n_threads)
    release(force=True)


_CHANGE = _Change()


@contextmanager
def one_quiet_thread() -> Iterator[None]:
    """Have BLAS, OpenMP and torch compute with one thread meanwhile, and nobody warn.

    Results then do not depend on how many cores there are, and times can be compared.

    Examples
    --------
    >>> from threadpoolctl import threadpool_info
    >>> from zoobench.benchmark.threads import one_quiet_thread
    >>> with one_quiet_thread():
    ...     {library["num_threads"] for library in threadpool_info()}
    {1}
    """
    _CHANGE.enter()
    try:
        yield
    finally:
        _CHANGE.leave()
