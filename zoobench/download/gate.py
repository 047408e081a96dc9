"""Holding requests back, so that a host's limits are kept and its wishes honoured."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Sequence

from tqdm import tqdm

#: Waits longer than this are announced.
_LONG = 5.0

#: So many requests in so many seconds, and possibly several such limits at once.
Limits = Sequence[tuple[int, float]]


class Gate:
    """Lets the requests to one host through, one by one, when it is time; shared by all threads.

    Parameters
    ----------
    host : str
        Name of the host, for messages.
    limits : sequence of (int, float)
        At most so many requests in any so many seconds.
    stop : threading.Event
        Ends every wait when set.
    """

    def __init__(self, host: str, limits: Limits, stop: threading.Event) -> None:
        self._host = host
        self._limits = [(seconds, deque[float](maxlen=count)) for count, seconds in limits]
        self._stop = stop
        self._lock = threading.Lock()
        self._closed_until = self._announced_until = 0.0

    def pause(self, seconds: float) -> None:
        """Let nothing through for that long, whichever thread asks."""
        with self._lock:
            self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def wait(self) -> bool:
        """Wait until a request may go out.

        Returns
        -------
        bool
            False if it may not any more, because everything was stopped.
        """
        while not self._stop.is_set():
            with self._lock:
                now = time.monotonic()
                opens = self._closed_until
                for seconds, sent in self._limits:
                    if len(sent) == sent.maxlen:
                        opens = max(opens, sent[0] + seconds)
                if opens <= now:
                    for _, sent in self._limits:
                        sent.append(now)
                    return True
                self._announce(opens - now, opens)
            self._stop.wait(opens - now)
        return False

    def _announce(self, seconds: float, until: float) -> None:
        # Threads that wait for the same moment say so once.
        if seconds > _LONG and until > self._announced_until + _LONG:
            self._announced_until = until
            say(f"waiting {seconds:.0f} s: {self._host} limits how many requests it answers")


def say(message: str) -> None:
    """Tell the user something on stderr, above any progress bar."""
    tqdm.write(f"zoobench: {message}", file=sys.stderr)
