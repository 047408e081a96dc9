"""Tasks, protocols, results and tables: how well methods learn from zoos.

What is drawn is in :mod:`zoobench.benchmark.displays`. Names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.benchmark.analysis import analyze_zoo
    from zoobench.benchmark.entries import DEFAULT_METHODS, Entry, find_entry, installed_methods
    from zoobench.benchmark.leaderboard import Leaderboard
    from zoobench.benchmark.paper import paper_table
    from zoobench.benchmark.records import Record, load_results
    from zoobench.benchmark.report import write_report
    from zoobench.benchmark.runner import run_benchmark
    from zoobench.benchmark.tasks import Task, default_zoos, tasks_of

__all__ = [
    "DEFAULT_METHODS",
    "Entry",
    "Leaderboard",
    "Record",
    "Task",
    "analyze_zoo",
    "default_zoos",
    "find_entry",
    "installed_methods",
    "load_results",
    "paper_table",
    "run_benchmark",
    "tasks_of",
    "write_report",
]

_DEFINED_IN = {
    "DEFAULT_METHODS": "zoobench.benchmark.entries",
    "Entry": "zoobench.benchmark.entries",
    "Leaderboard": "zoobench.benchmark.leaderboard",
    "Record": "zoobench.benchmark.records",
    "Task": "zoobench.benchmark.tasks",
    "analyze_zoo": "zoobench.benchmark.analysis",
    "default_zoos": "zoobench.benchmark.tasks",
    "find_entry": "zoobench.benchmark.entries",
    "installed_methods": "zoobench.benchmark.entries",
    "load_results": "zoobench.benchmark.records",
    "paper_table": "zoobench.benchmark.paper",
    "run_benchmark": "zoobench.benchmark.runner",
    "tasks_of": "zoobench.benchmark.tasks",
    "write_report": "zoobench.benchmark.report",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
