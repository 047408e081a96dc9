"""Writes the pages that are derived from the package, before Sphinx looks which pages there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils.parsers.rst.roles import CustomRole, generic_custom_role

from api_pages import api_pages, members
from cli_page import cli_page
from crosslinks import guides
from links import root_pages
from methods_page import methods_page, ranking_table
from zoo_pages import zoo_pages

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

GENERATED = Path(__file__).parent.parent / "generated"


def pages() -> dict[str, str]:
    """File below ``generated/`` -> text."""
    found = {f"{name}.rst": text for name, text in (api_pages() | zoo_pages()).items()}
    found |= {"cli.rst": cli_page(), "methods.rst": methods_page(), "ranking.inc": ranking_table()}
    return found | root_pages()


def write(found: dict[str, str], folder: Path) -> None:
    """Write what has changed, and remove what is no page any more."""
    for name, text in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    wanted = {folder / name for name in found}
    for path in folder.rglob("*.rst"):
        # Autosummary's pages of names are its own, and so are the gallery's lists of examples.
        if path not in wanted and path.parent.name not in ("api", "backreferences"):
            path.unlink()


def _write_pages(app: Sphinx, config: Config) -> None:
    write(pages(), GENERATED)
    config.autosummary_context = {"members_of": members(), "guide_of": guides()}


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_role("num", CustomRole("num", generic_custom_role, {"class": ["num"]}))
    app.connect("config-inited", _write_pages, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
