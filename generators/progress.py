"""What a run shows while it trains: models, epochs, accuracy and the time that is left."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from zoobench.generators.training import TrainedModel

#: A model in work counts by its epochs, so that the time left is known before the first is finished.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} models [{elapsed}<{remaining}{postfix}]"

#: Seconds between two looks at what other processes have reported.
_INTERVAL = 0.5


class Named(Protocol):
    """What is known by a name, such as a model."""

    @property
    def name(self) -> str:
        """Its name."""


class Plan(Protocol):
    """What is trained: a recipe, or what tells as much of itself."""

    @property
    def name(self) -> str | None:
        """Name of the zoo."""

    @property
    def n_models(self) -> int:
        """Its models."""

    @property
    def epochs(self) -> Sequence[int]:
        """The epochs after which a state is kept, ascending."""


class Progress:
    """The progress bar of a run; nothing where standard error is no terminal.

    Parameters
    ----------
    plan : Plan
        What is trained.
    n_finished : int
        Models that an earlier run has finished.
    """

    def __init__(self, plan: Plan, n_finished: int) -> None:
        from tqdm import tqdm

        self._n_epochs = plan.epochs[-1]
        self._n_finished = n_finished
        self._accuracies: list[float] = []
        self._bar: Any = tqdm(
            total=plan.n_models,
            initial=n_finished,
            desc=f"training {plan.name}",
            bar_format=_FORMAT,
            disable=None,
        )
        self._reports: dict[str, Path] = {}
        self._folder: Path | None = None
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closed.set()
        if self._listener.is_alive():
            self._listener.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._bar.close()

    def watch(self, n_models: int, epoch: int, accuracy: float, **others: float) -> None:
        """So many models in work have ended an epoch; what was measured are their medians, on the test images."""
        self._show({"test_acc": accuracy, **others}, epoch=f"{epoch}/{self._n_epochs}")
        self._bar.update(n_models / self._n_epochs if epoch else 0)

    def finished(self, trained: Iterable[TrainedModel], first: str = "", **others: float) -> None:
        """So many more models are finished, however many epochs of them were seen; ``first`` names their chunk."""
        last = [float(model.metrics[-1, -1]) for model in trained]
        with self._lock:
            self._reports.pop(first, None)
            self._accuracies += last
            self._n_finished += len(last)
            self._show({"test_acc": float(np.median(self._accuracies)), **others})
            self._bar.update(self._n_finished + sum(told[0] for told in self._told()) - self._bar.n)

    # -- what is trained in other processes ----------------------------------------------------------------------------

    def reporter(self, models: Sequence[Named]) -> Report | None:
        """What tells of a chunk, called by its first model, in another process; None where nobody would see it."""
        if self._bar.disable:
            return None
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="zoobench-progress-"))
            self._listener.start()
        first = models[0].name
        path = self._folder / blake2b(first.encode(), digest_size=8).hexdigest()
        with self._lock:
            self._reports[first] = path
        return Report(path, len({model.name for model in models}) / len(models) / max(1, self._n_epochs))

    def _listen(self) -> None:
        while not self._closed.wait(_INTERVAL):
            with self._lock:
                self._look()

    def _look(self) -> None:
        if not (told := self._told()):
            return
        first, last = min(epoch for _, epoch, _ in told), max(epoch for _, epoch, _ in told)
        epochs = f"{first:.0f}" if first == last else f"{first:.0f}-{last:.0f}"
        measured = {}
        for name in told[0][2]:
            values = [of_chunk[name] for *_, of_chunk in told if not math.isnan(of_chunk[name])]
            if values:
                measured[name] = float(np.median(values))
        self._show(measured, epoch=f"{epochs}/{self._n_epochs}")
        self._bar.update(self._n_finished + sum(n_models for n_models, *_ in told) - self._bar.n)
        self._bar.refresh()

    def _show(self, measured: Mapping[str, float], **others: str) -> None:
        shown = {**others, **{name: f"{value:.3f}" for name, value in measured.items()}}
        self._bar.set_postfix(shown, refresh=False)

    def _told(self) -> list[tuple[float, float, dict[str, float]]]:
        """Of each chunk in work: how many models' worth of epochs are done, the last epoch, and what was measured."""
        told = []
        for path in self._reports.values():
            with suppress(OSError, ValueError):  # not begun, or on a machine that does not share the folder
                n_models, epoch, measured = json.loads(path.read_text())
                told.append((n_models, epoch, measured))
        return told


class Report:
    """Tells of a chunk that is trained in another process, through a small file.

    Files serve every backend of joblib on this machine. On another machine of a cluster there is no such folder:
    nothing is told, and the bar moves when the chunk is finished.

    Parameters
    ----------
    path : Path
        The file.
    weight : float
        Models that one epoch of one model counts for.
    """

    def __init__(self, path: Path, weight: float) -> None:
        self.path, self.weight = path, weight
        self.n_models = 0.0

    def __call__(self, n_models: int, epoch: int, accuracy: float, **others: float) -> None:
        """As :meth:`Progress.watch`."""
        self.n_models += n_models * self.weight if epoch else 0
        scratch = self.path.with_suffix(".writing")
        with suppress(OSError):
            scratch.write_text(json.dumps([self.n_models, epoch, {"test_acc": accuracy, **others}]))
            os.replace(scratch, self.path)
