"""The README is true: its code runs, its table is what the command prints, its commands exist."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from zoobench.benchmark.entries import DEFAULT_METHODS
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import RECORDS
from zoobench.benchmark.results import RESULTS, benchmarked, load_result
from zoobench.benchmark.tables import render
from zoobench.benchmark.tasks import default_zoos, tasks_of
from zoobench.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_is_that_of_the_committed_records() -> None:
    """Every number of the README's table is one of the records of which `zoobench check` computes some again."""
    start, end = "<!-- table: zoobench run --n-jobs -1 --format markdown -->\n", "<!-- end of table -->"
    shown = README.partition(start)[2].partition(end)[0]
    board = Leaderboard.from_folder(RECORDS)
    assert shown.strip() == board.to_markdown().strip()
    assert set(board.methods) == set(DEFAULT_METHODS)
    assert board.tasks == sorted(task.id for task in tasks_of(default_zoos()))


@pytest.mark.parametrize("name", benchmarked())
def test_paper_tables_are_the_committed_results(name: str) -> None:
    """The docs show the paper's benchmark as it is committed."""
    page = (ROOT / "docs/paper_benchmark.md").read_text(encoding="utf-8")
    shown = page.partition(f"<!-- paper table: {name} -->\n\n")[2].partition("\n\n")[0]
    assert shown.strip() == render(pd.DataFrame(load_result(RESULTS / f"{name}.json")["rows"]), "markdown")


@pytest.mark.slow
def test_python_of_the_readme_runs(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block, copied by hand from top to bottom, works."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 3
    # The one zoo that is downloaded comes from a folder of real files here.
    tree = tmp_path / "mirror/core-modelzoo/cnn-small_mnist/tune_zoo_mnist_uniform"
    with zipfile.ZipFile(data_dir / "tune_zoo_digits_uniform.zip") as archive:
        archive.extractall(tmp_path, [n for n in archive.namelist() if "/NN_" in n])
    tree.parent.mkdir(parents=True)
    (tmp_path / "tune_zoo_digits_uniform").rename(tree)
    for old, new in (("000001", "000025"), ("000010", "000050")):
        for path in tree.glob(f"*/checkpoint_{old}"):
            path.rename(path.with_name(f"checkpoint_{new}"))
        for path in tree.glob("*/result.json"):
            before, after = (f'"training_iteration": {int(epoch)},' for epoch in (old, new))
            path.write_text(path.read_text().replace(before, after))
    monkeypatch.setenv("ZOOBENCH_MIRROR", str(tmp_path / "mirror"))
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "my_zoo" / "zoo.json").exists()


def test_commands_of_the_readme_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Each subcommand that the README names has a help page, and the two make targets exist."""
    line = next(line for line in README.splitlines() if line.startswith("`zoobench list |"))
    commands = re.findall(r"[a-z]+", line.partition("`, each")[0].removeprefix("`zoobench"))
    assert {"list", "run", "check"} <= set(commands)
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?m)^make ([a-z]+)", README):
        assert f"\n{target}:" in makefile


def test_links_of_the_readme_lead_somewhere() -> None:
    """Relative links name files of the repository."""
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link
