"""A digest of what a function does, to tell whether a user has edited it since."""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

#: Where installed libraries lie. Their code is taken by name: their versions are not the user's edits.
_INSTALLED = ("site-packages", "dist-packages")

#: Of a class: what is not in its code, or not in the same order each time.
_OF_NO_MATTER = {"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "__static_attributes__"}

#: The flag of code that has a docstring, from Python 3.14 on.
_HAS_DOCSTRING = 0x4000000


def code_digest(thing: Any) -> str:
    """Digest of a function's code and of everything of the user's own that it names: the same in each process.

    Followed are functions, classes with their methods and bases, what a function encloses, its defaults, and constants.
    What comes with Python or is installed is taken by name alone, but what it wraps, as ``functools.lru_cache`` does,
    is followed. Comments, docstrings and line numbers change nothing; nor does the value of a global variable that
    the code itself assigns, which is no more than where a run has come to.

    Parameters
    ----------
    thing : callable or plain data
        A function, a class, a partial function, or an object that can be called; a tuple of such and of strings and
        numbers.

    Returns
    -------
    str
        32 hexadecimal digits. Another version of Python may give others.

    Examples
    --------
    >>> from zoobench.generators.code_digest import code_digest
    >>> code_digest(("conv", 2)) == code_digest(("conv", 3))
    False
    """
    looking = _Walk()
    looking.visit(thing)
    # Again, because only now it is known which globals are assigned somewhere.
    walk = _Walk(looking.assigned)
    walk.visit(thing)
    return walk.found


class _Walk:
    """A walk over the objects that a function leads to; each is looked at once, so that circles end."""

    def __init__(self, assigned: Iterable[tuple[int, str]] = ()) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self.assigned = set(assigned)  # globals, by their module's names and their own, that code assigns
        self.seen: dict[int, tuple[int, Any]] = {}

    @property
    def found(self) -> str:
        """The digest of what has been looked at."""
        return self.digest.hexdigest()

    def say(self, *words: object) -> None:
        self.digest.update(repr(words).encode())

    def visit(self, thing: Any) -> None:
        if isinstance(thing, (type(None), bool, int, float, complex, str, bytes, type(...))):
            return self.say(thing)
        if isinstance(thing, (tuple, frozenset, types.CodeType)):
            # Whether two equal ones are one object hangs on whether a module was just compiled or read from its cache.
            return self._visit_object(thing)
        if id(thing) in self.seen:
            return self.say("again", self.seen[id(thing)][0])
        self.seen[id(thing)] = len(self.seen), thing  # kept, so that nothing else gets its address
        return self._visit_object(thing)

    def _visit_object(self, thing: Any) -> None:
        kind = type(thing)
        if isinstance(thing, (list, tuple)):
            self.say(kind.__name__, len(thing))
            self.visit_all(thing)
        elif isinstance(thing, dict):
            self.say("dict", len(thing))
            self.visit_all(part for item in thing.items() for part in item)
        elif isinstance(thing, (set, frozenset)):
            self.say("set", sorted(map(self.apart, thing)))  # whose order is another in each process
        elif isinstance(thing, np.ndarray) and thing.dtype != object:
            self.say("array", thing.shape, thing.dtype.str, hashlib.blake2b(thing.tobytes()).digest())
        elif isinstance(thing, types.CodeType):
            self.code(thing)
        elif isinstance(thing, functools.partial):
            self.visit_all(("partial", thing.func, thing.args, thing.keywords))
        elif isinstance(thing, types.MethodType):
            self.visit_all(("method", thing.__func__, thing.__self__))
        elif isinstance(thing, (staticmethod, classmethod)):
            self.visit_all((kind.__name__, thing.__func__))
        elif isinstance(thing, property):
            self.visit_all(("property", thing.fget, thing.fset))
        elif isinstance(thing, functools.cached_property):
            self.visit_all(("cached property", thing.func))
        elif _is_installed(thing if isinstance(thing, (type, types.FunctionType, types.ModuleType)) else kind):
            self.say("installed", *_name(thing), *_name(kind))
            if (wrapped := getattr(thing, "__dict__", {}).get("__wrapped__")) is not None:
                self.visit(wrapped)
        elif isinstance(thing, types.FunctionType):
            self.function(thing)
        elif isinstance(thing, type):
            self.say("class", thing.__qualname__)
            self.visit_all(thing.__bases__)
            for name, value in sorted(vars(thing).items()):
                if name not in _OF_NO_MATTER:
                    self.say(name)
                    self.visit(value)
        elif isinstance(thing, types.ModuleType):
            self.say("module", thing.__name__)
        else:
            self.say("object")
            self.visit_all((kind, getattr(thing, "__dict__", {})))

    def visit_all(self, things: Any) -> None:
        for thing in things:
            self.visit(thing)

    def apart(self, thing: Any) -> str:
        """Digest of one thing for itself, whatever is looked at before it or after it."""
        walk = _Walk()
        walk.assigned, walk.seen = self.assigned, dict(self.seen)
        walk.visit(thing)
        return walk.found

    def function(self, function: types.FunctionType) -> None:
        self.say("function", function.__qualname__)
        self.visit_all((function.__code__, function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                self.visit(cell.cell_contents)
            except ValueError:  # nothing in it yet
                self.say("empty")
        self.named(function.__code__, function.__globals__)

    def named(self, code: types.CodeType, names: dict[str, Any]) -> None:
        """The globals that code uses, and what it uses of the user's modules among them."""
        stored = (step.argval for step in dis.get_instructions(code) if step.opname == "STORE_GLOBAL")
        self.assigned.update((id(names), name) for name in stored)
        for name in code.co_names:
            if name not in names or (id(names), name) in self.assigned:
                continue
            value = names[name]
            self.say(name)
            self.visit(value)
            if isinstance(value, types.ModuleType) and not _is_installed(value):
                self.visit_all(vars(value)[part] for part in code.co_names if part in vars(value))
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self.named(inner, names)

    def code(self, code: types.CodeType) -> None:
        self.say("code", code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self.say(code.co_varnames, code.co_freevars, code.co_flags & ~_HAS_DOCSTRING)
        # What the instructions name, and not the list of constants: a function's docstring is one that none names.
        steps = list(dis.get_instructions(code))
        idle = [step.opname == "STORE_NAME" and step.argval in _OF_NO_MATTER for step in steps]
        for step, stores, is_stored in zip(steps, idle, [*idle[1:], False], strict=True):
            if not (stores or is_stored):
                self.say(step.opname)
                self.visit(step.argval)


def _name(thing: Any) -> tuple[str, str]:
    name = getattr(thing, "__qualname__", getattr(thing, "__name__", ""))
    return str(getattr(thing, "__module__", "")), str(name)


def _is_installed(thing: Any) -> bool:
    """Whether a function, class or module comes with Python or with a library, this one included."""
    module = thing if isinstance(thing, types.ModuleType) else sys.modules.get(getattr(thing, "__module__", None) or "")
    if module is None or module.__name__ == "__main__":
        return False
    top = module.__name__.partition(".")[0]
    if top == "zoobench" or top in sys.stdlib_module_names:
        return True
    try:
        path = inspect.getfile(module)
    except TypeError:  # compiled into Python
        return True
    return any(part in path for part in _INSTALLED)
