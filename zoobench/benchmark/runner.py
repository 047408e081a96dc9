"""Running methods on tasks: in parallel, once each, and so that a killed run keeps what it has."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

from zoobench.benchmark import metrics
from zoobench.benchmark.data import Data, load
from zoobench.benchmark.entries import DEFAULT_METHODS, Entry, find_entries
from zoobench.benchmark.evaluation import Outcome, evaluate, failed, hyperparameters, in_one_line, unfitted
from zoobench.benchmark.places import Place, split_task
from zoobench.benchmark.protocols import DEFAULT_PROTOCOL, n_folds, seed_of
from zoobench.benchmark.records import Record, check_store, load_record, path_of, save_record
from zoobench.benchmark.tasks import Task, default_zoos, tasks_of, two_of_one_name
from zoobench.benchmark.workers import surviving
from zoobench.datahome import get_data_home
from zoobench.errors import ZooFormatError
from zoobench.generators.parallel import resolve_jobs

#: Where records go unless told otherwise.
DEFAULT_STORE = "zoobench_results"

#: What a task is asked for by.
Asked = Task | str | os.PathLike[str]

#: Libraries whose version may move a result.
_LIBRARIES = ("zoobench", "numpy", "scipy", "scikit-learn", "torch", "pandas")


def run_benchmark(
    tasks: Asked | Sequence[Asked] | None = None,
    *,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    protocol: str = DEFAULT_PROTOCOL,
    out: str | os.PathLike[str] = DEFAULT_STORE,
    n_jobs: int | None = None,
    again: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Record]:
    """Run methods on tasks and keep a record of each.

    What a store has a record of is not run again, as long as the library, the method, its settings and the zoo are the
    same. A method that fails gets a record that says why, and is tried again the next time. A method for numbers is not
    asked for names. Results do not depend on ``n_jobs``, on the order of work, or on
    which other methods and tasks are run: every seed comes from the names of zoo, protocol and fold.

    Parameters
    ----------
    tasks : Task, str, path-like or a sequence of these, optional
        Tasks, such as ``"digits_cnn_s_seed/test_acc"``, or names of zoos, which stand for all of their tasks. By
        default all tasks of the bundled zoos. In the place of a name there may be the path of a folder with a zoo of
        your own: ``"path/to/my_zoo"``, ``"path/to/my_zoo/test_acc"``.
    methods : str or sequence of str, default=DEFAULT_METHODS
        Names, or a user's own as ``file.py:MyEstimator``; see :func:`~zoobench.benchmark.entries.find_entry`.
    protocol : str, default="cv-5x1"
        Of tasks that do not name one; see :mod:`zoobench.benchmark.protocols`.
    out : path, default="zoobench_results"
        The store.
    n_jobs : int, optional
        Folds that are computed at the same time, each on one thread; -1 for one a core. A surrounding
        ``joblib.parallel_config`` spreads them over a cluster.
    again : bool, default=False
        Run also what there are records of.
    progress : callable, optional
        Is told how many folds are done, how many there are, and what was done last.

    Returns
    -------
    list of Record
        One a task and method that can be asked, in that order.

    Raises
    ------
    ValueError
        For unknown tasks, methods or protocols; for two zoos of one name.
    FileNotFoundError, ZooFormatError
        If there is no zoo where a path leads, or it is damaged.
    OSError
        If the store cannot be written to, or a zoo cannot be fetched.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench.benchmark import run_benchmark
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (record,) = run_benchmark(["digits_cnn_s_seed/test_acc"], methods=["statistics_ridge"], out=folder)
    >>> bool(record.score > 0.9)
    True
    """
    wanted = [methods] if isinstance(methods, str) else methods
    chosen, entries, store = resolve_tasks(tasks, protocol), find_entries(wanted), check_store(out)
    _fetch(chosen)
    known = {} if again else dict(finished(chosen, entries, store))
    pairs = [(task, entry) for task in chosen for entry in entries if _applies(entry, task)]
    if not pairs:
        names = " and ".join(entry.name for entry in entries) or "no method"
        raise ValueError(f"{names} can be asked of none of these tasks; choose other methods or tasks")
    calls = _calls([(task, entry) for task, entry in pairs if (task.id, entry.name) not in known])
    total = sum(len(some) * len(them) for some, _, them in calls)
    by_name = {entry.name: entry for entry in entries}
    parts: dict[tuple[str, str], list[Outcome]] = {}
    done = 0
    for (some, fold, them), outcomes, error in surviving(evaluate, calls, resolve_jobs(n_jobs), _singly):
        by_property = {task.property: task for task in some}
        for outcome in failed(some, fold, them, error) if outcomes is None else outcomes:
            task = by_property[outcome.property]
            found = parts.setdefault((task.id, outcome.method), [])
            found.append(outcome)
            if len(found) == n_folds(task.protocol):
                record = _record(task, by_name[outcome.method], sorted(found, key=lambda o: o.fold))
                save_record(record, store)
                known[task.id, outcome.method] = record
                del parts[task.id, outcome.method]
        done += len(some) * len(them)
        if progress:
            progress(done, total, f"{some[0].zoo}, fold {fold + 1} of {n_folds(some[0].protocol)}")
    return [known[task.id, entry.name] for task, entry in pairs]


def _applies(entry: Entry, task: Task) -> bool:
    """Whether a method can be asked: not one for numbers about names, nor about hyper-parameters that nobody tells."""
    try:
        data = load(task)
        estimator = unfitted(task, 0, entry, data.fit.layout)
        if entry.inputs == "hyperparameters" and not hyperparameters(data, task.property):
            return False
        other = is_regressor(estimator) if task.kind == "classification" else is_classifier(estimator)
    except Exception:  # its record will say why
        return True
    return not other


def resolve_tasks(tasks: Asked | Sequence[Asked] | None, protocol: str) -> list[Task]:
    """Tasks from what a user writes: tasks, texts, names or paths of zoos, or None for the bundled zoos; each once."""
    if tasks is None:
        return tasks_of(default_zoos(), protocol=protocol)
    found: list[Task] = []
    for task in [tasks] if isinstance(tasks, Task | str | os.PathLike) else tasks:
        if isinstance(task, Task):
            found.append(task)
            continue
        zoo, name, rule = split_task(os.fspath(task))
        found += tasks_of([zoo], protocol=protocol) if name is None else [Task(zoo, name, rule or protocol)]
    known: dict[str, Place] = {}
    for place in (place for task in found for place in (task.place, task.source) if place):
        other = known.setdefault(place.name, place)
        if os.path.realpath(other.folder) != os.path.realpath(place.folder):
            raise two_of_one_name(other, place)
    if not found:
        raise ValueError("no tasks were given; leave them out to run all tasks of the bundled zoos")
    return list(dict.fromkeys(found))


def _fetch(tasks: list[Task]) -> None:
    """Have all zoos here before any work: what cannot be fetched or read is one error, not one a fold and method."""
    for task in {(task.zoo, task.protocol): task for task in tasks}.values():
        try:
            load(task)
        except ZooFormatError:
            raise
        except ValueError:  # too few models: records say it
            continue


def finished(tasks: list[Task], entries: list[Entry], store: Path) -> Iterator[tuple[tuple[str, str], Record]]:
    """Records that still hold; one that cannot be read is as good as none, and is written anew."""
    for task in tasks:
        for entry in entries:
            path = path_of(store, task.id, entry.name)
            try:
                record = load_record(path) if path.exists() else None
            except ZooFormatError:
                continue
            if record and _holds(record, task, entry):
                yield (task.id, entry.name), record


def _holds(record: Record, task: Task, entry: Entry) -> bool:
    """Whether a record is what a new run would give, as far as can be told. A failure is tried again."""
    if record.error or (record.task, record.method, record.source) != (task.id, entry.name, "ours"):
        return False
    try:
        data = load(task)
        settings = in_one_line(unfitted(task, 0, entry, data.fit.layout))
    except Exception:
        return False
    return (record.digest, record.settings, record.data_sha256, record.versions.get("zoobench")) == (
        entry.digest,
        settings,
        data.digest,
        version("zoobench"),
    ) and len(record.scores[record.metric]) == n_folds(task.protocol)


def _calls(pairs: list[tuple[Task, Entry]]) -> list[tuple[tuple[Task, ...], int, tuple[Entry, ...]]]:
    """Arguments of :func:`evaluate`: one call a fold and kind of features, with all that can share them."""
    together: dict[tuple[str, str, str | Entry], dict[Entry, list[Task]]] = {}
    for task, entry in pairs:
        # What methods of this library have in common is told by all but the last word of their names; a user's own
        # stands alone, whatever it is called.
        family = entry if entry.maker else entry.name.rpartition("_")[0] or entry.name
        together.setdefault((task.zoo, task.protocol, family), {}).setdefault(entry, []).append(task)
    calls = []
    for (_, protocol, _), group in together.items():
        by_tasks: dict[tuple[Task, ...], list[Entry]] = {}
        for entry, tasks in group.items():
            by_tasks.setdefault(tuple(tasks), []).append(entry)
        calls += [
            (tasks, fold, tuple(entries)) for tasks, entries in by_tasks.items() for fold in range(n_folds(protocol))
        ]
    return calls


def _singly(
    tasks: tuple[Task, ...], fold: int, entries: tuple[Entry, ...]
) -> list[tuple[tuple[Task, ...], int, tuple[Entry, ...]]]:
    """A call of :func:`evaluate` taken apart, one for each task and method."""
    return [((task,), fold, (entry,)) for entry in entries for task in tasks]


def _record(task: Task, entry: Entry, outcomes: list[Outcome]) -> Record:
    about: dict[str, Any] = {
        "task": task.id,
        "method": entry.name,
        "metric": task.metric,
        "fit_seconds": [round(outcome.fit_seconds, 4) for outcome in outcomes],
        "predict_seconds": [round(outcome.predict_seconds, 4) for outcome in outcomes],
        "peak_memory": max((o.peak_memory for o in outcomes if o.peak_memory), default=None),
        "inputs": entry.inputs,
        "settings": outcomes[0].settings,
        "method_source": entry.source,
        "licence": entry.licence,
        "digest": entry.digest,
        "versions": {name: version(name) for name in _LIBRARIES},
        "environment": environment(),
        "command": f"zoobench run --tasks {shlex.quote(task.text)} --methods {shlex.quote(entry.text)}",
    }
    try:
        data = load(task)
    except (OSError, ValueError):
        data = None
    seen = {outcome.data_sha256 for outcome in outcomes if outcome.data_sha256}
    if seen and (data is None or seen != {data.digest}):
        return Record(**about, error="the zoo changed while it was benchmarked; run again")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors or data is None:
        places = "" if len(errors) == len(outcomes) else f" (in {len(errors)} of {len(outcomes)} folds)"
        return Record(**about, error=f"{_without_paths(errors[0], task)}{places}")
    about |= {**_sizes(data, outcomes), "data_sha256": data.digest}
    truth = data.judge.properties[task.property].to_numpy()
    groups = np.asarray(data.judge.groups)
    kind = str if task.kind == "classification" else np.float64
    folds = [(np.asarray(truth[o.rows]).astype(kind), np.asarray(o.predicted), groups[o.rows]) for o in outcomes]
    found = [metrics.scores(task.metrics, true, predicted) for true, predicted, _ in folds]
    interval = metrics.bootstrap_interval(task.metric, folds, random_state=seed_of(task.id, "interval"))
    return Record(
        **about,
        scores={metric: [scores[metric] for scores in found] for metric in task.metrics},
        interval=list(interval) if interval else None,
    )


def _sizes(data: Data, outcomes: list[Outcome]) -> dict[str, int]:
    rows = np.unique(np.concatenate([outcome.rows for outcome in outcomes]))
    train = [len(np.unique(data.fit.groups[data.folds[outcome.fold].train])) for outcome in outcomes]
    test = [len(np.unique(data.judge.groups[outcome.rows])) for outcome in outcomes]
    models = len(np.unique(data.judge.groups[rows]))
    return {"n_states": len(rows), "n_models": models, "n_train": min(train), "n_test": min(test)}


def _without_paths(error: str, task: Task) -> str:
    """An error without the folders of this machine: records are published."""
    places = [place for place in (task.place, task.source) if place]
    short = {str(get_data_home()): "DATA_HOME", os.path.expanduser("~"): "~"}
    short |= {str(place.stored): place.name for place in places}
    for path in sorted(short, key=len, reverse=True):  # what lies deeper first
        if path.strip(os.sep):
            error = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-])", short[path], error)
    return error


def environment() -> dict[str, Any]:
    """The machine that something runs on, as far as it may matter for its times."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
