"""Names of zoos may break after an underscore, and nowhere else: a line of a name that is cut elsewhere misleads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _break_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for table in doctree.findall(nodes.table):
        if "zoos" not in table["classes"]:
            continue
        for text in [*table.findall(nodes.Text)]:
            first, *others = text.split("_")
            parts: list[nodes.Node] = [nodes.Text(f"{first}_" if others else first)]
            for position, part in enumerate(others, 1):
                # Not a space without width, which would be copied with the name.
                parts.append(nodes.raw("", "<wbr>", format="html"))
                parts.append(nodes.Text(f"{part}_" if position < len(others) else part))
            if others and text.parent is not None:
                text.parent.replace(text, parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-resolved", _break_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
