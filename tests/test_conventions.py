"""What holds for every module and every public object of the package, new ones included."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import zoobench

ROOT = Path(__file__).parent.parent
FOLDERS = {folder: f"zoobench.{folder}" for folder in ("estimators", "generators", "datasets_registry")}

#: Rooms from bottom to top. A module may import from its own layer and from those below.
LAYERS = (
    {"architecture_shapes", "datahome", "errors", "index_dict", "layers", "layout", "properties", "split", "warning"},
    {"contents", "network", "selection", "states", "zoo"},
    {"datasets_registry", "download", "loading", "readers", "store", "tablefile", "weightfile"},
    {"acquire", "check_sources", "convert", "estimators", "fetch", "generators", "originals", "origins"},
    {"benchmark"},
    {"cli", "cli_analyze", "cli_benchmark", "cli_check", "cli_sparsify"},
    {"__main__"},
)

#: Rooms of one layer that know nothing of each other.
APART = {"estimators", "fetch", "generators"}

#: The one look upwards, inside a function: a zoo's `module(i)` builds what the generators train.
DEFERRED_UPWARDS = {("network", "generators")}

#: Rooms where a module may need torch as soon as it is imported.
TORCH_ROOMS = {"estimators", "generators"}


class Import(NamedTuple):
    target: str
    names: tuple[str, ...]
    on_import: bool
    line: int


def modules() -> dict[str, Path]:
    """Import name -> file, of every module of the package."""
    found = {}
    for folder, package in {"zoobench": "zoobench", **FOLDERS}.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder)
            if folder == "zoobench" and inside.parts[0] in FOLDERS:
                continue  # seen through a link; comes under its own folder
            name = ".".join([package, *inside.with_suffix("").parts])
            found[name.removesuffix(".__init__")] = path
    return found


MODULES = modules()


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports_of(name: str) -> tuple[Import, ...]:
    """Every import of a module, those inside functions and for type checkers included."""
    return tuple(_imports(tree_of(name).body, on_import=True))


def _imports(body: list[ast.stmt], *, on_import: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), on_import, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            yield Import(
                "." * node.level + (node.module or ""), tuple(a.name for a in node.names), on_import, node.lineno
            )
        else:
            function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            inner = on_import and not function and not for_types
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                for child in getattr(node, field, []) or []:
                    nested = child.body if isinstance(child, (ast.ExceptHandler, ast.match_case)) else [child]
                    yield from _imports(nested, on_import=inner or (for_types and on_import and field == "orelse"))


def room_of(module: str) -> str:
    """The part of a module's name that says in which room it is; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def layer_of(room: str) -> int:
    ranks = [rank for rank, layer in enumerate(LAYERS) if room in layer]
    assert ranks, f"zoobench.{room} has no place in LAYERS of {Path(__file__).name}; say there what it may import"
    return ranks[0]


def internal(module: str) -> list[Import]:
    return [found for found in imports_of(module) if found.target.split(".")[0] == "zoobench"]


def defined_in(module: str) -> set[str]:
    """Names that a module's own statements define; imported names are not among them."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


# -- imports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [name for name in MODULES if name != "zoobench"])
def test_imports_point_downwards(module: str) -> None:
    """A module imports from its own layer and those below, and estimators, generators and fetching stay apart."""
    room = room_of(module)
    wrong = []
    for found in internal(module):
        other = room_of(found.target)
        if not other or other == room:
            continue
        deferred = not found.on_import and (room, other) in DEFERRED_UPWARDS
        upwards = layer_of(other) > layer_of(room) and not deferred
        if upwards or {room, other} <= APART:
            wrong.append(f"line {found.line}: {found.target}")
    assert wrong == []


def test_rooms_import_each_other_without_cycles() -> None:
    """No two rooms need each other to be imported."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module != "zoobench":
            rooms = {room_of(found.target) for found in internal(module) if found.on_import}
            graph.setdefault(room_of(module), set()).update(rooms - {room_of(module), ""})
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", MODULES)
def test_names_come_from_the_module_that_defines_them(module: str) -> None:
    """Inside the package nobody imports from `zoobench` itself, by a relative path or through a re-export."""
    wrong = []
    for found in imports_of(module):
        if found.target == "zoobench" and found.names == ("__version__",):
            continue  # defined there
        if found.target.startswith(".") or found.target in ("zoobench", *FOLDERS):
            wrong.append(f"line {found.line}: {found.target or 'relative'}")
        elif found.target.startswith("zoobench.") and found.names:
            assert found.target in MODULES, f"line {found.line}: there is no {found.target}"
            known = defined_in(found.target)
            elsewhere = [n for n in found.names if n not in known and f"{found.target}.{n}" not in MODULES]
            wrong += [f"line {found.line}: {name} is not defined in {found.target}" for name in elsewhere]
    assert wrong == []


def test_torch_is_imported_only_where_nothing_works_without_it() -> None:
    """Importing a module needs torch in the rooms that train nets only, and never for a package as such."""
    needs = {
        name for name in MODULES if any(i.on_import and i.target.split(".")[0] == "torch" for i in imports_of(name))
    }
    assert needs, "no module imports torch: this test sees nothing"
    grown = True
    while grown:  # until it is closed under importing, parent packages included
        grown = False
        for name in set(MODULES) - needs:
            targets = set()
            for found in internal(name):
                if found.on_import:
                    parts = found.target.split(".")
                    targets |= {".".join(parts[: n + 1]) for n in range(len(parts))}
                    targets |= {f"{found.target}.{n}" for n in found.names}
            if targets & needs:
                needs.add(name)
                grown = True
    packages = {name for name in needs if MODULES[name].name == "__init__.py"}
    assert packages == set()
    assert {name for name in needs if room_of(name) not in TORCH_ROOMS} == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import zoobench; zoobench.fetch_zoo; zoobench.load_zoo; zoobench.list_zoos",
        "import zoobench.estimators",
        "import zoobench.generators",
        "import zoobench.benchmark as b; [getattr(b, name) for name in b.__all__]",
        "import zoobench.cli",
    ],
)
def test_light_imports_do_not_load_torch(statement: str) -> None:
    """Who fetches a zoo, or looks which estimators there are, does not wait for torch."""
    code = f"import sys; {statement}; assert 'torch' not in sys.modules, 'torch was loaded'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- the API -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["zoobench", "zoobench.benchmark", "zoobench.estimators", "zoobench.generators"])
def test_api_is_the_same_for_all_who_read_it(package: str) -> None:
    """`__all__`, what loads on first use, what type checkers see and `dir` agree, and names come from where it says."""
    (block,) = (
        node
        for node in tree_of(package).body
        if isinstance(node, ast.If) and node.orelse == [] and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    for_types = {a.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
    loaded = importlib.import_module(package)
    assert for_types == loaded._DEFINED_IN
    assert loaded.__all__ == sorted(for_types)
    assert set(loaded.__all__) <= set(dir(loaded))
    for name, module in for_types.items():
        # What is no function or class does not say where it is from.
        assert getattr(getattr(loaded, name), "__module__", module) == module


def test_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name gives the usual error, with the name in it."""
    with pytest.raises(AttributeError, match="fetch_zoos"):
        zoobench.fetch_zoos  # noqa: B018


# -- docstrings --------------------------------------------------------------------------------------------------------


def public_names(module: str) -> list[str]:
    """A module's `__all__`, which is a literal, so that type checkers and this test can read it."""
    for node in tree_of(module).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and ast.unparse(node).startswith("__all__"):
            return list(ast.literal_eval(node.value))
    return []


#: Functions and classes; constants have comments.
PUBLIC = [(module, name) for module in MODULES for name in public_names(module) if not name.isupper()]


def sections(doc: str) -> dict[str, str]:
    """Heading -> text of a numpydoc docstring."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section: str) -> list[str]:
    """Names that a Parameters or Attributes section describes."""
    heads = [line.split(" : ")[0] for line in section.splitlines() if line and not line[0].isspace()]
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def parameters(thing: Any) -> list[str]:
    found = inspect.signature(thing).parameters.values()
    return [p.name for p in found if p.kind is not p.VAR_KEYWORD and p.name not in ("self", "cls")]


def own_methods(thing: Any) -> dict[str, Any]:
    """Public methods that this package defines, if the thing is a class."""
    if not isinstance(thing, type):
        return {}
    found = inspect.getmembers(thing, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return {name: f for name, f in found if not name.startswith("_") and f.__module__.split(".")[0] == "zoobench"}


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: value)
def test_public_objects_are_documented(module: str, name: str) -> None:
    """A public function or class describes exactly the parameters it has and shows an example; so do its methods."""
    thing = getattr(importlib.import_module(module), name)
    doc = inspect.getdoc(thing)
    assert doc, "no docstring"
    if isinstance(thing, type) and issubclass(thing, Exception):
        return
    found = sections(doc)
    if "Parameters" not in found and dataclasses.is_dataclass(thing):
        assert documented(found.get("Attributes", ""))[: len(parameters(thing))] == parameters(thing)
    else:
        assert documented(found.get("Parameters", "")) == parameters(thing)
    assert ">>> " in found.get("Examples", ""), "no Examples"
    for method, function in own_methods(thing).items():
        doc = inspect.getdoc(getattr(thing, method))
        assert doc, f"{method} has no docstring"
        if "Parameters" in (found := sections(doc)):
            assert documented(found["Parameters"]) == parameters(function), f"{method}: Parameters differ"


# -- text --------------------------------------------------------------------------------------------------------------

CODE = sorted(
    {*MODULES.values()}
    | {p for f in ("tests", "benchmarks", "examples") for p in (ROOT / f).rglob("*.py")}
    | {p for f in ("docs", "docs/_ext") for p in (ROOT / f).glob("*.py")}  # not the copies that the built site holds
)


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_are_small_and_finished(path: Path) -> None:
    """A module has at most 400 lines, a file of tests 600, and neither a mark of work left undone."""
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= (600 if path.is_relative_to(ROOT / "tests") else 400)
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"))  # in pieces, so as not to find itself
    assert re.findall(rf"\b(?:{marks})\b", text) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_no_test_is_skipped(path: Path) -> None:
    """Every test runs and counts: none is skipped or expected to fail."""
    pattern = r"pytest\.(?:skip|xfail|importorskip)\b|mark\.(?:skip|skipif|xfail)\b"
    assert re.findall(pattern, path.read_text(encoding="utf-8")) == []
