"""Entries of the leaderboard: methods by name, and a user's own from a file or an installed package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from zoobench.estimators.methods import EXTRAS, list_methods, make_method
from zoobench.layout import WeightLayout

#: What a method may see of a state.
INPUTS = ("weights", "hyperparameters", "both")

#: Packages announce methods under this group of entry points: name = "package.module:MyEstimator".
ENTRY_POINTS = "zoobench.methods"

#: The methods of `zoobench run`, in the order of their cost.
DEFAULT_METHODS = (
    "dummy",
    "hyperparameters_boosting",
    "statistics_ridge",
    "statistics_boosting",
    "statnn",
    "weights_ridge",
    "pca_ridge",
    "aligned_weights_ridge",
)


@dataclass(frozen=True)
class Entry:
    """A method of the leaderboard.

    Attributes
    ----------
    name : str
        Under which its records are stored.
    inputs : {"weights", "hyperparameters", "both"}
        What it sees of a state; never the property to predict, the seed or the epoch.
    source : str
        The paper that it is from, or the file.
    licence : str
        Of its code.
    digest : str
        Of a user's code: records of another version are not taken for its own. Empty for methods of this library.
    text : str
        How it is asked for.
    """

    name: str
    inputs: str
    source: str
    licence: str
    digest: str = ""
    text: str = field(default="", compare=False)
    maker: Callable[..., Any] | None = field(default=None, repr=False, compare=False)

    def build(self, kind: str, target: str, layout: WeightLayout, random_state: int) -> Any:
        """An unfitted estimator for a zoo.

        Parameters
        ----------
        kind : {"regression", "classification"}
            What is predicted: numbers or names.
        target : str
            The property.
        layout : WeightLayout
            Of the zoo.
        random_state : int
            Seed.

        Returns
        -------
        estimator
            A user's own gets ``layout`` and ``random_state`` where it has such parameters that are None, and ``task``,
            the kind, where its class or function has that parameter.
        """
        if self.maker is None:
            return make_method(
                self.name, task=kind, target=target, layout=layout, random_state=random_state, device="cpu"
            )
        estimator = self.maker(**({"task": kind} if "task" in _parameters(self.maker) else {}))
        given = {"layout": layout, "random_state": random_state}
        parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
        wanted = {
            name: given[name.rpartition("__")[2]]
            for name, value in parameters.items()
            if value is None and name.rpartition("__")[2] in given
        }
        return estimator.set_params(**wanted) if wanted else estimator


def _parameters(maker: Callable[..., Any]) -> set[str]:
    try:
        return set(signature(maker).parameters)
    except (TypeError, ValueError):  # of some that are written in C nothing is known
        return set()


def installed_methods() -> list[str]:
    """Names of all methods that can run here: those whose extra is installed, and what other packages announce."""
    known = list_methods()
    named = [name for name, extra in known["extra"].items() if extra is None or find_spec(EXTRAS[extra])]
    return [*named, *(point.name for point in entry_points(group=ENTRY_POINTS) if point.name not in known.index)]


def find_entry(text: str) -> Entry:
    """The method that a name or a place stands for.

    Parameters
    ----------
    text : str
        A name of :func:`~zoobench.estimators.list_methods`, a name that an installed package announces, or
        ``file.py:MyEstimator``: a class or a function without arguments that yields an estimator. An attribute
        ``zoobench_inputs`` says what it sees if that is not the weights.

    Returns
    -------
    Entry

    Raises
    ------
    ValueError
        If there is none, or the file cannot be imported.
    """
    if ":" in text:
        return _from_file(text)
    known = list_methods()
    if text in known.index:
        row = known.loc[text]
        return Entry(text, row["inputs"], row["source"], "BSD-3-Clause", text=text)
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if text in found:
        point = found[text]
        package = point.dist.name if point.dist else point.module
        version = point.dist.version if point.dist else ""
        return _entry(text, text, point.load(), f"{package} {version}".strip(), f"{point.value} {version}")
    names = [*known.index, *found]
    close = get_close_matches(text, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(
        f"there is no method {text!r}{hint}. There are {', '.join(names)}, and your own as file.py:MyClass"
    )


def find_entries(texts: Sequence[str]) -> list[Entry]:
    """Several methods, each once; ValueError if two have one name."""
    entries = [find_entry(text) for text in dict.fromkeys(texts)]
    names = [entry.name for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two methods are called {twice!r}; give one of them another name")
    return entries


def _from_file(text: str) -> Entry:
    place, _, name = text.rpartition(":")
    path = Path(place)
    if not path.is_file():
        raise ValueError(f"there is no file {place!r} for method {text!r}; it is written file.py:MyClass")
    code = path.read_bytes()
    # Under a name of its own, so that two files called my_method.py do not meet.
    module_name = f"zoobench_method_{hashlib.blake2b(code, digest_size=16).hexdigest()}"
    module = sys.modules.get(module_name) or _imported(path, place, module_name)
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if callable(value) and value.__module__ == module_name]
        raise ValueError(f"{place} defines no {name!r}; it defines {', '.join(own) or 'nothing that can be called'}")
    if name in list_methods().index:
        raise ValueError(f"{name!r} of {place} has the name of a method of zoobench; give it another one")
    return _entry(text, name, getattr(module, name), path.name, module_name.rpartition("_")[2])


def _imported(path: Path, place: str, module_name: str) -> ModuleType:
    """The module of a file, imported once: two methods of it share what it defines."""
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place!r} is no Python file; a method is written file.py:MyClass")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        raise ValueError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error
    # Workers get the code itself: they may run on machines that do not have the file. Joblib's own processes, Dask and
    # Ray each have a pickler of their own.
    for pickler in ("joblib.externals.cloudpickle", "cloudpickle", "ray.cloudpickle"):
        with suppress(ImportError):
            importlib.import_module(pickler).register_pickle_by_value(module)
    return module


def _entry(text: str, name: str, maker: Any, source: str, version: str) -> Entry:
    inputs = getattr(maker, "zoobench_inputs", "weights")
    if not callable(maker) or inputs not in INPUTS:
        wrong = f"zoobench_inputs is {inputs!r}, not one of {', '.join(INPUTS)}" if callable(maker) else "not callable"
        raise ValueError(f"{name!r} of {source} is no method: {wrong}")
    return Entry(name, inputs, source, getattr(maker, "zoobench_licence", "not stated"), version, text, maker)
