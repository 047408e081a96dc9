"""The benchmarks: each stands beside a baseline in the table that `make benchmark` ends with."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parent.parent / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_every_benchmark_has_a_baseline(path: Path) -> None:
    """What is timed is noted beside the time of something else, measured in the same run."""
    functions = [f for f in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(f, ast.FunctionDef)]
    timed = [f for f in functions if "benchmark" in {argument.arg for argument in f.args.args}]
    assert timed
    for function in timed:
        called = {
            call.func.id
            for call in ast.walk(function)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        }
        assert "beside" in called, f"{path.name}: {function.name} has no baseline"


def test_run_ends_with_all_ratios(tmp_path: Path) -> None:
    """The last thing that is printed is a table: what, its time, the baseline, its time, and the ratio of the two."""
    shutil.copy(BENCHMARKS[0].parent / "conftest.py", tmp_path)
    (tmp_path / "bench_two_things.py").write_text(
        "def test_it(beside):\n"
        "    beside('sorting', 0.0015, 'a loop', 0.006)\n"
        "    beside('all of it', 12.34, 'by hand', 6.17)\n\n"
        "def test_turns(by_turns):\n"
        "    order = []\n"
        "    found = by_turns({name: lambda name=name: order.append(name) for name in 'ab'}, 2)\n"
        "    assert order == list('ababab')\n"
        "    assert min(found.values()) >= 0\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "python_files=bench_*.py", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    printed = [" ".join(line.split()) for line in done.stdout.splitlines()]
    start = printed.index("two things")
    assert printed[start - 1 : start + 3] == [
        "what time baseline time ratio",
        "two things",
        "sorting 1.5 ms a loop 6 ms 0.25",
        "all of it 12.3 s by hand 6.17 s 2",
    ]
