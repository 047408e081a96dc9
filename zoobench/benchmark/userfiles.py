"""Methods in a user's own file: how it is imported, what it imports from beside it, and how workers get the code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from modulefinder import ModuleFinder
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    from joblib.externals import cloudpickle
except ImportError:  # joblib from 1.6 on depends on it instead
    import cloudpickle  # type: ignore[import-untyped]

#: Folders of installed packages, which may lie inside of a user's: their versions are another matter.
_INSTALLED = ("site-packages", "dist-packages")

#: Modules that are imported only while a method of a file is at work, by the name of the file's module.
_LATER: dict[str, dict[str, ModuleType]] = {}


def import_file(path: Path, place: str) -> tuple[ModuleType, str, dict[str, ModuleType]]:
    """The module of a user's file, and a digest of its code and of all code from its folder that it imports.

    Parameters
    ----------
    path : Path
        The file. Modules are looked for in its folder first, as if it were run as a script.
    place : str
        How the user wrote it, for messages.

    Returns
    -------
    module : ModuleType
        Imported once as long as no code changes: two methods of it share what it defines.
    digest : str
        Of the code.
    later : dict of str to ModuleType
        Modules of its folder that it imports only while it is at work, by the names under which it looks for them.

    Raises
    ------
    ValueError
        If it cannot be imported, with the file's own error.
    """
    helpers = _helpers(path, place)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    for name, file in sorted(helpers.items()):
        digest.update(f"\0{name}\0".encode() + file.read_bytes())
    # Under a name of its own, so that two files called my_method.py do not meet.
    module_name = f"zoobench_method_{digest.hexdigest()}"
    module = sys.modules.get(module_name) or _imported(path, place, module_name, helpers)
    return module, digest.hexdigest(), _LATER.get(module_name, {})


def _helpers(path: Path, place: str) -> dict[str, Path]:
    """Every module of the file's folder that it imports, and these in turn: import name -> file."""
    folder = path.resolve().parent
    places = [str(folder)]
    for entry in sys.path:
        inside = Path(entry).resolve()
        if inside.is_relative_to(folder) and not set(_INSTALLED) & set(inside.parts):
            places.append(str(inside))
    finder = ModuleFinder(path=places, excludes=["zoobench"])
    try:
        finder.run_script(str(path))
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error
    found = {name: getattr(module, "__file__", None) for name, module in finder.modules.items() if name != "__main__"}
    return {name: Path(file) for name, file in found.items() if file and not set(_INSTALLED) & set(Path(file).parts)}


def _imported(path: Path, place: str, module_name: str, helpers: dict[str, Path]) -> ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{place!r} is no Python file; a method is written file.py:MyClass")
    module = importlib.util.module_from_spec(spec)
    for name in helpers:
        # Of another file's folder, or from before it was changed.
        sys.modules.pop(name, None)
    sys.modules[module_name] = module
    try:
        with _first_in_path(str(path.resolve().parent)):
            spec.loader.exec_module(module)
            # What a method imports later on, when it is fitted and nobody looks in the folder any more.
            later = [name for name in helpers if name not in sys.modules]
            for name in later:
                with suppress(Exception, SystemExit):  # one that it can do without, or whose lack it will meet
                    importlib.import_module(name)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ValueError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error
    # Workers get the code itself: they may run on machines that do not have the files.
    for imported in (module, *(sys.modules[name] for name in helpers if name in sys.modules)):
        cloudpickle.register_pickle_by_value(imported)
    _LATER[module_name] = {name: sys.modules[name] for name in later if name in sys.modules}
    return module


def packed(thing: Any) -> bytes:
    """Something with the code that it needs from users' files, for processes and machines that do not have them."""
    return cloudpickle.dumps(thing)


def packed_modules(modules: dict[str, ModuleType]) -> dict[str, bytes]:
    """Modules for processes that do not have their files; those that cannot be sent are left out."""
    found = {}
    for name, module in modules.items():
        with suppress(Exception):
            found[name] = packed(module)
    return found


@contextmanager
def _first_in_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
