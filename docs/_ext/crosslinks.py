"""Pages and reference lead to each other: names in a page's text to the reference, and that back to the page.

The pages are plain Markdown, read on the code host too, where a name is just a name in a typewriter's letters.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes

from public import ALSO, kind, public_modules, public_names

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent

#: Page -> names and modules that it is about, beyond the one that is its title.
ABOUT = {
    "analysis": ("analyze_zoo",),
    "bring_your_method": ("Entry", "find_entry", "installed_methods"),
    "bring_your_zoo": ("load_zoo",),
    "displays": ("zoobench.benchmark.displays",),
    "estimators/hyper_representation": ("HYPER_REPRESENTATION_PRESETS",),
    "estimators/methods": ("list_methods", "make_method"),
    "fetching": ("fetch_zoo", "list_zoos", "get_data_home", "clear_data_home", "OfflineError", "NoSpaceError"),
    "generators": ("make_zoo", "Recipe", "RandomSeeds", "register_architecture"),
    "images": ("load_images", "zoobench.generators.image_sets"),
    "leaderboard": ("Leaderboard", "run_benchmark", "Record", "Task", "DEFAULT_METHODS", "load_results"),
    "paper_benchmark": ("paper_table",),
    "reproducibility": (
        "zoobench.benchmark.metrics",
        "zoobench.benchmark.protocols",
        "zoobench.benchmark.ranking",
        "zoobench.benchmark.records",
        "zoobench.split",
    ),
    "sparsified_twins": ("sparsify_zoo",),
    "zoo_format": ("save_zoo",),
}

#: A name, perhaps with its module, perhaps called.
_NAME = re.compile(r"([\w.]+?)(?:\(.*\))?", re.DOTALL)


@cache
def targets() -> dict[str, tuple[str, str]]:
    """What a page may call an object -> its full name, and the kind of reference.

    The full name always; the short one of what packages offer.
    """
    found: dict[str, tuple[str, str]] = {}
    for module in public_modules():
        for name in public_names(module):
            role = {"class": "class", "exception": "exc", "function": "func", "constant": "data"}[kind(module, name)]
            place = f"{module}.{name}", role
            for said in (place[0],) if module in ALSO else (place[0], name):
                found.setdefault(said, place)
    return found


def target(text: str) -> tuple[str, str] | None:
    """What a literal of a page is about: ``fetch_zoo``, ``fetch_zoo("mnist_cnn_s")``, ``zoobench.split.split_of``."""
    match = _NAME.fullmatch(text)
    return targets().get(match[1]) if match else None


@cache
def guides() -> dict[str, str]:
    """Full name of a public object -> the page that describes it."""
    found = {}
    for page, about in ABOUT.items():
        for thing in about:
            module = thing if thing.startswith("zoobench.") else ""
            names = [f"{module}.{name}" for name in public_names(module)] if module else [targets()[thing][0]]
            found |= dict.fromkeys(names, page)
    for path in sorted((DOCS / "estimators").glob("*.md")):
        title = re.match(r"# `(\w+)`\n", path.read_text(encoding="utf-8"))
        if title:
            found[targets()[title[1]][0]] = f"estimators/{path.stem}"
    # One object may be offered by two modules: both of its pages lead to the same place.
    about = {id(_thing(full)): page for full, page in found.items()}
    return {full: about[id(_thing(full))] for full in _offered() if id(_thing(full)) in about}


def _offered() -> list[str]:
    return [f"{module}.{name}" for module in public_modules() for name in public_names(module)]


def _thing(full: str) -> Any:
    module, _, name = full.rpartition(".")
    return getattr(import_module(module), name)


def _reference(full: str, role: str, literal: nodes.Node) -> addnodes.pending_xref:
    return addnodes.pending_xref(
        "", literal.deepcopy(), refdomain="py", reftype=role, reftarget=full, refexplicit=True, refwarn=True
    )


def _link_names(app: Sphinx, doctree: nodes.document) -> None:
    """The first time that a section of a page names a public object, the name leads to the reference."""
    if app.env.doc2path(app.env.current_document.docname).suffix != ".md":
        return
    _link_title(doctree)
    seen: set[tuple[nodes.Node | None, str]] = set()
    for literal in [*doctree.findall(nodes.literal)]:
        found = target(literal.astext())
        if not found or _is_linked(literal):
            continue
        section = literal.parent
        while section is not None and not isinstance(section, nodes.section):
            section = section.parent
        if (section, found[0]) not in seen:
            seen.add((section, found[0]))
            literal.parent.replace(literal, _reference(*found, literal))


def _link_title(doctree: nodes.document) -> None:
    """A page of one object says where its parameters are."""
    title = next(iter(doctree.findall(nodes.title)), None)
    found = target(title.astext()) if title is not None else None
    if title is None or not found:
        return
    said = nodes.paragraph("", "Parameters, attributes and methods: ")
    said += _reference(*found, nodes.literal("", title.astext()))
    said += nodes.Text(".")
    title.parent.insert(1, said)


def _is_linked(literal: nodes.literal) -> bool:
    parent = literal.parent
    while parent is not None:
        if isinstance(parent, nodes.reference | nodes.title | addnodes.pending_xref):
            return True
        parent = parent.parent
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("doctree-read", _link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
