"""What the benchmarks share: runs that take turns, and a table of all ratios at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest

_ROWS = pytest.StashKey[list["Row"]]()

Beside = Callable[[str, float, str, float], None]
Turns = Callable[..., dict[str, float]]


class Row(NamedTuple):
    """A time beside that of a baseline, measured in the same run; seconds."""

    group: str
    what: str
    seconds: float
    baseline: str
    baseline_seconds: float


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Beside:
    """Notes what was timed, its seconds, what it was compared with, and the seconds of that."""
    group = request.path.stem.removeprefix("bench_").replace("_", " ")

    def note(what: str, seconds: float, baseline: str, baseline_seconds: float) -> None:
        request.config.stash[_ROWS].append(Row(group, what, seconds, baseline, baseline_seconds))

    return note


@pytest.fixture
def by_turns() -> Turns:
    """Least seconds of each of some functions over several rounds; they alternate, so that all see the same load."""

    def run(work: Mapping[str, Callable[[], Any]], n_rounds: int = 5) -> dict[str, float]:
        fastest = dict.fromkeys(work, np.inf)
        for _ in range(n_rounds + 1):
            for name, call in work.items():
                started = time.perf_counter()
                call()
                fastest[name] = min(fastest[name], time.perf_counter() - started)
        return fastest

    return run


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    cells = [("what", "time", "baseline", "time", "ratio")]
    for row in rows:
        ratio = f"{row.seconds / row.baseline_seconds:.2g}"
        cells.append((row.what, shown(row.seconds), row.baseline, shown(row.baseline_seconds), ratio))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    terminalreporter.section("time over time of the baseline, in the same run; below 1 is faster")
    group = ""
    for row, line in zip([None, *rows], cells, strict=True):
        if row is not None and row.group != group:
            group = row.group
            terminalreporter.write_line(f"{group}", bold=True)
        padded = [f"{cell:{side}{width}}" for cell, width, side in zip(line, widths, "<><>>", strict=True)]
        terminalreporter.write_line(f"  {'  '.join(padded)}".rstrip())


def shown(seconds: float) -> str:
    """Three digits, and a unit."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
