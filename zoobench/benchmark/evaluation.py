"""One fold of one protocol, for all methods that share their features: the unit that is sent to a worker."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline

from zoobench.benchmark.protocols import Fold, folds, seed_of, selection, transferred_from
from zoobench.fetch import fetch_zoo
from zoobench.properties import CATEGORICAL, HYPERPARAMETERS
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.benchmark.entries import Entry


class Outcome(NamedTuple):
    """What one method said of one property in one fold.

    Attributes
    ----------
    method, property : str
        Which.
    fold : int
        Its number in the protocol.
    rows : ndarray of int
        Rows of the judging zoo that were predicted: those of the fold of which the property is known.
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


class Data(NamedTuple):
    """The zoo that is fitted on, the one that judges (the same but in a transfer), and the folds."""

    fit: Zoo
    judge: Zoo
    folds: list[Fold]


@lru_cache(maxsize=2)
def load(zoo: str, protocol: str) -> Data:
    """The states that a protocol uses, once a process.

    Parameters
    ----------
    zoo : str
        Name of the zoo that judges.
    protocol : str
        Its full name.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        If the zoos of a transfer have different layouts.
    """
    chosen: dict[str, Any] = {"properties": "epoch", **selection(protocol)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that states are left out is said once, by the process that asks for all this
        judge = fetch_zoo(zoo, **chosen)
        source = transferred_from(protocol)
        fit = judge if source is None else fetch_zoo(source, **chosen)
    if fit.layout != judge.layout:
        raise ValueError(f"{source} has {fit.layout!r} and {zoo} {judge.layout!r}, but a transfer needs one layout")
    found = folds(protocol, source or zoo, fit.properties, None if source is None else judge.properties)
    return Data(fit, judge, found)


def evaluate(zoo: str, protocol: str, fold: int, entries: tuple[Entry, ...], properties: tuple[str, ...]) -> list:
    """Fit some methods on one fold and let them predict.

    Parameters
    ----------
    zoo, protocol : str
        What is judged, and how.
    fold : int
        Which fold.
    entries : tuple of Entry
        Methods. Those that transform the weights alike share the result.
    properties : tuple of str
        What is predicted.

    Returns
    -------
    list of Outcome
        One a method and property. A method that fails yields an outcome that says why.
    """
    shared: dict[str, _Features | Exception] = {}
    return [_judge(fold, entry, name, (zoo, protocol), shared) for entry in entries for name in properties]


def unfitted(zoo: str, protocol: str, fold: int, entry: Entry, name: str) -> Any:
    """The estimator of a method for one property in one fold."""
    kind = "classification" if name in CATEGORICAL else "regression"
    return entry.build(kind, name, load(zoo, protocol).fit.layout, seed_of(zoo, protocol, fold))


class _Features(NamedTuple):
    train: Any
    val: Any
    test: Any
    fit_seconds: float
    predict_seconds: float


def _judge(
    number: int, entry: Entry, name: str, place: tuple[str, str], shared: dict[str, _Features | Exception]
) -> Outcome:
    settings, predicted, error, fitting, predicting = "", None, None, 0.0, 0.0
    test = np.empty(0, dtype=np.intp)
    peak = _PeakMemory()
    try:
        data = load(*place)
        fold = data.folds[number]
        train, val, test = (rows[table[name].notna().to_numpy()[rows]] for rows, table in _parts(data, fold))
        kind = "classification" if name in CATEGORICAL else "regression"
        estimator = unfitted(*place, number, entry, name)
        settings = in_one_line(estimator)
        with _one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = _features(data, fold, entry, estimator, name, shared)
            predictor = estimator[-1] if _shares_features(entry, estimator) else estimator
            y, y_val = (data.fit.properties[name].to_numpy()[rows] for rows in (train, val))
            y, y_val = (_plain(values, kind) for values in (y, y_val))
            begin = time.perf_counter()
            held_out = {"groups": data.fit.groups[train]}
            if len(val):
                held_out |= {"X_val": _rows(features.val, np.searchsorted(fold.val, val)), "y_val": y_val}
            extra = {key: held_out[key] for key in _taken(predictor) if key in held_out}
            predictor.fit(_rows(features.train, np.searchsorted(fold.train, train)), y, **extra)
            middle = time.perf_counter()
            predicted = _checked(
                predictor.predict(_rows(features.test, np.searchsorted(fold.test, test))), len(test), kind
            )
            fitting = features.fit_seconds + middle - begin
            predicting = features.predict_seconds + time.perf_counter() - middle
    # Whatever a method does wrong is its own result, and no other's.
    except (Exception, SystemExit) as failure:
        error = f"{type(failure).__name__}: {' '.join(str(failure).split())}"
    return Outcome(entry.name, name, number, test, predicted, error, fitting, predicting, peak.read(), settings)


def _parts(data: Data, fold: Fold) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    return zip(fold, (data.fit.properties, data.fit.properties, data.judge.properties), strict=True)


def _features(
    data: Data, fold: Fold, entry: Entry, estimator: Any, name: str, shared: dict[str, _Features | Exception]
) -> _Features:
    """Inputs of the last step: the transformers before it are fitted, or fail, once for all that share them."""
    steps = Pipeline(estimator.steps[:-1]) if _shares_features(entry, estimator) else None
    left_out = name if entry.inputs != "weights" else None
    key = joblib.hash((entry.inputs, left_out, steps))
    if key not in shared:
        try:
            shared[key] = _transformed(data, fold, entry.inputs, left_out, steps)
        except Exception as error:
            shared[key] = error
    found = shared[key]
    if isinstance(found, Exception):
        raise found
    return found


def _shares_features(entry: Entry, estimator: Any) -> bool:
    """Whether transformers are fitted apart from the last step: those of this library never look at y."""
    return entry.maker is None and isinstance(estimator, Pipeline) and len(estimator) > 1


def _transformed(data: Data, fold: Fold, inputs: str, left_out: str | None, steps: Pipeline | None) -> _Features:
    zoos = (data.fit, data.fit, data.judge)
    train, val, test = (_inputs(zoo, rows, inputs, left_out) for rows, zoo in zip(fold, zoos, strict=True))
    begin = middle = time.perf_counter()
    if steps is not None:
        train = steps.fit_transform(train)
        middle = time.perf_counter()
        val, test = (steps.transform(part) if len(part) else part for part in (val, test))
    return _Features(train, val, test, middle - begin, time.perf_counter() - middle)


def _inputs(zoo: Zoo, rows: np.ndarray, inputs: str, left_out: str | None) -> Any:
    """What a method sees of some states: weights, hyper-parameters without the one to predict, or both."""
    weights = np.asarray(zoo.data[rows]) if inputs != "hyperparameters" else None
    if inputs == "weights":
        return weights
    table = zoo.properties[[p for p in HYPERPARAMETERS if p in zoo.properties and p != left_out]].iloc[rows]
    if inputs == "hyperparameters":
        return table
    frame = pd.DataFrame(weights, index=table.index, columns=[f"w{i}" for i in range(zoo.data.shape[1])])
    return pd.concat([frame, table], axis=1)


def _rows(features: Any, rows: np.ndarray) -> Any:
    return features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]


def _taken(predictor: Any) -> set[str]:
    """What a fit takes to choose by. What scikit-learn's boosting takes is for an early stopping that is off."""
    if isinstance(predictor, BaseSearchCV):
        return {"groups"}
    foreign = type(predictor).__module__.startswith("sklearn.")
    return set() if foreign else set(signature(predictor.fit).parameters)


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
    return " ".join(
        (estimator.__repr__(N_CHAR_MAX=10_000) if hasattr(estimator, "get_params") else repr(estimator)).split()
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """A worker has one core: times can be compared, and results do not depend on how many cores there are."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    with threadpool_limits(1):
        if torch:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if torch:
                torch.set_num_threads(before)


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
