"""The pages of README and docs are true: what they show runs and gives what they say, and every class has a page."""

from __future__ import annotations

import doctest
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import zoobench
import zoobench.estimators
import zoobench.generators
from doc_pages import (
    PAGES,
    ROOT,
    Block,
    Command,
    blocks,
    commands,
    inline_commands,
    is_shell,
    name_of,
    place,
    shell_commands,
)
from zoobench.benchmark import runner
from zoobench.benchmark.records import RECORDS
from zoobench.benchmark.runner import DEFAULT_STORE
from zoobench.cli import main
from zoobench.generators import image_fit, population
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.recipes import Recipe

DOCS = ROOT / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

#: Commands that other steps execute -> the file that shows where, and what has to stand in it.
ELSEWHERE = {
    "make leaderboard": (".ci/run", "\nstep make leaderboard\n"),
    "make test": (".ci/run", "\nstep make test\n"),
    "pip install .": ("tests/test_packaging.py", "def test_sdist_tests_pass_against_the_wheel"),
    "pip install -e '.[test]'": ("Makefile", "\n\t$(INSTALL) --editable '.[test]'\n"),
    "python -m pytest -n auto --doctest-modules tests zoobench": (
        "Makefile",
        "pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal --doctest-modules tests zoobench\n",
    ),
}

#: Commands that take hours -> options with which they say what they would do.
DRY = {"zoobench generate mnist_cnn_s_seed --n-jobs 4": ["--dry-run"]}

#: Python that is not run -> why. Told by a line of it.
NOT_RUN = {
    "with joblib.parallel_config(backend=\"ray\"):  # pip install 'zoobench[ray]'": (
        "needs a cluster; tests/test_clusters.py starts one"
    ),
}


def first(images: ImageData, n_images: int) -> ImageData:
    names = [f"{part}{of}" for part in ("train", "val", "test") for of in ("", "_labels")]
    return replace(images, **{name: getattr(images, name)[:n_images] for name in names})


def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zoos are trained on a hundred images, in this process."""
    make_zoo: Callable[..., Any] = zoobench.make_zoo
    few = cache(lambda *name: first(load_images(*name), 100))
    monkeypatch.setattr(population, "_images", few)
    for module in (zoobench, zoobench.generators):
        monkeypatch.setattr(module, "make_zoo", lambda recipe, **settings: make_zoo(recipe, **settings | {"n_jobs": 1}))


def few_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two models, for two epochs on a hundred images, in this process."""
    sparsify_zoo: Callable[..., Any] = zoobench.sparsify_zoo
    small = {"n_models": 2, "n_epochs": 2, "n_jobs": 1, "images": first(load_images("digits"), 100)}
    monkeypatch.setattr(zoobench, "sparsify_zoo", lambda zoo, **settings: sparsify_zoo(zoo, **settings | small))


def short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zoos are analysed on twenty images."""
    images_of = image_fit.images_of
    monkeypatch.setattr(image_fit, "images_of", lambda zoo, images: first(images_of(zoo, images), 20))


#: What is made smaller on which page, where the page's own numbers would take minutes.
SMALLER = {
    "README.md": short_training,
    "docs/analysis.md": short_look,
    "docs/generators.md": short_training,
    "docs/sparsified_twins.md": few_twins,
}


#: Pages that take more than a few seconds.
SLOW = {
    *SMALLER,
    "docs/bring_your_method.md",
    "docs/estimators/hyper_representation.md",
    "docs/estimators/permutation_aligner.md",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if name_of(page) in SLOW else [])
        for page in PAGES
        if blocks(page)
    ],
)
def test_page_does_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever copies a page's Python and commands from top to bottom sees no error, and the output that it shows."""
    SMALLER.get(name_of(page), lambda monkeypatch: None)(monkeypatch)
    names: dict[str, Any] = {"__name__": "__main__"}
    with place(page, tmp_path, monkeypatch):
        for block in blocks(page):
            if block.language == "python":
                names = run_python(page, block, names)
            elif is_shell(block):
                for command in commands(page, block):
                    run(command, tmp_path, monkeypatch, capsys)
            elif block.language == "toml":
                check_toml(block)
            else:
                assert block.language in ("text", ""), f"{name_of(page)}:{block.line}: who runs {block.language}?"


def run_python(page: Path, block: Block, names: dict[str, Any]) -> dict[str, Any]:
    """Execute a block, and compare with the output that it shows, if it does; the names that there are then."""
    if any(line in NOT_RUN for line in block.text.splitlines()):
        compile(block.text, name_of(page), "exec")
        return names
    if ">>> " not in block.text:
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        return names
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line - 1)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    assert not said, "".join(said)
    return test.globs


def run(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Execute a command in this process, unless another step of the checks is known to execute it."""
    where = f"{command.page}:{command.line}: {command.text}"
    if command.words[0] != "zoobench":
        assert command.text in ELSEWHERE, f"{where}: no step of .ci/run and no test executes this"
        return
    with monkeypatch.context() as patched:
        if command.words[1] == "run" and "--out" not in command.words:
            # The committed records are there already.
            shutil.copytree(RECORDS, folder / DEFAULT_STORE, dirs_exist_ok=True)
            patched.setattr(runner, "_calls", only_ones_own(runner._calls))
        code = main([*command.words[1:], *DRY.get(command.text, [])])
    assert code == 0, f"{where}: {capsys.readouterr().err}"


def only_ones_own(calls: Callable[..., Any]) -> Callable[..., Any]:
    def checked(pairs: Any) -> Any:
        outdated = sorted(f"{entry.name} on {task.id}" for task, entry in pairs if not entry.digest)
        assert not outdated, f"no committed record holds for {outdated}: `zoobench check --update` makes them"
        return calls(pairs)

    return checked


def check_toml(block: Block) -> None:
    """A recipe, or something else that can be read."""
    found = tomllib.loads(block.text)
    if "grid" in found or "seeds" in found:
        Recipe.from_dict(found)


def test_nothing_is_left_out_without_need() -> None:
    """Every exception from what runs is one that a page still has, and what is said to execute it does so."""
    shown = {command.text for command in shell_commands()}
    assert set(ELSEWHERE) <= shown
    assert set(DRY) <= shown
    assert {name_of(page) for page in PAGES} >= SLOW
    lines = {line for page in PAGES for block in blocks(page) for line in block.text.splitlines()}
    assert set(NOT_RUN) <= lines
    for command, (file, text) in ELSEWHERE.items():
        assert text in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not execute {command}"


@pytest.mark.parametrize("command", inline_commands(), ids=lambda c: f"{c.page}-{c.line}")
def test_commands_in_running_text_can_be_asked(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """`zoobench ...` in a sentence: its subcommand and its options exist, and their values are possible."""
    words = command.words[1:]
    if "|" in words:  # a list of subcommands
        asked = [[name, "--help"] for name in words if name != "|"]
    elif len(words) == 1:  # the subcommand by name
        asked = [[words[0], "--help"]]
    else:
        asked = [list(words)]
    for arguments in asked:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("argparse.ArgumentParser.parse_args", parsed_only)
            with pytest.raises((SystemExit, Parsed)) as stopped:
                main(arguments)
        assert stopped.type is Parsed or stopped.value.code == 0, capsys.readouterr().err


def test_readme_lists_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to guess which commands there are."""
    (listed,) = (c.words[1:] for c in inline_commands() if c.page == "README.md" and "|" in c.words)
    with pytest.raises(SystemExit):
        main(["--help"])
    known = re.findall(r"(?m)^    ([a-z]+) ", capsys.readouterr().out)
    assert sorted(name for name in listed if name != "|") == sorted(known)


class Parsed(Exception):
    """The command line is one that can be asked."""


def parsed_only(parser: Any, argv: Any = None) -> None:
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    raise Parsed


def page_of(name: str) -> Path:
    """Where a class is described: `WeightPCA` in weight_pca.md."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", name) or [name]
    return DOCS / "estimators" / f"{'_'.join(words).lower()}.md"


@pytest.mark.parametrize(
    "name", [name for name in zoobench.estimators.__all__ if name[0].isupper() and not name.isupper()]
)
def test_every_estimator_has_a_page(name: str) -> None:
    """A page says what it is, and the list of all pages leads to it."""
    page = page_of(name)
    assert page.exists(), f"{name} has no page {page.relative_to(DOCS.parent)}"
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# .*{name}", text)
    assert ">>> " in text
    assert f"({page.name})" in (DOCS / "estimators" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_are_there(page: Path) -> None:
    """Every relative link of a page leads to a file of the project, and every example that it names is there."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
    for path in re.findall(r"\b(?:examples|benchmarks|tests)/\w+\.py\b", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_targets_and_extras_exist(page: Path) -> None:
    """Whatever a page tells to make is a target of the Makefile, and what it tells to install is an extra."""
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`make ([a-z]+)", text):
        assert f"\n{target}:" in makefile, f"{page.name} names make {target}"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for names in re.findall(r"pip install [^`\n]*?(?:zoobench|\.)\[([a-z,]+)\]", text):
        assert set(names.split(",")) <= set(extras), f"{page.name} names the extras {names}"
