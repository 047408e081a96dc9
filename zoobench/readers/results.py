"""What Ray Tune notes of a trial: params.json and result.json."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from zoobench.properties import CATEGORICAL, HYPERPARAMETERS, MEASURED, canonical_name

#: Properties read off a result line. The epoch says which line it is; ggap is computed.
RESULT_KEYS = tuple(name for name in MEASURED if name not in ("epoch", "ggap"))

#: What the zoos of June 2022 write for a measurement that was not made.
_MISSING = -999.0

#: With such a measurement in it, a difference of accuracies is far below any that can be.
_LEAST_GGAP = -900.0


@dataclass
class TrialNotes:
    """What is known of a model besides its weights.

    Attributes
    ----------
    hyperparameters : dict or None
        Canonical name -> value; None where nothing readable was found.
    measured : dict of int to tuple of float
        Epoch -> values of ``(*RESULT_KEYS, "ggap")``, NaN where missing.
    n_garbled : int
        Lines of result.json that are no JSON.
    """

    hyperparameters: dict[str, Any] | None = None
    measured: dict[int, tuple[float, ...]] = field(default_factory=dict)
    n_garbled: int = 0

    def add_params(self, content: bytes | memoryview) -> None:
        """Take hyper-parameters from params.json, if it can be read."""
        params = _json(str(content, "utf-8", "replace"))
        if isinstance(params, dict):
            self.hyperparameters = _hyperparameters(params)

    def add_results(self, content: bytes | memoryview) -> None:
        """Take measurements from result.json: of two lines for an epoch the later, as a resumed run writes them."""
        for line in str(content, "utf-8", "replace").split("\n"):
            if not line.strip():
                continue
            result = _json(line)
            epoch = number(result.get("training_iteration")) if isinstance(result, dict) else math.nan
            if not epoch.is_integer() or epoch < 0:
                self.n_garbled += 1
                continue
            named = {canonical_name(key): value for key, value in result.items()}
            values = {key: measurement(key, named.get(key)) for key in RESULT_KEYS}
            self.measured[int(epoch)] = (*values.values(), values["train_acc"] - values["test_acc"])
            # Every line repeats the configuration: that helps where a killed run left no params.json.
            if self.hyperparameters is None and isinstance(result.get("config"), dict):
                self.hyperparameters = _hyperparameters(result["config"])


def number(value: Any) -> float:
    """A number of a file as float; NaN for anything that is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def measurement(name: str, value: Any) -> float:
    """A measured number; NaN also for what the published files hold where nothing was measured."""
    result = number(value)
    return math.nan if result == _MISSING or (name == "ggap" and result <= _LEAST_GGAP) else result


def hyperparameter(name: str, value: Any) -> str | float | None:
    """A hyper-parameter in its canonical type: a string or None where it is a name, else a float."""
    if name in CATEGORICAL:
        return None if value is None else str(value)
    return number(value)


def _hyperparameters(params: dict[str, Any]) -> dict[str, Any]:
    named = {canonical_name(key): value for key, value in params.items()}
    return {
        name: named[name] if name == "seed" else hyperparameter(name, named[name])
        for name in (*HYPERPARAMETERS, "seed")
        if name in named
    }


def _json(content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
