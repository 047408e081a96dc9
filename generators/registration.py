"""Architectures that a user adds to those that the generators know."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoobench.architecture_shapes import VARIANTS
from zoobench.generators.recipe_checks import hint
from zoobench.layout import WeightLayout

if TYPE_CHECKING:
    import torch

    Build = Callable[[int, int, str, float], torch.nn.Module]


@dataclass(frozen=True)
class RegisteredArchitecture:
    """What :func:`register_architecture` was given."""

    build: Build
    channels: tuple[int, ...] | None


_REGISTERED: dict[str, RegisteredArchitecture] = {}

#: Held while a registered network may draw from torch's global generator, of which all threads have one.
_GLOBAL_GENERATOR = threading.RLock()


def register_architecture(name: str, build: Build, *, channels: int | tuple[int, ...] | None = None) -> None:
    """Add an architecture of your own, for recipes, for the training of zoos and for :meth:`Zoo.module`.

    It holds for this process and for the workers that it starts. A script that reads the zoo later has to register it
    again.

    Parameters
    ----------
    name : str
        What recipes call it; none that is there already.
    build : callable
        ``build(channels, n_classes, activation, dropout)`` returns an untrained :class:`torch.nn.Module` that maps
        images of shape (n_images, channels, height, width) to logits of shape (n_images, n_classes). Weights are then
        drawn by the recipe's ``init``, and the layout is that of the module's ``state_dict()``. To train in several
        processes, it must be one that can be sent there: a function of a module or of the main script.
    channels : int or tuple of int, optional
        Numbers of image channels that it takes. Default: any.

    Raises
    ------
    ValueError
        If there is an architecture of that name, or the name is empty.
    TypeError
        If ``build`` cannot be called.

    Notes
    -----
    Such networks are trained by PyTorch one after the other; the compiled engine does not know them. While one is
    trained, torch's global generator is seeded from the model's seed, and put back afterwards, so that
    ``torch.nn.Dropout`` may be used. Threads of one process have one such generator, and so train such networks in
    turn; processes train them side by side.

    A run that goes on trains again what an edited ``build`` would train differently: its code, that of the functions
    and classes of your own that it uses, and what it builds are compared. Libraries are taken to be as they were.

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
    if name in VARIANTS or name in _REGISTERED:
        raise ValueError(f"there is an architecture {name!r} already; choose another name")
    _REGISTERED[name] = RegisteredArchitecture(build, (channels,) if isinstance(channels, int) else channels)


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
