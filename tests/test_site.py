"""The site shows all there is: every public name, page, zoo, method, command and example.."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoobench.cli import main
from zoobench.datasets_registry import read_cards
from zoobench.estimators import list_methods

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
FOLDERS = ("estimators", "generators", "datasets_registry")

#: Pages that are written when the site is built.
GENERATED = ("generated/", "auto_examples/")


class Site:
    """The modules that write the site's pages, by name."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """They lie beside the docs' settings, where only Sphinx looks for them."""
    known = set(sys.modules)
    sys.path.insert(0, str(DOCS / "_ext"))
    yield Site()
    sys.path.remove(str(DOCS / "_ext"))
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(DOCS)):
            del sys.modules[name]


def packages_with_public_names() -> dict[str, list[str]]:
    """Package -> its `__all__`, read from the files."""
    found = {}
    for folder in ("zoobench", *FOLDERS):
        name = f"zoobench.{folder}" if folder in FOLDERS else folder
        for path in (ROOT / folder).rglob("__init__.py"):
            inside = path.parent.relative_to(ROOT / folder)
            if folder == "zoobench" and inside.parts and inside.parts[0] in FOLDERS:
                continue  # seen through a link; comes under its own folder
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                    found[".".join([name, *inside.parts])] = list(ast.literal_eval(node.value))
    return found


def test_every_public_name_has_its_page(site: Site) -> None:
    """The reference has a page for each package that offers names, and lists each of them there for autosummary."""
    pages = site.api_pages.api_pages()
    packages = packages_with_public_names()
    assert {"zoobench", "zoobench.benchmark", "zoobench.benchmark.displays", "zoobench.estimators"} <= set(packages)
    for package, names in packages.items():
        listed = re.findall(r"(?m)^   (\w+)(?: <.*>)?$", pages[f"api/{package}"])
        assert sorted(listed) == sorted(names), package
        assert f"</generated/api/{package}>" in pages["api/index"]
    assert "statistics_ridge" in pages["api/zoobench.benchmark.DEFAULT_METHODS"]


def test_what_a_class_offers_is_on_its_page(site: Site) -> None:
    """Own methods and properties are described, and others' are named: together all that is public."""
    members = site.api_pages.members()
    probe = members["zoobench.estimators.LinearProbeRegressor"]
    assert {"fit", "predict"} <= set(probe["methods"])
    assert {"set_params", "get_metadata_routing"} <= set(probe["inherited"])
    assert {"select", "module", "state_dict"} <= set(members["zoobench.Zoo"]["methods"])
    assert "n_parameters" in members["zoobench.WeightLayout"]["properties"]


def test_every_page_is_in_the_navigation(site: Site) -> None:
    """Each Markdown file is below the landing page, at one place; what the navigation names is there."""
    below = [page for pages in site.navigation.SECTIONS.values() for page in pages]
    assert len(below) == len(set(below))
    files = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    kept = {page for page in below if not page.startswith(GENERATED)}
    assert kept == files - {"index"}
    for page in site.navigation.SECTIONS:
        assert page == "index" or page in below


def test_pages_stay_plain_for_the_code_host() -> None:
    """Outside the landing page nothing is written in Sphinx's own language, which the code host would show as it is."""
    for path in DOCS.rglob("*.md"):
        if path != DOCS / "index.md":
            assert re.findall(r"(?m)^(?:```\{|:::)", path.read_text(encoding="utf-8")) == [], path.name


def test_every_zoo_has_a_page(site: Site) -> None:
    """The catalogue has each card with how to fetch it, its licence, its citation and its sources."""
    pages = site.zoo_pages.zoo_pages()
    for name, card in read_cards().items():
        page = pages[f"zoos/{name}"]
        assert f":doc:`{name}`" in pages["zoos/index"]
        assert f'fetch_zoo("{name}")' in page or not card.readable
        assert "licence" in page
        assert card.citation.split(",")[0] in page
        for source in card.sources:
            assert f"<{source.address}>" in page or source.kind == "bundled"


def test_published_numbers_carry_their_confidence(site: Site) -> None:
    """Whoever reads a paper's number on a zoo's page sees where it is from and how far to trust it."""
    page = site.zoo_pages.zoo_page(read_cards()["small_cnn_zoo_cifar10"])
    _, _, published = page.partition("Published numbers")
    row = published[published.index("statnn") :][:400]
    assert ":num:`0.915`" in row
    assert "arXiv:2302.14040" in row
    assert "read in the authors' own table" in row
    assert "Confirmed numbers" in site.zoo_pages.zoo_page(read_cards()["digits_cnn_s_seed"])


def test_every_method_is_in_the_catalogue(site: Site) -> None:
    """Each method of the leaderboard is there with what it is made of."""
    page = site.methods_page.methods_page()
    for name in list_methods().index:
        assert f"* - ``{name}``" in page
    assert ":class:`~zoobench.estimators.WeightStatistics`" in page


def test_every_command_and_option_is_on_the_page(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The page of the command line has what the command's own help has."""
    page = site.cli_page.cli_page()
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"(?m)^    (\w+) ", capsys.readouterr().out)
    assert {"list", "run", "check"} <= set(commands)
    for command in commands:
        _, _, after = page.partition(f".. program:: zoobench {command}\n")
        own = after.partition(".. program::")[0]
        assert own, command
        with pytest.raises(SystemExit):
            main([command, "--help"])
        for option in re.findall(r"(?m)^  (--[\w-]+)", capsys.readouterr().out):
            assert f".. option:: {option}" in own, f"{command} {option}"


def test_links_of_pages_lead_to_places_of_the_site(site: Site) -> None:
    """What is a page here keeps its link, from wherever it is written; what is not becomes plain text."""
    on_site = site.links.on_site
    assert on_site("[a](faq.md#b)", DOCS) == "[a](faq.md#b)"
    assert on_site("[a](../CONTRIBUTING.md)", DOCS) == "[a](/generated/contributing.markdown)"
    assert on_site("[a](../../examples/plot_weight_pca.py)", DOCS / "estimators") == (
        "[a](/auto_examples/plot_weight_pca.rst)"
    )
    assert on_site("[a](docs/fetching.md#b)", ROOT) == "[a](/fetching.md#b)"
    assert on_site("[a](LICENSE)", ROOT) == "a"
    assert on_site("[a](https://example.org)", ROOT) == "[a](https://example.org)"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_in_the_gallery(name: str, site: Site) -> None:
    """Each example has its place and a title, and one that the gallery does not run says so."""
    assert name in site.gallery.ORDER
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    title, line, *_ = ast.get_docstring(ast.parse(text), clean=True).splitlines()  # type: ignore[union-attr]
    assert set(line) == {"="}
    assert len(line) >= len(title)
    (pattern,) = re.findall(r'"filename_pattern": r"(.*)"', (DOCS / "conf.py").read_text(encoding="utf-8"))
    if not re.search(pattern, f"/{name}"):
        assert "only shown" in text


def test_the_gallery_names_no_example_that_is_not_there(site: Site) -> None:
    """The order of the gallery is that of its examples."""
    assert sorted(site.gallery.ORDER) == EXAMPLES


def test_references_are_no_lists(site: Site) -> None:
    """An entry that starts with an initial and a period would be shown as a list: the surname comes first."""
    entries = []
    for module in site.public.public_modules():
        for name in site.public.public_names(module):
            doc = getattr(importlib.import_module(module), name).__doc__ or ""
            entries += [(name, found) for found in re.findall(r"(?m)^ *\.\. \[\d+\] (.*)", doc)]
    assert ("CriticalDifferenceDisplay", "Demšar, J.,") in [(name, text[:11]) for name, text in entries]
    assert [(name, text) for name, text in entries if re.match(r"\w{1,2}\. ", text)] == []


def test_what_users_are_told_to_import_is_public(site: Site) -> None:
    """A name that a page or an example imports from this library is in the reference, under that module."""
    public = {(module, name) for module in site.public.public_modules() for name in site.public.public_names(module)}
    found = set()
    for path in (ROOT / "README.md", *DOCS.rglob("*.md"), *(ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for module, many, line in re.findall(r"(?m)from (zoobench[\w.]*) import (?:\(([^)]*)\)|([\w, ]+))", text):
            found |= {(module, name) for name in re.findall(r"\w+", many or line)}
    assert ("zoobench.generators", "load_images") in found
    assert found - public == set()


def test_pages_and_reference_lead_to_each_other(site: Site) -> None:
    """Names in a page's text lead to the reference, as a call too; what is described says on which page."""
    target, guides = site.crosslinks.target, site.crosslinks.guides()
    assert target("fetch_zoo") == target('fetch_zoo("mnist_cnn_s", epochs=5)') == ("zoobench.fetch_zoo", "func")
    assert target("WeightPCA") == ("zoobench.estimators.WeightPCA", "class")
    assert target("zoobench.split.split_of") == ("zoobench.split.split_of", "func")
    assert target("score") is None  # every estimator has one
    assert guides["zoobench.make_zoo"] == guides["zoobench.generators.make_zoo"] == "generators"
    for name in site.public.public_names("zoobench.estimators"):
        assert (DOCS / f"{guides[f'zoobench.estimators.{name}']}.md").exists()
    templates = (DOCS / "_templates" / "autosummary").iterdir()
    assert all("guide_of[fullname]" in path.read_text(encoding="utf-8") for path in templates)
