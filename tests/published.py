"""A published zoo on hosts of this machine, in the layout of each kind of source, and processes that fetch it.

The files are real ones of zoos trained on scikit-learn's digits, whose networks are those of the MNIST zoos.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo_files
from loopback import Loopback
from zoobench import acquire, fetch_zoo
from zoobench.origins import Hosts

#: The zoo that is fetched, its record's numbers, and its folder on the host of single files.
CARD, RECORD, CONCEPT = "mnist_cnn_s_seed", 6632087, 6632086
TREE = "core-modelzoo/cnn-small_mnist/tune_zoo_mnist_uniform"

#: Paths on the server: the record's description, and the files in it.
API = f"api/records/{RECORD}"
CONTENT = f"{API}/files/mnist_seed.zip/content"
CONTENT_PT = f"{API}/files/dataset_mnist_seed.pt/content"


def hosts_of(server: Loopback) -> Hosts:
    return Hosts(server.url("tree") + "/", server.url("api"), server.url("plain") + "/")


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """A server that stands for every host of published files."""
    with Loopback() as server:
        monkeypatch.setattr(acquire, "HOSTS", hosts_of(server))
        yield server


def serve_zip(host: Loopback, archive: bytes | Path) -> None:
    host.add_record(RECORD, {"mnist_seed.zip": archive}, concept=CONCEPT)


def serve_tree(host: Loopback, members: Mapping[str, bytes], *, name: str = TREE, base: str = "tree") -> None:
    """The members of an experiment, whose first folder is the zoo's, as single files."""
    for member, content in members.items():
        host.add(f"{base}/{name}/{member.partition('/')[2]}", content)


def fetch(**arguments: Any) -> Any:
    return fetch_zoo(CARD, **{"n_retries": 2, "delay": 0.01} | arguments)


def assert_same_states(zoo: Any, expected: Any) -> None:
    key = ["model", "epoch"]
    rows, others = (z.properties[key].astype(str).reset_index(drop=True) for z in (zoo, expected))
    assert rows.equals(others)
    assert np.array_equal(zoo.data, expected.data)
    assert np.array_equal(zoo.target, expected.target)


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder that says something: not of locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not re.fullmatch(r".*lock", path.name)
    }


def eleven_epochs(n_models: int = 8) -> zoo_files.Members:
    """An experiment with a checkpoint of each of the epochs 0 to 10."""
    members = zoo_files.experiment(n_models=n_models)
    for name, content in list(members.items()):
        if "/checkpoint_000001/" in name:
            for epoch in (2, 3, 4, 6, 7, 8, 9):
                members[name.replace("_000001/", f"_{epoch:06d}/")] = content
    return dict(sorted(members.items()))


_PROGRAM = """
import json, sys
from zoobench import acquire, fetch_zoo
from zoobench.origins import Hosts
hosts, name, before, arguments = json.loads(sys.argv[1])
acquire.HOSTS = Hosts(*hosts)
exec(before)
try:
    zoo = fetch_zoo(name, **{"n_retries": 0, "delay": 0.01} | arguments)
    print("fetched", len(zoo.data))
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
"""


def start(host: Loopback, *, before: str = "", name: str = CARD, **arguments: Any) -> subprocess.Popen[str]:
    """A process that fetches the zoo and prints one line, after some code of the test's own."""
    hosts = hosts_of(host)
    settings = json.dumps([[hosts.directory, hosts.zenodo, hosts.plain], name, before, arguments])
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def outcome(process: subprocess.Popen[str]) -> str:
    """What a process that fetches printed; it must not have ended in a traceback."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out.strip()


def ranges_of(host: Loopback, path: str) -> Sequence[str | None]:
    """The ranges that were asked of a file, in order."""
    return [seen.headers.get("Range") for seen in host.requests(path)]
