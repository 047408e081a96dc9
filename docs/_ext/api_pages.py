"""The API reference: a page a module that lists its public names; autosummary makes a page of each name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pprint import pformat

from sphinx.pycode import ModuleAnalyzer

from public import ALSO, inherited_members, kind, own_members, public_modules, public_names
from rst import code, heading, plain

_KINDS = {"class": "Classes", "function": "Functions", "exception": "Exceptions", "constant": "Constants"}


def api_pages() -> dict[str, str]:
    """Page -> text, of the reference's own pages."""
    modules = public_modules()
    pages = {f"api/{name}": module_page(name) for name in modules}
    for module in modules:
        for name in public_names(module):
            if kind(module, name) == "constant":
                pages[f"api/{module}.{name}"] = constant_page(module, name)
    lines = [
        heading("API reference"),
        "Every name that other code may rely on. What is not listed here, or starts with an underscore, may change.\n",
    ]
    for name in modules:
        lines.append(f"* :doc:`{name} </generated/api/{name}>`: {_first_sentence(name)}")
    lines.append("* :doc:`zoobench on the command line </generated/cli>`: every subcommand and its options.")
    # The list beside the pages has no room for full names.
    listed = "".join(f"   {name.removeprefix('zoobench.')} </generated/api/{name}>\n" for name in modules)
    lines.append(f"\n.. toctree::\n   :hidden:\n\n{listed}   Command line </generated/cli>\n")
    pages["api/index"] = "\n".join(lines)
    return pages


def module_page(module: str) -> str:
    """A module's page: what it is for, and tables of its names."""
    lines = [heading(plain(module)), f".. automodule:: {module}\n   :no-members:\n"]
    if module in ALSO:
        lines.append(f"Import these names from ``{module}``.\n")
    lines.append(f".. currentmodule:: {module}\n")
    names = public_names(module)
    for what, title in _KINDS.items():
        chosen = [name for name in names if kind(module, name) == what]
        if chosen and what == "constant":
            lines.append(f".. rubric:: {title}\n\n.. toctree::\n   :maxdepth: 1\n")
            lines.append("".join(f"   {name} <{module}.{name}>\n" for name in chosen))
        elif chosen:
            lines.append(f".. rubric:: {title}\n\n.. autosummary::\n   :toctree: .\n   :nosignatures:\n")
            lines.append("".join(f"   {name}\n" for name in chosen))
    return "\n".join(lines)


def constant_page(module: str, name: str) -> str:
    """A constant's page: what the comment above it says, and what it is."""
    loaded = import_module(module)
    home = getattr(loaded, "_DEFINED_IN", {}).get(name, module)
    comment = ModuleAnalyzer.for_module(home).find_attr_docs()[("", name)]
    value = getattr(loaded, name)
    # A path would be that of the machine that builds the site.
    shown = [] if isinstance(value, Path) else [code(pformat(value, width=100, sort_dicts=False))]
    return "\n".join(
        [
            heading(name),
            f".. currentmodule:: {module}\n",
            f".. py:data:: {name}\n",
            *(f"   {line.replace('`', '``')}".rstrip() for line in comment),
            *shown,
        ]
    )


def members() -> dict[str, dict[str, list[str]]]:
    """Full name of each public class -> what its page lists, for the template."""
    found = {}
    for module in public_modules():
        for name in public_names(module):
            if kind(module, name) == "class":
                thing = getattr(import_module(module), name)
                methods, properties = own_members(thing)
                found[f"{module}.{name}"] = {
                    "methods": methods,
                    "properties": properties,
                    "inherited": inherited_members(thing),
                }
    return found


def _first_sentence(module: str) -> str:
    text = (import_module(module).__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.split())
