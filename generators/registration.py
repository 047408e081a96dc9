"""Architectures that a user adds to those that the generators know."""

from __future__ import annotations

import contextlib
import functools
import numbers
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoobench.architecture_shapes import VARIANTS
from zoobench.generators.recipe_checks import hint
from zoobench.layout import WeightLayout

if TYPE_CHECKING:
    import torch

    Build = Callable[[int, int, str, float], torch.nn.Module]


@dataclass(frozen=True, eq=False)
class RegisteredArchitecture:
    """What :func:`register_architecture` was given; equal to itself alone, because what builds may not be hashable."""

    build: Build
    channels: tuple[int, ...] | None


_REGISTERED: dict[str, RegisteredArchitecture] = {}

#: Held while a registered network may draw from torch's global generator, of which all threads have one.
_GLOBAL_GENERATOR = threading.RLock()


def register_architecture(
    name: str, build: Build, *, channels: int | Sequence[int] | None = None, overwrite: bool = False
) -> None:
    """Add an architecture of your own, for recipes, for the training of zoos and for :meth:`Zoo.module`.

    It holds for this process and for the workers that it starts. A script that reads the zoo later has to register it
    again.

    Parameters
    ----------
    name : str
        What recipes call it. The function that was registered under a name may be registered again, edited or not, as
        when a cell of a notebook is run twice: what was registered last is what counts. A function of another name or
        module is taken for an oversight.
    build : callable
        ``build(channels, n_classes, activation, dropout)`` returns an untrained :class:`torch.nn.Module` that maps
        images of shape (n_images, channels, height, width) to logits of shape (n_images, n_classes). Weights are then
        drawn by the recipe's ``init``, and the layout is that of the module's ``state_dict()``. To train in several
        processes, it must be one that can be sent there: a function of a module or of the main script.
    channels : int or sequence of int, optional
        Numbers of image channels that it takes. Default: any.
    overwrite : bool, default=False
        Register it also where another function has that name; not where one of the named architectures has.

    Raises
    ------
    ValueError
        If there is another architecture of that name, the name is empty, or ``channels`` are no positive whole numbers.
    TypeError
        If ``build`` cannot be called.

    Notes
    -----
    Such networks are trained by PyTorch one after the other; the compiled engine does not know them. While one is
    trained, torch's global generator is seeded from the model's seed, and put back afterwards, so that
    ``torch.nn.Dropout`` may be used. Threads of one process have one such generator, and so train such networks in
    turn; processes train them side by side.

    A run that goes on trains again what an edited ``build`` would train differently: its code, that of the functions
    and classes of your own that it uses, and what it builds are compared, and a finished zoo of other code is not given
    out for one of this. Comments and docstrings make no difference, and caches such as ``functools.lru_cache`` are
    looked through. Not seen are edits of libraries, which are taken to be as they were; of what is found by a name that
    is only put together at run time, as by ``getattr`` or from a file; and of the first value of a global variable that
    the code itself assigns (``global n``). Seen where there is no edit is a list, dictionary or attribute that building
    a network changes, such as a cache of your own: a second run in the same process then finds other code. Keep such
    things inside the function, or use ``functools.lru_cache``. Another version of Python may find other code as well.

    Examples
    --------
    >>> from torch import nn
    >>> from zoobench.generators import Recipe, make_zoo, register_architecture
    >>> def build(channels, n_classes, activation, dropout):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(channels * 28 * 28, n_classes))
    >>> register_architecture("one_layer", build)
    >>> recipe = Recipe(architecture="one_layer", seeds=[1, 2], n_epochs=1, batch_size=100, name="tiny")
    >>> recipe.layout
    WeightLayout(1 layers, 7850 weights)
    >>> zoo = make_zoo(recipe)
    >>> zoo.module(0)[1].weight.shape
    torch.Size([10, 784])
    """
    if not str(name).strip():
        raise ValueError(f"the name of an architecture must not be empty, but is {name!r}")
    if not callable(build):
        raise TypeError(f"build must be callable: build(channels, n_classes, activation, dropout), not {build!r}")
    if name in VARIANTS:
        raise ValueError(f"there is an architecture {name!r} already, a named one; choose another name")
    before = _REGISTERED.get(name)
    if before is not None and not overwrite and _place_of(before.build) != _place_of(build):
        there, given = (".".join(_place_of(function)) for function in (before.build, build))
        raise ValueError(
            f"there is an architecture {name!r} already, registered with {there}, and not with {given}; choose another "
            "name, or give overwrite=True"
        )
    _REGISTERED[name] = RegisteredArchitecture(build, _checked_channels(channels))


def _place_of(build: Any) -> tuple[str, str]:
    """Module and name of what builds, which an edit does not change; of other callables, of what they are made from."""
    while isinstance(build, functools.partial):
        build = build.func
    named = build if hasattr(build, "__qualname__") else type(build)
    return str(named.__module__), str(named.__qualname__)


def _checked_channels(channels: Any) -> tuple[int, ...] | None:
    if channels is None:
        return None
    several = isinstance(channels, Iterable) and not isinstance(channels, str)
    given = tuple(channels) if several else (channels,)
    if not given or any(isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 1 for n in given):
        raise ValueError(f"channels must be a positive whole number or several of them, not {channels!r}")
    return tuple(map(int, given))


def registered(name: str) -> RegisteredArchitecture | None:
    """What was registered under a name, if anything was."""
    return _REGISTERED.get(name)


def build_registered(name: str, *, channels: int, n_classes: int, activation: str, dropout: float) -> torch.nn.Module:
    """An untrained network of an architecture that was registered; torch's global generator stays as it was."""
    import torch

    architecture = _REGISTERED[name]
    if architecture.channels is not None and channels not in architecture.channels:
        takes = " or ".join(map(str, architecture.channels))
        raise ValueError(f"architecture {name!r} takes {takes} image channels, not {channels!r}")
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        module: Any = architecture.build(channels, n_classes, activation, dropout)
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"architecture {name!r} was to build a torch.nn.Module, but built {type(module).__name__}")
    return module


def layout_of(name: str, *, channels: int, n_classes: int) -> WeightLayout:
    """Layout of an architecture, a named or a registered one.

    Raises
    ------
    ValueError
        If the architecture is unknown, or does not take so many channels or classes.
    """
    if name in VARIANTS:
        return WeightLayout.from_architecture(name, channels=channels, n_classes=n_classes)
    if name not in _REGISTERED:
        raise ValueError(unknown_architecture(name))
    return _registered_layout(name, _REGISTERED[name], channels, n_classes)


@functools.lru_cache(maxsize=8)
def _registered_layout(name: str, _: RegisteredArchitecture, channels: int, n_classes: int) -> WeightLayout:
    module = build_registered(name, channels=channels, n_classes=n_classes, activation="relu", dropout=0.0)
    return WeightLayout.from_state_dict(module.state_dict())


def unknown_architecture(name: str) -> str:
    """The message about an architecture that is neither named nor registered."""
    return (
        f"unknown architecture {name!r}{hint(name, (*VARIANTS, *_REGISTERED))}; "
        "one of your own has to be registered first: zoobench.generators.register_architecture(name, build)"
    )


@contextlib.contextmanager
def global_generator_seeded(seed: int, device: str) -> Iterator[None]:
    """Torch's global generator from a seed, that of a CUDA device too; no other thread's networks meanwhile draw."""
    import torch

    on_cuda = torch.device(device).type == "cuda"
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def architecture_code(name: str, *, channels: int, n_classes: int) -> str | None:
    """Digest of what a registered architecture does, as far as that can be told; None for one that is named.

    Its code, and the network that it builds, for networks that are copies of one that was built elsewhere.
    """
    from zoobench.generators.code_digest import code_digest

    if name not in _REGISTERED:
        return None
    module = build_registered(name, channels=channels, n_classes=n_classes, activation="relu", dropout=0.0)
    return code_digest((_REGISTERED[name].build, repr(module)))


def restore_architecture(name: str, architecture: RegisteredArchitecture | None) -> None:
    """Register what came with a recipe from another process, in place of what an earlier one had brought."""
    if architecture is not None:
        _REGISTERED[name] = architecture
