"""Generators: train new zoos from recipes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.generators.evaluation import evaluate
    from zoobench.generators.images import load_images
    from zoobench.generators.population import make_zoo
    from zoobench.generators.recipes import RandomSeeds, Recipe
    from zoobench.generators.registration import register_architecture
    from zoobench.generators.sparsify import sparsify_zoo

__all__ = ["RandomSeeds", "Recipe", "evaluate", "load_images", "make_zoo", "register_architecture", "sparsify_zoo"]

_DEFINED_IN = {
    "RandomSeeds": "zoobench.generators.recipes",
    "Recipe": "zoobench.generators.recipes",
    "evaluate": "zoobench.generators.evaluation",
    "load_images": "zoobench.generators.images",
    "make_zoo": "zoobench.generators.population",
    "register_architecture": "zoobench.generators.registration",
    "sparsify_zoo": "zoobench.generators.sparsify",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
