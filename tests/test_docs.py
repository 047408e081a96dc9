"""The pages of the docs are true: every class has one, and their examples give what they say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import zoobench.estimators

DOCS = Path(__file__).parent.parent / "docs"
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if ">>> " in page.read_text(encoding="utf-8")]


def page_of(name: str) -> Path:
    """Where a class is described: `WeightPCA` in weight_pca.md."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", name) or [name]
    return DOCS / "estimators" / f"{'_'.join(words).lower()}.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_examples_give_what_the_page_says(page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever copies a page's examples from top to bottom sees the page's own output."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    # Each block stands where it stands on the page, so that a failure names the right line.
    lines = [""] * text.count("\n")
    for block in blocks:
        start = text[: text.index(block)].count("\n")
        lines[start : start + block.count("\n")] = block.splitlines()
    test = doctest.DocTestParser().get_doctest("\n".join(lines) + "\n", {}, page.name, str(page), 0)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)


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


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_and_pictures_are_there(page: Path) -> None:
    """Every relative link of a page leads to a file of the project."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
