"""What the package offers: every public name, taken from the package itself."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from typing import Any

import zoobench

#: Modules without ``__all__`` that the docs refer to -> the names that belong to the reference too; where none are
#: named, all public functions and classes.
ALSO: dict[str, tuple[str, ...]] = {
    "zoobench.benchmark.metrics": (),
    "zoobench.benchmark.protocols": (),
    "zoobench.benchmark.ranking": (),
    "zoobench.benchmark.records": ("PUBLISHED", "RECORDS"),
    "zoobench.estimators.tokens": ("WeightTokens",),
    "zoobench.generators.image_sets": ("IMAGE_SETS",),
    "zoobench.split": ("split_of",),
}


def public_modules() -> list[str]:
    """Names of all modules with ``__all__``, and of those in :data:`ALSO`, parents first."""
    found = ["zoobench", *ALSO]
    for module in pkgutil.walk_packages(zoobench.__path__, "zoobench."):
        if module.ispkg and hasattr(import_module(module.name), "__all__"):
            found.append(module.name)
    return sorted(found)


def public_names(module: str) -> list[str]:
    """Names that a module offers."""
    loaded = import_module(module)
    if hasattr(loaded, "__all__"):
        return sorted(loaded.__all__, key=str.lower)
    if ALSO[module]:
        return list(ALSO[module])
    own = [name for name, thing in vars(loaded).items() if getattr(thing, "__module__", "") == module]
    return sorted(
        (name for name in own if not name.startswith("_") and kind(module, name) != "constant"), key=str.lower
    )


def kind(module: str, name: str) -> str:
    """``class``, ``exception``, ``function`` or ``constant``."""
    thing = getattr(import_module(module), name)
    if isinstance(thing, type):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "function" if callable(thing) else "constant"


def own_members(thing: type) -> tuple[list[str], list[str]]:
    """Methods and properties of a class that this package defines, in the order of their definition, bases last."""
    methods: dict[str, None] = {}
    properties: dict[str, None] = {}
    for cls in inspect.getmro(thing):
        if cls.__module__.split(".")[0] != "zoobench":
            continue
        for name, member in vars(cls).items():
            if name.startswith("_"):
                continue
            if isinstance(member, property):
                properties.setdefault(name)
            elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
                # Whatever machinery makes of it (metadata routing, output of frames), its home says whose it is.
                methods.setdefault(name)
    for name in [*methods]:
        if not _documented(thing, name):
            del methods[name]
    return list(methods), list(properties)


def inherited_members(thing: type) -> list[str]:
    """Public methods that come from other libraries."""
    own, _ = own_members(thing)
    found = inspect.getmembers(thing, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return [name for name, _ in found if not name.startswith("_") and name not in own]


def _documented(thing: type, name: str) -> bool:
    member: Any = inspect.getattr_static(thing, name)
    function = getattr(member, "__func__", member)
    return getattr(function, "__module__", "").split(".")[0] == "zoobench"
