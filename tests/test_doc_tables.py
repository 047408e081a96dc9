"""The tables of README and docs: they are what makes them, and a changed one is found and mended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from zoobench.benchmark import doc_tables
from zoobench.benchmark.doc_tables import check_tables, clone, saved_tables, update_tables
from zoobench.benchmark.entries import DEFAULT_METHODS
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import RECORDS
from zoobench.benchmark.tasks import default_zoos, tasks_of
from zoobench.cli import main
from zoobench.errors import ZooFormatError

ROOT = Path(__file__).parent.parent

#: Prints a table at once, in place of the commands that take half a minute.
EXAMPLE = "print('Of two zoos:')\nprint('| zoo | accuracy |')\nprint('|:--|--:|')\nprint('| a | 0.868 ±0.024 |')\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of README and docs, whose commands are one that is quick."""
    for path in [ROOT / "README.md", ROOT / "pyproject.toml", *(ROOT / "docs").rglob("*.md")]:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/quick.py").write_text(EXAMPLE, encoding="utf-8")
    for table in doc_tables.doc_tables(tmp_path):
        if table.name not in saved_tables():
            text = table.path.read_text(encoding="utf-8")
            text = text.replace(f"<!-- table: {table.name} -->", "<!-- table: python examples/quick.py -->")
            table.path.write_text(text.replace(table.shown, "\n".join(shown_by(EXAMPLE))), encoding="utf-8")
    update_tables(tmp_path)
    return tmp_path


def shown_by(example: str) -> list[str]:
    return [line.split("'")[1] for line in example.splitlines() if "'|" in line]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_tables_are_what_the_committed_results_say() -> None:
    """Every number of README and docs that comes from a committed result is that result's."""
    assert clone() == ROOT
    assert check_tables(ROOT, commands=False) == []
    shown = {(table.name, table.path.relative_to(ROOT).as_posix()) for table in doc_tables.doc_tables(ROOT)}
    assert set(saved_tables()) <= {name for name, _ in shown}
    assert ("zoobench run --n-jobs -1 --format markdown", "README.md") in shown


def test_committed_records_are_those_of_the_default_run() -> None:
    """The README's table has the methods and tasks of `zoobench run`, no fewer and no others."""
    board = Leaderboard.from_folder(RECORDS)
    assert set(board.methods) == set(DEFAULT_METHODS)
    assert board.tasks == sorted(task.id for task in tasks_of(default_zoos()))


@pytest.mark.parametrize(
    ("page", "old", "new", "name"),
    [
        ("README.md", "| dummy |", "| dumm |", "zoobench run --n-jobs -1 --format markdown"),
        ("docs/analysis.md", "0.868 ±", "0.878 ±", "python examples/quick.py"),
    ],
)
def test_changed_table_is_found_and_mended(
    root: Path,
    page: str,
    old: str,
    new: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`zoobench check` names page, table, line and remedy and exits with 1; the remedy brings the page back."""
    monkeypatch.setattr(doc_tables, "clone", lambda: root)
    monkeypatch.setattr("zoobench.benchmark.committed.check_committed", lambda progress, store=None: [])
    before = (root / page).read_text(encoding="utf-8")
    change(root / page, old, new)
    assert main(["check"]) == 1
    said = capsys.readouterr().err
    for text in (f"zoobench: {page}: the table", name, "instead of", "`zoobench check --update tables` rewrites it"):
        assert text in said
    assert main(["check", "--update", "tables"]) == 0
    assert f"{root / page}: written anew" in capsys.readouterr().out
    assert (root / page).read_text(encoding="utf-8") == before


def test_page_without_a_difference_is_not_written(root: Path) -> None:
    """Whoever updates sees in the pages' times and in git what has changed."""
    assert update_tables(root) == []


def test_table_that_takes_minutes_is_made_anew_with_everything(root: Path) -> None:
    """A check leaves it alone, and so does the rewriting of tables alone."""
    text = (root / "docs/analysis.md").read_text(encoding="utf-8")
    slow = text.replace("python examples/quick.py", "python examples/plot_methods.py --methods dummy")
    (root / "docs/analysis.md").write_text(slow.replace("0.868 ±", "0.123 ±"), encoding="utf-8")
    (root / "examples/plot_methods.py").write_text(EXAMPLE, encoding="utf-8")
    assert check_tables(root) == []
    assert update_tables(root) == []
    assert update_tables(root, slow=True) == [root / "docs/analysis.md"]
    assert (root / "docs/analysis.md").read_text(encoding="utf-8") == slow


def test_rounding_of_a_machine_is_no_difference(root: Path) -> None:
    """Of what a command computes, the last digit may differ by one; text, digits and everything else may not."""
    path = root / "examples/quick.py"
    for old, new, fits in (
        ("0.868", "0.869", True),
        ("0.869", "0.866", False),
        ("0.866", "0.87", False),
        ("0.87 ", "0.868 ", True),
        ("| a |", "| b |", False),
    ):
        change(path, old, new)
        assert (check_tables(root) == []) == fits, new


def test_table_of_a_committed_result_has_no_tolerance(root: Path) -> None:
    """What is read from a file is the same on every machine: one in the last digit is a difference."""
    text = (root / "docs/sparsified_twins.md").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if line.startswith("| 25 |")]
    last = int(line[-3])
    change(root / "docs/sparsified_twins.md", line, f"{line[:-3]}{last - 1 if last else 1} |")
    (said,) = check_tables(root)
    assert said.startswith("docs/sparsified_twins.md: the table 'medians of digits_cnn_s_seed_sparse' says '| 25 |")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<!-- end of table -->", "", "has 2 starts and 1 ends of tables"),
        ("<!-- table: methods", "<!-- tabel: methods", "has 1 starts and 2 ends of tables"),
        ("<!-- table: methods of zoobench run", "<!-- table: methods", "has a table 'methods', which nothing makes"),
    ],
)
def test_broken_marks_are_named(root: Path, old: str, new: str, said: str) -> None:
    """A table whose comments are misspelt is not silently left out."""
    change(root / "docs/leaderboard.md", old, new)
    with pytest.raises(ZooFormatError, match=said):
        check_tables(root, commands=False)


def test_command_that_fails_is_named(root: Path) -> None:
    """The error says which command it was and what it said last."""
    (root / "examples/quick.py").write_text("raise SystemExit('no zoo here')\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="`python examples/quick.py`.*no zoo here"):
        check_tables(root)


def test_without_a_clone_the_tables_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installed wheel has no docs: `zoobench check` says so, and there is nothing that it could update."""
    monkeypatch.setattr(doc_tables, "clone", lambda: None)
    monkeypatch.setattr("zoobench.benchmark.committed.check_committed", lambda progress, store=None: [])
    assert main(["check"]) == 0
    assert "README and docs do not lie beside the package: their tables were not looked at" in capsys.readouterr().out
    assert main(["check", "--update"]) == 2
    assert "do it in a clone" in capsys.readouterr().err


def test_a_clone_is_told_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an installed package there may be many things, but not README, docs and project settings together."""
    module = tmp_path / "zoobench/benchmark/doc_tables.py"
    monkeypatch.setattr(doc_tables, "__file__", str(module))
    assert clone() is None
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").touch()
    assert clone() is None
    (tmp_path / "pyproject.toml").touch()
    assert clone() == tmp_path
