"""Pages of the repository on the site: what they link to has another place here than on the code host."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
ROOT = DOCS.parent

#: Files of the repository that are pages of the site, and which page.
PAGES = {"CONTRIBUTING.md": "generated/contributing.markdown", "CHANGELOG.md": "generated/changes.markdown"}

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def on_site(text: str, folder: Path) -> str:
    """Markdown of a file in a folder of the repository, with links to places of the site.

    What has no place here (the licence, a test) becomes plain text: where the repository is published is not known.
    """

    def moved(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = (folder / target).resolve()
        if path.is_relative_to(DOCS):
            inside = path.relative_to(DOCS).as_posix()
            return match[0] if folder.is_relative_to(DOCS) else f"[{words}](/{inside}{anchor})"
        if path.parent == ROOT / "examples" and path.suffix == ".py":
            return f"[{words}](/auto_examples/{path.stem}.rst)"
        if path.parent == ROOT / "datasets_registry" / "cards":
            return f"[{words}](/generated/zoos/{path.stem}.rst)"
        if path.parent == ROOT and path.name in PAGES:
            return f"[{words}](/{PAGES[path.name]}{anchor})"
        return words

    return _LINK.sub(moved, text)


def root_pages() -> dict[str, str]:
    """Page -> text, of the files in :data:`PAGES`."""
    found = {}
    for name, page in PAGES.items():
        found[page.removeprefix("generated/")] = on_site((ROOT / name).read_text(encoding="utf-8"), ROOT)
    return found


def _move_links(app: Sphinx, docname: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        source[0] = on_site(source[0], path.parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _move_links, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
