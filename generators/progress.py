"""What a run shows while it trains: models, epochs, accuracy and the time that is left."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoobench.generators.recipes import Recipe
    from zoobench.generators.training import TrainedModel

#: A model in work counts by its epochs, so that the time left is known before the first is finished.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total} models [{elapsed}<{remaining}{postfix}]"


class Progress:
    """The progress bar of a run; nothing where standard error is no terminal.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    n_finished : int
        Models that an earlier run has finished.
    """

    def __init__(self, recipe: Recipe, n_finished: int) -> None:
        from tqdm import tqdm

        self._n_epochs = recipe.epochs[-1]
        self._n_finished = n_finished
        self._accuracies: list[float] = []
        self._bar: Any = tqdm(
            total=recipe.n_models,
            initial=n_finished,
            desc=f"training {recipe.name}",
            bar_format=_FORMAT,
            disable=None,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.close()

    def watch(self, n_models: int, epoch: int, accuracy: float) -> None:
        """So many models in work have ended an epoch; the accuracy is their median, on the test images."""
        self._bar.set_postfix({"epoch": f"{epoch}/{self._n_epochs}", "test_acc": f"{accuracy:.3f}"}, refresh=False)
        self._bar.update(n_models / self._n_epochs if epoch else 0)

    def finished(self, trained: Iterable[TrainedModel]) -> None:
        """So many more models are finished, however many epochs of them were seen."""
        last = [float(model.metrics[-1, -1]) for model in trained]
        self._accuracies += last
        self._n_finished += len(last)
        self._bar.set_postfix({"test_acc": f"{np.median(self._accuracies):.3f}"}, refresh=False)
        self._bar.update(self._n_finished - self._bar.n)
