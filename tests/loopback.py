"""A real HTTP server on this machine, which serves files as the hosts of zoos do and fails in the ways that they fail.

with Loopback() as host:
    host.add("zoo/a.zip", content)
    host.fail("zoo/a.zip", Fault(status=500))
    ... host.url("zoo/a.zip") ...
    host.sent("zoo/a.zip")
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass
class Fault:
    """What goes wrong with the answer to a request.

    Attributes
    ----------
    status, headers, body
        Answer with these instead of the file, if there is a status.
    drop_after
        Close the connection after so many bytes of the body that was asked for.
    hold_after
        After so many bytes, wait until the server's `release` is set.
    announce
        Say that the body has so many bytes.
    times
        How many requests it happens to.
    behind
        Answer only when this path has been asked for as well.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop_after: int | None = None
    hold_after: int | None = None
    announce: int | None = None
    times: int = 1
    behind: str | None = None


@dataclass
class Seen:
    """A request, and what was answered."""

    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    connection: int = 0
    time: float = 0.0


class Loopback:
    """The server. Paths have no slash at their beginning; those that end in one are directory listings."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | Path] = {}
        self.redirects: dict[str, str] = {}
        self.log: list[Seen] = []
        self.ranges = True
        self.etags = True
        self.refuses_default_agent = True
        self.release = threading.Event()
        self._faults: dict[str, list[Fault]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.host = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def url(self, path: str) -> str:
        """Address of something on the server."""
        return f"http://{self.address}/{quote(path)}"

    # -- what it serves ------------------------------------------------------------------------------------------------

    def add(self, path: str, content: bytes | Path) -> str:
        """Serve a file, or everything in a folder; the address."""
        if isinstance(content, Path) and content.is_dir():
            for file in sorted(content.rglob("*")):
                if file.is_file():
                    self.files[f"{path}/{file.relative_to(content).as_posix()}"] = file
        else:
            self.files[path] = content
        return self.url(path)

    def read(self, path: str) -> bytes:
        """Content of a file."""
        content = self.files[path]
        return content.read_bytes() if isinstance(content, Path) else content

    def add_record(self, number: int, files: dict[str, bytes | Path], *, concept: int | None = None) -> None:
        """Serve a record as Zenodo does: below `api/records/`, newest version under the concept's number."""
        entries = []
        for name, content in files.items():
            path = f"api/records/{number}/files/{quote(name, safe='')}/content"
            url = self.add(unquote(path), content)
            data = self.read(unquote(path))
            entries.append(
                {
                    "id": f"{number}-{name}",
                    "key": name,
                    "size": len(data),
                    "checksum": f"md5:{hashlib.md5(data).hexdigest()}",
                    "links": {"self": url},
                }
            )
        record = {"id": number, "conceptrecid": str(concept), "files": entries, "metadata": {"title": "A zoo"}}
        self.files[f"api/records/{number}"] = json.dumps(record).encode()
        if concept is not None:
            self.redirects[f"api/records/{concept}"] = f"/api/records/{number}"

    def fail(self, path: str, *faults: Fault) -> None:
        """Let requests for a path go wrong, one fault after the other."""
        self._faults.setdefault(path, []).extend(faults)

    # -- what it saw ---------------------------------------------------------------------------------------------------

    def requests(self, path: str | None = None) -> list[Seen]:
        """The requests for a path, or all of them."""
        with self._lock:
            return [seen for seen in self.log if path is None or seen.path == path]

    def sent(self, path: str | None = None) -> int:
        """Bytes of bodies that left the server, of a path or in all."""
        return sum(seen.sent for seen in self.requests(path))

    # -- answering -----------------------------------------------------------------------------------------------------

    def note(self, seen: Seen) -> None:
        with self._lock:
            self.log.append(seen)

    def next_fault(self, path: str) -> Fault:
        with self._lock:
            faults = self._faults.get(path, [])
            if not faults:
                return Fault()
            faults[0].times -= 1
            return faults.pop(0) if faults[0].times <= 0 else faults[0]

    def listing(self, path: str) -> bytes | None:
        """The directory as JSON; None if nothing lies in it."""
        entries: dict[str, dict[str, Any]] = {}
        for name in self.files:
            if name.startswith(path):
                first, _, rest = name[len(path) :].partition("/")
                if rest:
                    entries[first] = {"name": first, "type": "directory"}
                else:
                    entries[first] = {"name": first, "type": "file", "size": len(self.read(name))}
        return json.dumps(list(entries.values())).encode() if entries else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    host: Loopback

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        host = self.server.host
        path = unquote(self.path).lstrip("/")
        seen = Seen(path, dict(self.headers), connection=self.client_address[1], time=time.monotonic())
        host.note(seen)
        fault = host.next_fault(path)
        if fault.behind is not None:
            deadline = time.monotonic() + 30
            while not host.requests(fault.behind) and time.monotonic() < deadline:
                time.sleep(0.01)
        status, headers, body = self._answer(host, path, fault)
        length = len(body) if fault.announce is None else fault.announce
        seen.status = status
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        for piece in self._pieces(host, body, fault):
            seen.sent += len(piece)  # before it goes out: the client may look at the count as soon as it has it
            try:
                self.connection.sendall(piece)
            except OSError:
                seen.sent -= len(piece)
                break
        if fault.drop_after is not None or length != len(body):
            self.close_connection = True

    def _answer(self, host: Loopback, path: str, fault: Fault) -> tuple[int, dict[str, str], bytes]:
        if fault.status is not None:
            return fault.status, fault.headers, fault.body
        agent = self.headers.get("User-Agent", "")
        if host.refuses_default_agent and not re.fullmatch(r"zoobench/[\w.+]+( \(.+\))?", agent):
            return 403, {}, b"name yourself"
        if path in host.redirects:
            return 302, {"Location": host.redirects[path]}, b""
        if path.endswith("/") or path == "":
            listing = host.listing(path)
            return (404, {}, b"") if listing is None else (200, {"Content-Type": "application/json"}, listing)
        if path not in host.files:
            return 404, {"Content-Type": "application/json"}, b'{"status": 404, "message": "nothing here"}'
        kind = "application/json" if path.startswith("api/records/") and "/files/" not in path else None
        return self._file(host, host.read(path), {"Content-Type": kind or "application/octet-stream"} | fault.headers)

    def _file(self, host: Loopback, content: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        etag = f'"{hash(content):x}"'  # kept by bytes once computed
        if host.etags:
            headers["ETag"] = etag
        found = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not host.ranges or not found or self.headers.get("If-Range", etag) != etag:
            return 200, headers, content
        first, last = found.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        if start >= stop:
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        return 206, headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}, content[start:stop]

    @staticmethod
    def _pieces(host: Loopback, body: bytes, fault: Fault) -> Iterator[bytes]:
        stop = len(body) if fault.drop_after is None else fault.drop_after
        if fault.hold_after is not None:
            yield body[: fault.hold_after]
            host.release.wait()
        for start in range(fault.hold_after or 0, stop, 1 << 16):
            yield body[start : min(start + (1 << 16), stop)]
