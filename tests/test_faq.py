"""The messages that the FAQ quotes without an example that gives them are those that the package gives."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from zoobench.benchmark.displays import ZooOverviewDisplay
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import Record
from zoobench.estimators import methods
from zoobench.fetch import fetch_zoo
from zoobench.generators import compiling

PAGE = (Path(__file__).parent.parent / "docs/faq.md").read_text(encoding="utf-8")

#: What stands in the quotes, each on one line.
QUOTES = [" ".join(re.findall(r"^> ?(.*)$", quote, re.MULTILINE)) for quote in re.findall(r"(?m)(?:^>.*\n)+", PAGE)]


def quoted(text: str) -> bool:
    return any(text in quote for quote in QUOTES)


def test_missing_packages_are_named_as_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib, or what a method needs, the error is the one on the page."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError) as error:
        ZooOverviewDisplay.from_zoo(fetch_zoo("digits_cnn_s"))
    assert quoted(f"ImportError: {error.value}")
    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    with pytest.raises(ImportError) as error:
        methods.make_method("umap_ridge")
    assert quoted(f"ImportError: {error.value}")


def test_missing_compiler_is_named_as_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason why PyTorch trains is the one on the page."""
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(compiling.NoEngineError) as error:
        compiling.compiled_library(Path("nowhere"))
    assert quoted(f"PyTorch trains, which is several times slower than the compiled engine, because {error.value}")


def test_note_on_too_few_tasks_is_as_quoted() -> None:
    """Two methods on one task are told that it takes six."""
    scores = {"a": 0.5, "b": 0.25}
    board = Leaderboard(Record("z/test_acc/paper", name, "r2", {"r2": [score]}) for name, score in scores.items())
    assert any(quoted(note) for note in board.notes())
    assert np.isnan(board.compare("z/test_acc/paper", "a", "b")[1])
