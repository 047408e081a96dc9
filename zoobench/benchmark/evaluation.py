"""One fold of one protocol, for all methods that share their features: the unit that is sent to a worker."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from zoobench.benchmark.data import Data, States, is_known, load
from zoobench.benchmark.protocols import Fold, seed_of
from zoobench.benchmark.threads import one_quiet_thread
from zoobench.layout import WeightLayout
from zoobench.properties import HYPERPARAMETERS

if TYPE_CHECKING:
    from zoobench.benchmark.entries import Entry
    from zoobench.benchmark.tasks import Task


class Outcome(NamedTuple):
    """What one method said of one property in one fold.

    Attributes
    ----------
    method, property : str
        Which.
    fold : int
        Its number in the protocol.
    rows : ndarray of int
        Rows of the judging zoo that were predicted: those of the fold of which the property is known and finite.
    predicted : ndarray or None
        Numbers or names; None if it failed.
    error : str or None
        Why it failed.
    fit_seconds, predict_seconds : float
        Time of the clock. What several methods share counts in full for each of them.
    peak_memory : int or None
        Largest resident set of the process meanwhile, in bytes, where the system tells it.
    settings : str
        The estimator, as it was built.
    data_sha256 : str
        Checksums of the zoos that these are rows of; empty if it came to none.
    """

    method: str
    property: str
    fold: int
    rows: np.ndarray
    predicted: np.ndarray | None
    error: str | None
    fit_seconds: float
    predict_seconds: float
    peak_memory: int | None
    settings: str
    data_sha256: str


def evaluate(tasks: tuple[Task, ...], fold: int, entries: tuple[Entry, ...]) -> list[Outcome]:
    """Fit some methods on one fold and let them predict.

    Parameters
    ----------
    tasks : tuple of Task
        What is predicted; they differ in nothing but the property.
    fold : int
        Which fold.
    entries : tuple of Entry
        Methods. Those that transform the weights alike share the result.

    Returns
    -------
    list of Outcome
        One a method and property. A method that fails yields an outcome that says why.
    """
    shared: dict[str, _Features | Exception] = {}
    return [_judge(fold, entry, task, shared) for entry in entries for task in tasks]


def failed(tasks: tuple[Task, ...], fold: int, entries: tuple[Entry, ...], error: str) -> list[Outcome]:
    """What :func:`evaluate` would have returned, of a call that came to nothing."""
    nothing = np.empty(0, dtype=np.intp)
    return [
        Outcome(entry.name, task.property, fold, nothing, None, error, 0.0, 0.0, None, "", "")
        for entry in entries
        for task in tasks
    ]


def unfitted(task: Task, fold: int, entry: Entry, layout: WeightLayout) -> Any:
    """The estimator of a method for one task in one fold."""
    return entry.build(task.kind, task.property, layout, seed_of(task.zoo, task.protocol, fold))


class _Features(NamedTuple):
    train: Any
    val: Any
    test: Any
    fit_seconds: float
    predict_seconds: float


def _judge(number: int, entry: Entry, task: Task, shared: dict[str, _Features | Exception]) -> Outcome:
    name, kind = task.property, task.kind
    settings, predicted, error, fitting, predicting, digest = "", None, None, 0.0, 0.0, ""
    test = np.empty(0, dtype=np.intp)
    peak = _PeakMemory()
    try:
        data = load(task)
        fold, digest = data.folds[number], data.digest
        lacking = [states for states in (data.fit, data.judge) if name not in states.properties]
        if lacking:
            raise ValueError(f"a zoo of {task.id} has no property {name!r}; it has {', '.join(lacking[0].properties)}")
        train, val, test = (rows[is_known(table[name])[rows]] for rows, table in _parts(data, fold))
        for rows, use in ((train, "fit on"), (test, "judge")):
            if not len(rows):
                raise ValueError(f"in fold {number + 1}, {name!r} of every state to {use} is unknown or infinite")
        estimator, ours = unfitted(task, number, entry, data.fit.layout), entry.maker is None
        settings = in_one_line(estimator)
        with one_quiet_thread():
            features = _features(data, fold, entry, estimator, name, shared)
            predictor = estimator[-1] if _is_ours(entry, estimator) else estimator
            y, y_val = (data.fit.properties[name].to_numpy()[rows] for rows in (train, val))
            y, y_val = (_plain(values, kind) for values in (y, y_val))
            begin = time.perf_counter()
            held_out = {"groups": data.fit.groups[train]}
            if len(val):
                held_out |= {"X_val": _rows(features.val, np.searchsorted(fold.val, val), ours), "y_val": y_val}
            extra = {said: held_out[key] for said, key in _taken(predictor).items() if key in held_out}
            predictor.fit(_rows(features.train, np.searchsorted(fold.train, train), ours), y, **extra)
            middle = time.perf_counter()
            predicted = _checked(
                predictor.predict(_rows(features.test, np.searchsorted(fold.test, test), ours)), len(test), kind
            )
            fitting = features.fit_seconds + middle - begin
            predicting = features.predict_seconds + time.perf_counter() - middle
    # Whatever a method does wrong is its own result, and no other's.
    except (Exception, SystemExit) as failure:
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    return Outcome(entry.name, name, number, test, predicted, error, fitting, predicting, peak.read(), settings, digest)


def _parts(data: Data, fold: Fold) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    return zip(fold, (data.fit.properties, data.fit.properties, data.judge.properties), strict=True)


def _features(
    data: Data, fold: Fold, entry: Entry, estimator: Any, name: str, shared: dict[str, _Features | Exception]
) -> _Features:
    """Inputs of the last step: the transformers before it are fitted, or fail, once for all that share them."""
    steps = [step for _, step in estimator.steps[:-1]] if _is_ours(entry, estimator) else []
    left_out = name if entry.inputs != "weights" and name in HYPERPARAMETERS else None
    # What looks at nothing needs no copy of all weights.
    narrow = _is_ours(entry, estimator) and isinstance(estimator[0], DummyClassifier | DummyRegressor)
    key = joblib.hash((data.digest, entry.inputs, left_out, narrow, steps))
    if key not in shared:
        try:
            shared[key] = _transformed(data, fold, entry.inputs, left_out, narrow, steps)
        except Exception as error:
            shared[key] = error
    found = shared[key]
    if isinstance(found, Exception):
        raise found
    return found


def _is_ours(entry: Entry, estimator: Any) -> bool:
    """Whether the last step is fitted apart from the transformers before it: those of this library never look at y."""
    return entry.maker is None and isinstance(estimator, Pipeline)


def _transformed(
    data: Data, fold: Fold, inputs: str, left_out: str | None, narrow: bool, steps: list[Any]
) -> _Features:
    """Inputs of the last step; each transformer before it is told by which states it may choose when to stop."""
    names, parts = hyperparameters(data, left_out), (data.fit, data.fit, data.judge)
    train, val, test = (_inputs(states, rows, inputs, names, narrow) for rows, states in zip(fold, parts, strict=True))
    fitting = predicting = 0.0
    for step in steps:
        held_out = {"groups": data.fit.groups[fold.train], **({"X_val": val} if len(val) else {})}
        begin = time.perf_counter()
        extra = {said: held_out[key] for said, key in _taken(step).items() if key in held_out}
        train = step.fit(train, **extra).transform(train) if extra else step.fit_transform(train)
        middle = time.perf_counter()
        val, test = (step.transform(part) if len(part) else part for part in (val, test))
        fitting, predicting = fitting + middle - begin, predicting + time.perf_counter() - middle
    return _Features(train, val, test, fitting, predicting)


def _inputs(states: States, rows: np.ndarray, inputs: str, names: list[str], narrow: bool) -> Any:
    """What a method sees of some states: weights (if narrow, the first alone), the hyper-parameters named, or both."""
    if inputs != "hyperparameters":
        stored = states.weights[:, :1] if narrow else states.weights
        weights = np.asarray(stored[states.rows[rows]])
    if inputs == "weights":
        return weights
    table = states.properties[names].iloc[rows]
    if inputs == "hyperparameters":
        return table
    frame = pd.DataFrame(weights, index=table.index, columns=[f"w{i}" for i in range(states.weights.shape[1])])
    return pd.concat([frame, table], axis=1)


def hyperparameters(data: Data, left_out: str | None) -> list[str]:
    """The hyper-parameters that the zoo to fit on and the one that judges both tell, without the one to predict."""
    tables = (data.fit.properties, data.judge.properties)
    return [name for name in HYPERPARAMETERS if all(name in table for table in tables) and name != left_out]


def _rows(features: Any, rows: np.ndarray, ours: bool) -> Any:
    """Some rows, as a copy unless they are all: but users' methods may write into what they get, and so get a copy."""
    if ours and len(rows) == len(features):
        return features
    return features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]


def _taken(predictor: Any) -> dict[str, str]:
    """What a fit takes to choose by, and what that is called. Of scikit-learn's own, only searches ask for groups."""
    if isinstance(predictor, BaseSearchCV):
        return {"groups": "groups"}
    if isinstance(predictor, Pipeline):
        # Validation data would have to go through its transformers, groups need not.
        name, last = predictor.steps[-1]
        return {f"{name}__groups": "groups"} if "groups" in _taken(last) else {}
    # The validation data that scikit-learn's boosting takes are for an early stopping that holds out rows.
    foreign = type(predictor).__module__.startswith("sklearn.")
    return {} if foreign else {key: key for key in signature(predictor.fit).parameters}


def _plain(values: Any, kind: str) -> np.ndarray:
    return np.asarray(values).astype(str if kind == "classification" else np.float64)


def _checked(predicted: Any, n_rows: int, kind: str) -> np.ndarray:
    """Predictions of the shape and kind that was asked for, or a ValueError."""
    predicted = np.asarray(predicted)
    if predicted.shape != (n_rows,):
        raise ValueError(f"predictions have shape {predicted.shape}, but ({n_rows},) was expected: one a state")
    predicted = _plain(predicted, kind)
    if kind == "regression" and not np.isfinite(predicted).all():
        raise ValueError(f"{int((~np.isfinite(predicted)).sum())} of {n_rows} predictions are NaN or infinite")
    return predicted


def in_one_line(estimator: Any) -> str:
    """An estimator with all that is not default, however long."""
    if isinstance(estimator, Pipeline):
        return " | ".join(in_one_line(step) for _, step in estimator.steps)
    text = estimator.__repr__(N_CHAR_MAX=10_000) if hasattr(estimator, "get_params") else repr(estimator)
    # Where a function lies in memory is another in each process.
    return " ".join(re.sub(" at 0x[0-9a-fA-F]+", "", text).split())


class _PeakMemory:
    """Largest resident set since it was made; needs Linux, which lets a process forget its earlier peak."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._known = False
        else:
            self._known = True

    def read(self) -> int | None:
        if not self._known:
            return None
        lines = Path("/proc/self/status").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
