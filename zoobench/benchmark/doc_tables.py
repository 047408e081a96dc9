"""The computed tables of README and docs: whether they are what makes them, and how they are made anew.

Each stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. The name is one of :func:`saved_tables`, or
a command that prints the table.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from zoobench.benchmark.entries import DEFAULT_METHODS
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import RECORDS
from zoobench.benchmark.results import RESULTS, benchmarked, load_result
from zoobench.benchmark.tables import render
from zoobench.errors import ZooFormatError
from zoobench.estimators.methods import list_methods
from zoobench.fetch import fetch_zoo

#: What rewrites a table that differs.
REMEDY = "`zoobench check --update tables` rewrites it"

#: A command that takes many minutes: its table is made anew when everything is, and not looked at by every check.
_SLOW = "python examples/plot_methods.py "

_START, _END = "<!-- table: ", "<!-- end of table -->"
_TABLE = re.compile(rf"(?s){_START}([^\n]+?) -->\n(.*?){_END}")
_NUMBER = re.compile(r"-?\d*\.\d+|-?\d+")


class DocTable(NamedTuple):
    """A marked table of a page.

    Attributes
    ----------
    path : Path
        The page.
    name : str
        What makes the table.
    shown : str
        The table as the page has it.
    """

    path: Path
    name: str
    shown: str


def clone() -> Path | None:
    """The folder with README and docs that this package was imported from; None where it is installed without them."""
    root = Path(__file__).resolve().parents[2]
    return root if all((root / name).exists() for name in ("README.md", "pyproject.toml", "docs")) else None


def saved_tables() -> dict[str, Callable[[], str]]:
    """Tables that committed results or bundled zoos hold: they are the same on every machine, and made in no time."""
    made: dict[str, Callable[[], str]] = {
        "zoobench run --n-jobs -1 --format markdown": lambda: Leaderboard.from_folder(RECORDS).to_markdown(),
        "methods of zoobench run": _default_methods,
        "medians of digits_cnn_s_seed_sparse": _medians_of_twins,
        "seconds of zoobench run": _seconds,
    }
    return made | {f"zoobench table {name} --format markdown": partial(_paper_table, name) for name in benchmarked()}


def doc_tables(root: Path) -> list[DocTable]:
    """Every marked table of the README and of the pages in ``docs``.

    Parameters
    ----------
    root : Path
        The clone.

    Returns
    -------
    list of DocTable

    Raises
    ------
    ZooFormatError
        If a table has no end.
    """
    found = []
    for path in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        tables = [DocTable(path, match[1], match[2].strip()) for match in _TABLE.finditer(text)]
        if len(tables) != text.count(_START) or len(tables) != text.count(_END):
            raise ZooFormatError(
                f"{path} has {text.count(_START)} starts and {text.count(_END)} ends of tables, of which {len(tables)} "
                f"belong together; each needs {_START}NAME --> before it and {_END} after it"
            )
        found += tables
    return found


def check_tables(root: Path, *, commands: bool = True, progress: Callable[[str], None] | None = None) -> list[str]:
    """Make every marked table anew and compare.

    Parameters
    ----------
    root : Path
        The clone.
    commands : bool, default=True
        Also run the commands whose tables are not saved: half a minute each.
    progress : callable, optional
        Is told what comes next.

    Returns
    -------
    list of str
        In which sentences pages and tables differ: none, if all is well.
    """
    return [
        f"{table.path.relative_to(root)}: the table {table.name!r} {difference}; {REMEDY}"
        for table, _, difference in _compared(root, commands=commands, slow=False, progress=progress)
        if difference
    ]


def update_tables(root: Path, *, slow: bool = False, progress: Callable[[str], None] | None = None) -> list[Path]:
    """Write every marked table that differs anew: the page, whole or not at all.

    Parameters
    ----------
    root : Path
        The clone.
    slow : bool, default=False
        Also the one that takes many minutes.
    progress : callable, optional
        Is told what comes next.

    Returns
    -------
    list of Path
        The pages that were changed.
    """
    changed: dict[Path, dict[str, str]] = {}
    for table, made, difference in _compared(root, commands=True, slow=slow, progress=progress):
        if difference:
            changed.setdefault(table.path, {})[table.name] = made
    for path, tables in changed.items():

        def anew(match: re.Match[str], tables: dict[str, str] = tables) -> str:
            return f"{_START}{match[1]} -->\n\n{tables.get(match[1], match[2].strip())}\n\n{_END}"

        _write(path, _TABLE.sub(anew, path.read_text(encoding="utf-8")))
    return list(changed)


def _compared(
    root: Path, *, commands: bool, slow: bool, progress: Callable[[str], None] | None
) -> Iterator[tuple[DocTable, str, str]]:
    """Each table, as it is made now, and how the page differs from that."""
    saved, printed = saved_tables(), dict[str, str]()
    for table in doc_tables(root):
        if table.name in saved:
            made, tolerant = saved[table.name](), False
        elif not table.name.startswith(("zoobench ", "python examples/")):
            raise ZooFormatError(
                f"{table.path} has a table {table.name!r}, which nothing makes; name a command that prints it, or one "
                f"of {', '.join(saved)}"
            )
        elif commands and (slow or not table.name.startswith(_SLOW)):
            if progress:
                progress(table.name)
            if table.name not in printed:
                printed[table.name] = _printed(table.name, root)
            made, tolerant = printed[table.name], True
        else:
            continue
        yield table, made, _difference(table.shown, made, tolerant=tolerant)


def _difference(shown: str, made: str, *, tolerant: bool) -> str:
    """In words; empty where there is none."""
    old, new = shown.splitlines(), made.splitlines()
    if len(old) != len(new):
        return f"has {len(old)} lines instead of {len(new)}"
    for one, other in zip(old, new, strict=True):
        if one != other and not (tolerant and _alike(one, other)):
            return f"says {one!r} instead of {other!r}"
    return ""


def _alike(one: str, other: str) -> bool:
    """Whether two lines differ in the last digit of numbers alone: by rounding, which no two machines do alike."""
    if _NUMBER.sub("", one) != _NUMBER.sub("", other):
        return False
    for first, second in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
        digits = len(first.partition(".")[2])
        if digits != len(second.partition(".")[2]):
            return False
        if not math.isclose(float(first), float(second), rel_tol=0, abs_tol=1.5 * 10**-digits if digits else 0):
            return False
    return True


def _write(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


# -- what makes them ---------------------------------------------------------------------------------------------------


def _printed(command: str, root: Path) -> str:
    """The table among what a command prints, run as a user would."""
    program, *arguments = shlex.split(command)
    what = ["-m", "zoobench"] if program == "zoobench" else []
    # The example may not import another copy of the library than the one that asks.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *what, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RuntimeError(f"`{command}`, which a table of the docs is made by, failed: {last}")
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))


def _paper_table(name: str) -> str:
    return render(pd.DataFrame(load_result(RESULTS / f"{name}.json")["rows"]), "markdown")


def _default_methods() -> str:
    """What `zoobench run` takes, in the order of the committed ranking."""
    known, ranks = list_methods(), Leaderboard.from_folder(RECORDS).ranking()["mean_rank"]
    names = sorted(DEFAULT_METHODS, key=lambda name: ranks.get(name, math.inf))
    rows = [f"| `{name}` | {known['summary'][name]} | {known['source'][name]} |" for name in names]
    return "\n".join(["| method | what it is | from |", "|:--|:--|:--|", *rows])


def _seconds() -> str:
    """What each method takes in the committed records: means over tasks and folds, the quickest first."""
    times = Leaderboard.from_folder(RECORDS).to_frame().groupby("method")[["fit_seconds", "predict_seconds"]].mean()
    rows = [
        f"| `{name}` | {fit:.2g} | {predict:.2g} |"
        for name, fit, predict in times.sort_values("fit_seconds").itertuples()
    ]
    return "\n".join(["| method | seconds to fit | seconds to predict |", "|:--|--:|--:|", *rows])


def _medians_of_twins() -> str:
    """Sparsity and accuracy over the epochs; epoch 0 is the state that a twin starts from."""
    twins = fetch_zoo("digits_cnn_s_seed_sparse").properties
    before = fetch_zoo("digits_cnn_s_seed", epochs="last").properties
    before = before[before["model"].isin(twins["model"].unique())].assign(epoch=0, sparsity=0.0)
    table = pd.concat([before, twins[twins["epoch"] > 0]])
    medians = table.groupby("epoch")[["sparsity", "test_acc"]].median()
    rows = [f"| {epoch} | {sparsity:.3f} | {accuracy:.3f} |" for epoch, sparsity, accuracy in medians.itertuples()]
    return "\n".join(["| epoch | sparsity | test accuracy |", "|--:|--:|--:|", *rows])
