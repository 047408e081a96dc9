"""The one training loop of all neural estimators: seeded, on any device, with early stopping and a loss curve."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from numbers import Integral
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Tensor, nn

#: A loss, or a loss and what it is the sum of, for the history.
Loss = Tensor | tuple[Tensor, Mapping[str, Tensor]]

_Module = TypeVar("_Module", bound=nn.Module)

_OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

#: torch's initialisers draw from the one global generator, which two threads must not set at a time.
_GLOBAL_GENERATOR = Lock()


def resolve_device(device: str) -> str:
    """The device that an argument stands for.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"} or str
        ``"auto"`` is CUDA where there is any, else the CPU.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the device is unknown, or not on this machine.
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        kind = None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is unknown; use 'auto', 'cpu' or 'cuda'")
    if kind == "cuda" and not available:
        raise ValueError(f"device {device!r} is not available on this machine (no CUDA); use 'cpu' or 'auto'")
    return device


def seed_of(random_state: Any) -> int:
    """The seed that a ``random_state`` argument stands for.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        An integer is the seed itself; a RandomState draws one; None draws one from numpy's global state, as everywhere
        in scikit-learn.

    Returns
    -------
    int
    """
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def seeded(build: Callable[[], _Module], seed: int) -> _Module:
    """Build a module whose initial weights depend on a seed only.

    Parameters
    ----------
    build : callable
        Makes the module, on the CPU: so it starts from the same weights on every device.
    seed : int
        Seed of torch's global generator while ``build`` runs; its state is put back afterwards.

    Returns
    -------
    Module
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # that of the CPU alone: nobody puts back those of other devices
        return build()


class SeededDropout(nn.Module):
    """Dropout whose masks come from the generator of :func:`train`, where torch's own draws from the global one.

    Parameters
    ----------
    p : float
        Probability that an entry is zeroed while training; the others are scaled by ``1 / (1 - p)``.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Zero some entries while training; leave all as they are otherwise."""
        if not self.training or self.p == 0:
            return values
        # Several times as fast on the CPU as bernoulli_.
        kept = torch.rand(values.shape, generator=self.generator, device=values.device) >= self.p
        return values * kept / (1 - self.p)


def train(
    module: nn.Module,
    batch_loss: Callable[[Tensor, torch.Generator], Loss],
    n_rows: int,
    *,
    max_epochs: int,
    batch_size: int,
    lr: float,
    seed: int,
    device: str,
    weight_decay: float = 0.0,
    optimizer: str = "adam",
    schedule: str | None = None,
    validation_loss: Callable[[], Loss | float] | None = None,
    n_iter_no_change: int | None = None,
    tol: float = 0.0,
    n_threads: int | None = None,
    verbose: int = 0,
    description: str = "training",
) -> dict[str, list[float]]:
    """Train a module in place.

    Batch orders and noise come from generators of their own, made from ``seed``: nothing depends on torch's global
    state, and nothing changes it. Orders are drawn on the CPU, so they are the same on every device.

    Parameters
    ----------
    module : Module
        Is moved to ``device``; in training mode while batches are computed, in evaluation mode for the validation
        loss and afterwards.
    batch_loss : callable
        ``batch_loss(rows, generator)`` gives the mean loss of some rows: ``rows`` is an int64 tensor on the device,
        ``generator`` lies there too and is for noise. It may return ``(loss, parts)``, where ``parts`` maps names to
        scalars that go into the history beside the loss. Data should lie on the device already.
    n_rows : int
        Number of training rows.
    max_epochs : int
        Passes over the rows, unless stopped early.
    batch_size : int
        Rows a step. The last batch of an epoch is smaller; a single row that is left joins the batch before, because
        one row has no batch statistics.
    lr : float
        Learning rate, with a schedule the highest.
    seed : int
        Seed of orders and noise.
    device : str
        What :func:`resolve_device` returns.
    weight_decay : float, default=0.0
        As torch defines it: of the gradient for ``"adam"``, of the weights for ``"adamw"``.
    optimizer : {"adam", "adamw"}, default="adam"
        What updates the weights.
    schedule : {"onecycle", "cosine"} or None, default=None
        Learning rate over all steps of ``max_epochs``: torch's OneCycleLR, a cosine from ``lr`` to zero, or constant.
    validation_loss : callable, optional
        ``validation_loss()``, without gradients: a number to watch after each epoch, the smaller the better, or
        ``(number, parts)``. If given, the weights of its best epoch are kept in the end.
    n_iter_no_change : int, optional
        Stop when the validation loss has not fallen by more than ``tol`` for that many epochs.
    tol : float, default=0.0
        See ``n_iter_no_change``. Which epoch is the best does not depend on it.
    n_threads : int, optional
        Threads of torch on the CPU meanwhile; by default as many as torch is set to. With 1 the result does not depend
        on the machine's number of cores, and small networks train faster.
    verbose : int, default=0
        Above zero, a progress bar of epochs on standard error.
    description : str, default="training"
        What the bar says.

    Returns
    -------
    dict of list of float
        One entry an epoch: ``"loss"`` and its parts, means over the rows, and if validation data are watched
        ``"validation_loss"`` and ``"validation_<part>"``.

    Raises
    ------
    ValueError
        If the loss becomes NaN or infinite, and there is no epoch whose weights could be kept; else that ends the
        training with a ConvergenceWarning.

    Examples
    --------
    >>> import torch
    >>> from zoobench.estimators.torch_training import seeded, train
    >>> x = torch.linspace(-1, 1, 100)[:, None]
    >>> line = seeded(lambda: torch.nn.Linear(1, 1), seed=0)
    >>> history = train(
    ...     line, lambda rows, generator: (line(x[rows]) - 2 * x[rows]).square().mean(), len(x),
    ...     max_epochs=99, batch_size=10, lr=0.01, seed=0, device="cpu",
    ... )
    >>> len(history["loss"]), round(line.weight.item(), 2)
    (99, 2.0)
    """
    module.to(device)
    order, noise = _generators(seed, device)
    n_batches = len(_sizes(n_rows, batch_size))
    updates = _OPTIMIZERS[optimizer](module.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    scheduler = _scheduler(schedule, updates, lr, max_epochs * n_batches)
    history: dict[str, list[float]] = {}
    best, kept = np.inf, None
    stale = _Patience(n_iter_no_change, tol)

    def epoch() -> dict[str, float]:
        totals: dict[str, Any] = {}
        rows_in_order = torch.randperm(n_rows, generator=order).to(device)
        for rows in rows_in_order.split(_sizes(n_rows, batch_size)):
            updates.zero_grad()
            loss, parts = _with_parts(batch_loss(rows, noise))
            loss.backward()
            updates.step()
            if scheduler is not None:
                scheduler.step()
            for name, value in {"loss": loss, **parts}.items():
                totals[name] = totals.get(name, 0.0) + value.detach() * (len(rows) / n_rows)
        return {name: float(value) for name, value in totals.items()}

    with _threads(n_threads), _noise_for(module, noise), _progress(max_epochs, verbose, description) as bar:
        for number in count(1):
            module.train()
            measured = epoch()
            if validation_loss is not None:
                module.eval()
                with torch.no_grad():
                    watched, parts = _with_parts(validation_loss())
                measured["validation_loss"] = float(watched)
                measured |= {f"validation_{name}": float(value) for name, value in parts.items()}
            for name, value in measured.items():
                history.setdefault(name, []).append(value)
            bar.set_postfix({name: f"{value:.4g}" for name, value in measured.items()}, refresh=False)
            bar.update()
            watched = measured.get("validation_loss", measured["loss"])
            if not np.isfinite([watched, measured["loss"]]).all():
                _diverged(number, lr, kept is not None)
                break
            if validation_loss is not None and watched < best:
                best, kept = watched, {name: value.clone() for name, value in module.state_dict().items()}
            if number == max_epochs or (validation_loss is not None and stale.ended(watched)):
                break
    if kept is not None:
        module.load_state_dict(kept)
    module.eval()
    return history


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Parameters and buffers of a module as numpy arrays, which pickle and skops store without torch.

    Parameters
    ----------
    module : Module
        On any device.

    Returns
    -------
    dict of ndarray
        Name -> copy of the tensor.
    """
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_arrays(module: _Module, arrays: Mapping[str, np.ndarray]) -> _Module:
    """Put back what :func:`to_arrays` gave.

    Parameters
    ----------
    module : Module
        Of the same build.
    arrays : mapping of str to ndarray
        Name -> values.

    Returns
    -------
    Module
        The same module, in evaluation mode.
    """
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in arrays.items()})
    return module.eval()


def _generators(seed: int, device: str) -> tuple[torch.Generator, torch.Generator]:
    """For batch orders, on the CPU, and for noise, on the device; neither is that of the initialisation."""
    first, second = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    return (
        torch.Generator().manual_seed(int(first >> np.uint64(1))),
        torch.Generator(device).manual_seed(int(second >> np.uint64(1))),
    )


def _sizes(n_rows: int, batch_size: int) -> list[int]:
    """Rows of each batch."""
    sizes = [batch_size] * (n_rows // batch_size)
    rest = n_rows % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def _with_parts(found: Any) -> tuple[Any, Mapping[str, Any]]:
    return found if isinstance(found, tuple) else (found, {})


def _scheduler(kind: str | None, optimizer: Any, lr: float, n_steps: int) -> Any:
    if kind is None:
        return None
    if kind == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=max(n_steps, 2))
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=n_steps)


class _Patience:
    """Whether a loss has not fallen for too long."""

    def __init__(self, n_iter_no_change: int | None, tol: float) -> None:
        self._limit, self._tol = n_iter_no_change, tol
        self._reference, self._n_stale = np.inf, 0

    def ended(self, loss: float) -> bool:
        if loss < self._reference - self._tol:
            self._reference, self._n_stale = loss, 0
        else:
            self._n_stale += 1
        return self._limit is not None and self._n_stale >= self._limit


def _diverged(epoch: int, lr: float, something_is_kept: bool) -> None:
    said = f"the loss is NaN or infinite in epoch {epoch}"
    if not something_is_kept:
        raise ValueError(f"training diverged: {said}; scale the features, or use a smaller lr than {lr:g}")
    warnings.warn(
        f"training diverged and was stopped: {said}; the best epoch is kept", ConvergenceWarning, stacklevel=3
    )


class _Limited:
    """How many trainings have set torch's number of threads, and what it was before the first."""

    lock, n_trainings, before = Lock(), 0, 1


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Torch on so many threads meanwhile, and afterwards on as many as the first of several that overlap has found."""
    if number is None:
        yield
        return
    with _Limited.lock:
        if not _Limited.n_trainings:
            _Limited.before = torch.get_num_threads()
        _Limited.n_trainings += 1
    torch.set_num_threads(number)
    try:
        yield
    finally:
        with _Limited.lock:
            _Limited.n_trainings -= 1
            torch.set_num_threads(_Limited.before)


@contextmanager
def _noise_for(module: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Give dropout its generator, and take it away again: a generator can be neither copied nor stored."""
    dropouts = [part for part in module.modules() if isinstance(part, SeededDropout)]
    for part in dropouts:
        part.generator = generator
    try:
        yield
    finally:
        for part in dropouts:
            part.generator = None


def _progress(n_epochs: int, verbose: int, description: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=n_epochs, desc=description, unit="epoch", disable=not verbose)
