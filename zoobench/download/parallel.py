"""Many requests at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

from zoobench.download.client import Client

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(client: Client, function: Callable[[T], R], items: Iterable[T], *, ahead: int) -> Iterator[R]:
    """Results of a function of each item, in the items' order, computed by as many threads as there are connections.

    The first error ends it: what waits is interrupted, what runs is waited for.

    Parameters
    ----------
    client : Client
        Sends the function's requests; its waits are ended if anything goes wrong, so use it for one thing at a time.
    function : callable
        What to do with an item.
    items : iterable
        Its arguments.
    ahead : int
        Results that may exist before they are asked for: a bound on memory.
    """
    waiting = iter(items)
    running: deque[Future[R]] = deque()
    done = False
    executor = ThreadPoolExecutor(client.n_connections, thread_name_prefix="zoobench-download")
    try:
        running.extend(executor.submit(function, item) for item in islice(waiting, ahead))
        while running:
            while not running[0].done():
                # An error further on counts at once, however long the first one takes.
                finished, _ = wait([future for future in running if not future.done()], return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
            result = running.popleft().result()
            running.extend(executor.submit(function, item) for item in islice(waiting, 1))
            yield result
        done = True
    finally:
        if not done:
            client.stop.set()
        executor.shutdown(cancel_futures=True)
        client.stop.clear()
