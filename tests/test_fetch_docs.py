"""docs/fetching.md shows errors exactly as users see them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zoo_files
from loopback import Loopback
from published import serve_zip, served
from zoobench import acquire, fetch_zoo, load_zoo
from zoobench.cli import main
from zoobench.origins import Hosts

DOCS = Path(__file__).parent.parent / "docs" / "fetching.md"


class Example(NamedTuple):
    call: str
    said: str


def examples() -> list[Example]:
    """The calls of the last section and what they say: quotes follow the calls of a paragraph in their order."""
    found: list[Example] = []
    calls: list[str] = []
    for paragraph in DOCS.read_text(encoding="utf-8").partition("## What goes wrong")[2].split("\n\n"):
        if paragraph.startswith("> "):
            found.append(Example(calls.pop(0), " ".join(re.sub(r"(?m)^> ?", "", paragraph).split())))
        else:
            assert not calls, f"{calls[0]} has no answer"
            calls = re.findall(r"`((?:fetch|load)_zoo\([^`]*\))`", paragraph)
    assert not calls
    return found


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with served(monkeypatch) as server:
        serve_zip(server, zoo_files.SEED_ZIP)
        yield server


@pytest.mark.parametrize("example", examples(), ids=[f"{i}" for i in range(len(examples()))])
def test_errors_are_shown_as_they_are(
    example: Example, host: Loopback, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call of the docs raises what the docs say, word for word, the data folder's place aside."""
    if example.said.startswith("OfflineError"):
        monkeypatch.setattr(acquire, "HOSTS", Hosts("http://127.0.0.1:9/", "http://127.0.0.1:9/api"))
    if example.said.startswith("NoSpaceError"):
        full = shutil.disk_usage(data_home)._replace(free=1_000_000)
        monkeypatch.setattr("zoobench.download.disk.shutil.disk_usage", lambda folder: full)
    names: dict[str, Any] = {"fetch_zoo": partial(fetch_zoo, n_retries=0), "load_zoo": load_zoo}
    with pytest.raises((ValueError, OSError)) as caught:
        eval(example.call, names)
    said = f"{type(caught.value).__name__}: {caught.value}".replace(str(data_home), "/data/zoos")
    assert said == example.said


def test_the_commonest_mistakes_are_shown() -> None:
    """Unknown name, unknown epoch, property that the zoo lacks, offline, no space."""
    said = " ".join(example.said for example in examples())
    for words in ("unknown zoo", "has no epoch", "has no property", "no connection could be made", "still to come"):
        assert words in said


def test_the_command_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence on stderr after the command's name, exit code 2 for what cannot be asked."""
    assert main(["fetch", "mnist_cnn_m"]) == 2
    said = next(example.said for example in examples() if "mnist_cnn_m" in example.call)
    assert capsys.readouterr().err == f"zoobench: {said.removeprefix('ValueError: ')}\n"
