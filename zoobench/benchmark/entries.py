"""Entries of the leaderboard: methods by name, and a user's own from a file or an installed package."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from zoobench.benchmark.places import is_nameable
from zoobench.benchmark.userfiles import import_file, packed, packed_modules
from zoobench.estimators.methods import EXTRAS, list_methods, make_method
from zoobench.layout import WeightLayout

#: What a method may see of a state.
INPUTS = ("weights", "hyperparameters", "both")

#: Packages announce methods under this group of entry points: name = "package.module:MyEstimator".
ENTRY_POINTS = "zoobench.methods"

#: The methods of `zoobench run`.
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
    maker : callable or None
        A user's class or function; None for methods of this library.
    modules : dict of str to ModuleType
        Of a user's file: what it imports from its folder only while it is at work.

    Examples
    --------
    >>> from zoobench.benchmark import find_entry
    >>> entry = find_entry("statistics_ridge")
    >>> entry.name, entry.inputs, entry.licence
    ('statistics_ridge', 'weights', 'BSD-3-Clause')
    """

    name: str
    inputs: str
    source: str
    licence: str
    digest: str = ""
    text: str = field(default="", compare=False)
    maker: Callable[..., Any] | None = field(default=None, repr=False, compare=False)
    modules: dict[str, ModuleType] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # Workers may run on machines that do not have the file of a user's method, so they get its code. It is packed
        # here, since not every backend asks joblib's pickler: Dask tries the plain one first.
        return {**vars(self), "maker": packed(self.maker), "modules": packed_modules(self.modules)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modules = {name: pickle.loads(code) for name, code in state["modules"].items()}
        vars(self).update({**state, "maker": pickle.loads(state["maker"]), "modules": modules})

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
        # Where it looks for them; files of other folders may have modules of the same names.
        sys.modules.update(self.modules)
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
    """Names of all methods that can run here: those whose extra is installed, and what other packages announce.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from zoobench.benchmark import installed_methods
    >>> "statistics_ridge" in installed_methods()
    True
    """
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

    Examples
    --------
    >>> from zoobench.benchmark import find_entry
    >>> find_entry("hyperparameters_boosting").inputs
    'hyperparameters'
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
    if text.endswith(".py"):
        raise ValueError(f"a method of a file is written {text}:MyClass, with the name of its class or function")
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
    module, digest, later = import_file(path, place)
    if not hasattr(module, name):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        raise ValueError(f"{place} defines no {name!r}; it defines {', '.join(own) or 'nothing that can be called'}")
    if name in list_methods().index:
        raise ValueError(f"{name!r} of {place} has the name of a method of zoobench; give it another one")
    return replace(_entry(text, name, getattr(module, name), path.name, digest), modules=later)


def _entry(text: str, name: str, maker: Any, source: str, version: str) -> Entry:
    inputs = getattr(maker, "zoobench_inputs", "weights")
    if not callable(maker) or inputs not in INPUTS:
        wrong = f"zoobench_inputs is {inputs!r}, not one of {', '.join(INPUTS)}" if callable(maker) else "not callable"
        raise ValueError(f"{name!r} of {source} is no method: {wrong}")
    if not is_nameable(name):
        raise ValueError(f"{name!r} of {source} cannot be the name of a file; use letters, digits and _ . + - only")
    return Entry(name, inputs, source, getattr(maker, "zoobench_licence", "not stated"), version, text, maker)
