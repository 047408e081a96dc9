"""Model zoos as ``(X, y)``: data, estimators, generators and a leaderboard for learning from neural network weights.

The names below are the whole API of this level. They load on first use, so that ``import zoobench`` costs next to
nothing and nobody who only reads a zoo pays for what trains one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.benchmark.paper import paper_table
    from zoobench.datahome import clear_data_home, get_data_home
    from zoobench.download.remote import NoSpaceError, OfflineError
    from zoobench.errors import UnsafeFileError, ZooFormatError
    from zoobench.fetch import fetch_zoo, list_zoos
    from zoobench.generators.population import make_zoo
    from zoobench.generators.sparsify import sparsify_zoo
    from zoobench.layout import WeightLayout
    from zoobench.loading import load_zoo
    from zoobench.store import save_zoo
    from zoobench.zoo import Zoo

    __version__: str

__all__ = [
    "NoSpaceError",
    "OfflineError",
    "UnsafeFileError",
    "WeightLayout",
    "Zoo",
    "ZooFormatError",
    "clear_data_home",
    "fetch_zoo",
    "get_data_home",
    "list_zoos",
    "load_zoo",
    "make_zoo",
    "paper_table",
    "save_zoo",
    "sparsify_zoo",
]

_DEFINED_IN = {
    "NoSpaceError": "zoobench.download.remote",
    "OfflineError": "zoobench.download.remote",
    "UnsafeFileError": "zoobench.errors",
    "WeightLayout": "zoobench.layout",
    "Zoo": "zoobench.zoo",
    "ZooFormatError": "zoobench.errors",
    "clear_data_home": "zoobench.datahome",
    "fetch_zoo": "zoobench.fetch",
    "get_data_home": "zoobench.datahome",
    "list_zoos": "zoobench.fetch",
    "load_zoo": "zoobench.loading",
    "make_zoo": "zoobench.generators.population",
    "paper_table": "zoobench.benchmark.paper",
    "save_zoo": "zoobench.store",
    "sparsify_zoo": "zoobench.generators.sparsify",
}

if not TYPE_CHECKING:  # A type checker that saw this would take every misspelt name for granted.

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            value = version("zoobench")
        elif name in _DEFINED_IN:
            value = getattr(import_module(_DEFINED_IN[name]), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
