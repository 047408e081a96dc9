"""References to a public object by the module that defines it lead to its page.

Docstrings name an object by its home (``zoobench.fetch.fetch_zoo``), which is where an editor finds it; its page has
the name that users import (``zoobench.fetch_zoo``).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from public import public_modules, public_names

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


@cache
def public_places() -> dict[str, str]:
    """Where an object is defined -> where it is public, for those that are public elsewhere."""
    found: dict[str, str] = {}
    for module in public_modules():
        for name in public_names(module):
            thing = getattr(import_module(module), name)
            home = f"{getattr(thing, '__module__', module)}.{name}"
            if home != f"{module}.{name}":
                found.setdefault(home, f"{module}.{name}")
    return found


def _resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    for home, public in public_places().items():
        if target == home or target.startswith(f"{home}."):
            python = env.domains["py"]
            moved = public + target.removeprefix(home)
            return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], moved, node, content)
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
