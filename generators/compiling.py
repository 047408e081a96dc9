"""The compiled engine as a file: built once for each machine, source and compiler, in the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

#: What is compiled is ``engine.cpp``, which includes the others.
SOURCES = Path(__file__).with_name("native")

#: Contraction lets a multiplication and an addition become one instruction; nothing here gives up NaN or infinity.
_FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-w", "-shared", "-fPIC")

#: Tried in this order, because no compiler knows all. GCC's predictive commoning would keep what is loaded in registers
#: that the sums need.
_EXTRAS = (("-march=native", "-fno-predictive-commoning"), ("-march=native",), ())

_NAMES = ("c++", "g++", "clang++")


class NoEngineError(Exception):
    """The engine cannot be had on this machine; the message is a clause that says why."""


@lru_cache(maxsize=1)
def load_library() -> ctypes.CDLL:
    """The engine, compiled now if it was not before.

    Returns
    -------
    CDLL

    Raises
    ------
    NoEngineError
        If there is no C++ compiler, or it fails, or the cache folder cannot be written or loaded from.
    """
    from pooch import os_cache

    path = compiled_library(Path(os_cache("zoobench")) / "engine")
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NoEngineError(f"{path} cannot be loaded ({error})") from error


def compiled_library(folder: Path) -> Path:
    """The engine's file in a folder, compiled now if it is not there.

    Two processes may compile at once: each writes a file of its own, and the last to be renamed stays.

    Parameters
    ----------
    folder : Path
        Cache folder. Several machines may share it: the file's name is a hash of source, flags, compiler and processor.

    Returns
    -------
    Path

    Raises
    ------
    NoEngineError
        As in :func:`load_library`.
    """
    command = _compiler()
    key = hashlib.blake2b(digest_size=12)
    sources = [path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".cpp", ".hpp")]
    for part in (*sources, repr((_FLAGS, _EXTRAS, command)).encode(), _version(command), _processor()):
        key.update(hashlib.blake2b(part).digest())
    path = folder / f"engine-{key.hexdigest()}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=folder, prefix=".compiling-", suffix=".so")
    except OSError as error:
        raise NoEngineError(f"the cache folder {folder} cannot be written ({error.strerror})") from error
    os.close(handle)
    try:
        _compile(command, scratch)
        os.replace(scratch, path)
    finally:
        with suppress(OSError):
            os.unlink(scratch)
    return path


def _compiler() -> list[str]:
    """$CXX, which may hold options too, or the first compiler on the path."""
    named = shlex.split(os.environ.get("CXX", ""))
    for candidate in [named] if named else [[name] for name in _NAMES]:
        found = shutil.which(candidate[0])
        if found:
            return [found, *candidate[1:]]
    if named:
        raise NoEngineError(f"the compiler that $CXX names, {named[0]!r}, was not found")
    raise NoEngineError(f"no C++ compiler was found ({', '.join(_NAMES)}; $CXX names another)")


def _compile(command: list[str], target: str) -> None:
    said = ""
    for extra in _EXTRAS:
        done = subprocess.run(
            [*command, *_FLAGS, *extra, "-o", target, str(SOURCES / "engine.cpp")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode == 0:
            return
        said = next((line for line in done.stderr.splitlines() if "error" in line), f"exit code {done.returncode}")
    raise NoEngineError(f"{command[0]} could not compile the engine ({said.strip()})")


def _version(command: list[str]) -> bytes:
    try:
        return subprocess.run([*command, "--version"], stdin=subprocess.DEVNULL, capture_output=True).stdout
    except OSError as error:
        raise NoEngineError(f"{command[0]} cannot be run ({error.strerror})") from error


def _processor() -> bytes:
    """What the compiler's idea of the native machine depends on."""
    description = f"{platform.system()} {platform.machine()} {platform.processor()}"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kept = ("vendor_id", "cpu family", "model", "model name", "flags", "CPU implementer", "CPU part", "Features")
        description += str(sorted({line for line in lines if line.split("\t")[0].split(":")[0].strip() in kept}))
    return description.encode()
