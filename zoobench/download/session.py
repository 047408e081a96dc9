"""The session that requests go through: who we say we are, what we accept, which addresses we follow."""

from __future__ import annotations

import functools
from importlib.metadata import metadata
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from zoobench.download.localfiles import FileAdapter


def make_session(n_connections: int) -> requests.Session:
    """A session that keeps connections open, says who we are, and reads ``file:`` addresses too."""
    session = _Session()
    session.headers["User-Agent"] = user_agent()
    # Bytes as they lie on the host's disk: ranges and checksums mean those.
    session.headers["Accept-Encoding"] = "identity"
    adapter = HTTPAdapter(pool_connections=n_connections, pool_maxsize=n_connections)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    session.mount("file://", FileAdapter())
    return session


@functools.cache
def user_agent() -> str:
    """Name, version and address of this project: some hosts refuse those who do not say who they are."""
    project = metadata("zoobench")
    addresses = [entry.split(",", 1)[-1].strip() for entry in project.get_all("Project-URL") or ()]
    return f"zoobench/{project['Version']}" + (f" ({addresses[0]})" if addresses else "")


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None and urlsplit(target).scheme == "file":
            # A host must not be able to make us read this machine's own files.
            raise requests.exceptions.InvalidSchema(f"the host redirects to {target}")
        return target
