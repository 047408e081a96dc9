"""Requests over kept connections, repeated where that helps."""

from __future__ import annotations

import email.utils
import json
import re
import threading
import time
from collections.abc import Container, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from zoobench.download.gate import Gate, Limits
from zoobench.download.remote import DownloadError, OfflineError, failed, refused
from zoobench.download.session import make_session

#: Requests that hosts answer to guests, as far as they publish it.
LIMITS: Mapping[str, Limits] = {"zenodo.org": ((60, 60.0), (2000, 3600.0))}

#: The longest that a host may ask us to wait, in seconds: Zenodo counts requests by the hour.
MAX_WAIT = 3600.0

#: What a connection that breaks in the middle of an answer raises, with and without requests round it.
BROKEN = (urllib3.exceptions.HTTPError, requests.RequestException, ConnectionError, TimeoutError)

#: urllib3 names its own object before it says what was wrong.
_CONNECTION = re.compile(r"^HTTPS?Connection(Pool)?\([^)]*\): ")

_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class Client:
    """Sends requests, and repeats those that failed for a reason that may pass.

    No connection, a broken one, and the statuses 408, 425, 429 and 5xx are such reasons. ``Retry-After`` is honoured,
    and holds back every thread that asks the same host.

    Parameters
    ----------
    n_retries : int, default=3
        Further attempts after one that failed. They count anew whenever something has arrived in between.
    delay : float, default=1.0
        Seconds before the first further attempt, doubled for each one after it.
    n_connections : int, default=8
        Connections to a host that are kept open; what works in parallel uses as many threads.
    limits : mapping of str to sequence of (int, float), optional
        Host (with its port, where the address has one) -> at most so many requests in so many seconds. By default
        those that hosts are known to have.
    timeout : (float, float), default=(10.0, 60.0)
        Seconds until a connection must stand, and that it may be silent.

    Examples
    --------
    >>> from zoobench.download.client import Client
    >>> with Client(n_retries=1) as client:
    ...     client.session.headers["User-Agent"]
    'zoobench/...'
    """

    def __init__(
        self,
        *,
        n_retries: int = 3,
        delay: float = 1.0,
        n_connections: int = 8,
        limits: Mapping[str, Limits] = LIMITS,
        timeout: tuple[float, float] = (10.0, 60.0),
    ) -> None:
        self.n_retries = n_retries
        self.delay = delay
        self.n_connections = n_connections
        self.timeout = timeout
        self.session = make_session(n_connections)
        #: Ends every wait of every thread when set.
        self.stop = threading.Event()
        self._limits = limits
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.session.close()

    def open(
        self,
        url: str,
        *,
        name: str,
        headers: Mapping[str, str] | None = None,
        attempts: Attempts | None = None,
        accept: Container[int] = (),
    ) -> requests.Response:
        """Ask for an address.

        Parameters
        ----------
        url : str
            The address; redirects are followed.
        name : str
            What is fetched, for messages.
        headers : mapping of str to str, optional
            Further request headers.
        attempts : Attempts, optional
            Count of what failed before, where this is one of several requests for the same thing.
        accept : container of int, default=()
            Statuses from 400 on that are no error here.

        Returns
        -------
        requests.Response
            Its body not read yet: use it in a ``with`` statement.

        Raises
        ------
        DownloadError
            If the host refuses, or every attempt failed.
        """
        attempts = attempts or Attempts(self, name, url)
        gate = self._gate(urlsplit(url).netloc)
        while True:
            if not gate.wait():
                raise failed(name, url, "everything was stopped", "start it again")
            try:
                response = self.session.get(url, headers=headers, stream=True, timeout=self.timeout)
            except requests.RequestException as error:
                if not isinstance(error, (requests.ConnectionError, requests.Timeout)) or isinstance(
                    error, requests.exceptions.SSLError
                ):
                    raise failed(name, url, _reason(error), "check the address") from error
                attempts.fail(error)
                continue
            if response.status_code < 400 or response.status_code in accept:
                return response
            response.close()
            problem = refused(name, url, response.status_code)
            if response.status_code not in _TRANSIENT:
                raise problem
            wait = retry_after(response.headers.get("Retry-After"))
            if wait is None:
                attempts.fail(problem)
            elif wait > MAX_WAIT:
                raise failed(name, url, f"the host asks to wait {wait / 3600:.1f} hours", "try again then") from problem
            else:
                attempts.count(problem)
                gate.pause(wait)

    def read_json(self, url: str, *, name: str) -> Any:
        """Ask for an address that answers in JSON.

        Parameters
        ----------
        url : str
            The address.
        name : str
            What is read, for messages.

        Raises
        ------
        DownloadError
            If the host refuses, every attempt failed, or the answer is not JSON.
        """
        attempts = Attempts(self, name, url)
        while True:
            try:
                with self.open(url, name=name, attempts=attempts) as response:
                    content = response.content
                break
            except BROKEN as error:
                attempts.fail(error)
        try:
            return json.loads(content)
        except ValueError:
            kind = response.headers.get("Content-Type", "no stated type")
            remedy = "check the address, and whether something between here and the host answers for it"
            raise failed(name, url, f"JSON was expected, but the answer is {kind}", remedy) from None

    def least_seconds(self, url: str, n_requests: int) -> float:
        """Time that so many requests to an address take at least, because its host answers no more of them."""
        limits = self._limits.get(urlsplit(url).netloc, ())
        return max((max(0, n_requests - 1) // count * seconds for count, seconds in limits), default=0.0)

    def _gate(self, host: str) -> Gate:
        with self._lock:
            if host not in self._gates:
                self._gates[host] = Gate(host, self._limits.get(host, ()), self.stop)
            return self._gates[host]


class Attempts:
    """Counts the failures in a row of one undertaking, and waits between them.

    Parameters
    ----------
    client : Client
        Says how many there may be.
    name, url : str
        What is fetched, for messages.
    """

    def __init__(self, client: Client, name: str, url: str) -> None:
        self._client, self._name, self._url = client, name, url
        self._failures = 0

    def reset(self) -> None:
        """Something has arrived: count anew."""
        self._failures = 0

    def fail(self, error: Exception) -> None:
        """Note a failure and wait.

        Raises
        ------
        DownloadError
            If there were enough.
        """
        self.count(error)
        self._client.stop.wait(self._client.delay * 2 ** (self._failures - 1))

    def count(self, error: Exception) -> None:
        """Note a failure, and do not wait."""
        self._failures += 1
        if self._failures > self._client.n_retries:
            raise self._final(error) from error

    def _final(self, error: Exception) -> DownloadError:
        if isinstance(error, DownloadError):
            return error
        if _never_connected(error):
            host = urlsplit(self._url).netloc
            reason, remedy = f"no connection to {host} ({_reason(error)})", "check the network"
            return failed(self._name, self._url, reason, remedy, kind=OfflineError)
        return failed(
            self._name, self._url, f"the connection broke ({_reason(error)})", "try again: what has arrived is kept"
        )


def retry_after(value: str | None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, which holds a number or a date; None if neither."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _never_connected(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ProxyError)
    )


def _reason(error: Exception) -> str:
    """The innermost cause, in a few words."""
    inner: Any = error
    while True:
        deeper = getattr(inner, "reason", None) or (inner.args[0] if getattr(inner, "args", ()) else None)
        if not isinstance(deeper, Exception):
            break
        inner = deeper
    text = _CONNECTION.sub("", str(inner).strip()) or type(inner).__name__
    return text if len(text) <= 200 else text[:200] + "..."
