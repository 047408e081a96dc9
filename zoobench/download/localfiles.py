"""``file:`` addresses for requests, so that a mirror on a disk is asked like one on the network."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class FileAdapter(BaseAdapter):
    """Answers for ``file:`` addresses as a server would: files with ranges and an ETag, folders as a JSON listing."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Answer a request."""
        path = Path(url2pathname(urlsplit(request.url or "").path))
        try:
            status, headers, body = _listing(path) if path.is_dir() else _file(path, request.headers)
        except PermissionError:
            status, headers, body = 403, {}, io.BytesIO()
        except OSError:
            status, headers, body = 404, {}, io.BytesIO()
        answer = urllib3.HTTPResponse(body, headers=headers, status=status, preload_content=False)
        return HTTPAdapter().build_response(request, answer)

    def close(self) -> None:
        """Nothing is kept open."""


def _listing(folder: Path) -> tuple[int, dict[str, str], IO[bytes]]:
    entries = [
        {"name": path.name, "type": "directory"}
        if path.is_dir()
        else {"name": path.name, "type": "file", "size": path.stat().st_size}
        for path in sorted(folder.iterdir())
    ]
    content = json.dumps(entries).encode()
    return 200, {"Content-Type": "application/json", "Content-Length": str(len(content))}, io.BytesIO(content)


def _file(path: Path, wanted: Mapping[str, str | bytes]) -> tuple[int, dict[str, str], IO[bytes]]:
    file = path.open("rb")
    size, mtime = path.stat().st_size, path.stat().st_mtime_ns
    etag = f'"{size:x}-{mtime:x}"'
    headers = {"Content-Length": str(size), "ETag": etag}
    found = _RANGE.fullmatch(str(wanted.get("Range", "")))
    if not found or wanted.get("If-Range", etag) != etag:
        return 200, headers, file
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        file.close()
        return 416, {"Content-Range": f"bytes */{size}"}, io.BytesIO()
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    file.seek(start)
    if stop == size:
        return 206, headers, file
    with file:
        return 206, headers, io.BytesIO(file.read(stop - start))
