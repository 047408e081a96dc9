"""Records: what one method reached on one task, a small JSON file each, in a folder that git can hold."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd

from zoobench.benchmark.metrics import CLASSIFICATION, REGRESSION
from zoobench.datasets_registry.cards import ROOT
from zoobench.errors import DISK_FULL, ZooFormatError

SCHEMA_VERSION = 2

#: Stores that come with the package: records of the bundled zoos, and numbers read in papers.
RECORDS, PUBLISHED = ROOT / "results/records", ROOT / "results/published"

SOURCES = ("ours", "published")

#: What differs between two runs of the same thing.
CIRCUMSTANCES = ("fit_seconds", "predict_seconds", "peak_memory", "environment", "command")


@dataclass(frozen=True)
class Record:
    """One method's result on one task.

    Attributes
    ----------
    task, method : str
        The task's id and the method's name.
    metric : str
        The metric that ranks.
    scores : dict of str to list of (float or None)
        Every metric, one number a fold; None where a score is not defined. Empty for a failure.
    interval : list of two floats, or None
        95 % interval of the mean of the ranking metric, by drawing models again.
    error : str or None
        Why it failed.
    fit_seconds, predict_seconds : list of float
        One number a fold.
    peak_memory : int or None
        Bytes.
    n_states, n_models, n_train, n_test : int or None
        States and models that were judged on; models to fit and to judge in a fold, at the least.
    inputs, settings, method_source, licence, digest : str
        Of the method: what it sees, how it was built, where it is from, whose code it is, which version.
    data_sha256 : str
        Of the weights and of the properties that it was computed from, the judging zoo's first.
    versions, environment : dict
        Of the libraries, and of the machine.
    command : str
        What computes it again.
    source : {"ours", "published"}
        Whether it was computed here or read in a paper.
    confidence : str
        Of a published number, how it was read.
    schema : int
        Version of this form.

    Examples
    --------
    >>> from zoobench.benchmark import Record
    >>> Record("a_zoo/test_acc/cv-2x1", "ridge", "r2", {"r2": [0.5, 0.75]}).score
    0.625
    """

    task: str
    method: str
    metric: str
    scores: dict[str, list[float | None]] = field(default_factory=dict)
    interval: list[float] | None = None
    error: str | None = None
    fit_seconds: list[float] = field(default_factory=list)
    predict_seconds: list[float] = field(default_factory=list)
    peak_memory: int | None = None
    n_states: int | None = None
    n_models: int | None = None
    n_train: int | None = None
    n_test: int | None = None
    inputs: str = "weights"
    settings: str = ""
    method_source: str = ""
    licence: str = ""
    digest: str = ""
    data_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    source: str = "ours"
    confidence: str = ""
    schema: int = SCHEMA_VERSION

    @property
    def score(self) -> float | None:
        """Mean over folds of the ranking metric; None where it failed or a fold has none."""
        values = self.scores.get(self.metric, [])
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known and len(known) == len(values) else None

    def result(self) -> dict[str, Any]:
        """What has to be the same in every run: all but times, memory, machine and command."""
        return {key: value for key, value in asdict(self).items() if key not in CIRCUMSTANCES}


def path_of(folder: Path, task: str, method: str) -> Path:
    """Where a record lies in a store: ``zoo/property/protocol/method.json``."""
    return folder / task / f"{method}.json"


def save_record(record: Record, folder: str | os.PathLike[str]) -> Path:
    """Write a record into a store, whole or not at all.

    Parameters
    ----------
    record : Record
        What to write; an older record of the same task and method is replaced.
    folder : path
        The store; made where it is not there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = path_of(Path(folder), record.task, record.method)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_text(json.dumps(asdict(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(f"the record of {record.method} on {record.task}", folder, error) from error
    return path


def check_store(folder: str | os.PathLike[str]) -> Path:
    """Make a store where there is none, and raise OSError, before any work, if it cannot be written to."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write("records", folder, error) from error
    return Path(folder)


def cannot_write(what: str, folder: str | os.PathLike[str], error: OSError) -> OSError:
    """The same error as a sentence with a remedy."""
    remedy = "make room there, or choose another folder" if error.errno in DISK_FULL else "choose another folder"
    return type(error)(
        f"cannot write {what} into {os.fspath(folder)}: {error.strerror or error}; {remedy}. What is there is kept"
    )


def load_record(path: str | os.PathLike[str]) -> Record:
    """Read a record and check its form.

    Parameters
    ----------
    path : path
        A file of a store.

    Returns
    -------
    Record

    Raises
    ------
    ZooFormatError
        If it is no record, of another version, or one of its fields is not what it should be.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ZooFormatError(f"{path} is no record: {error}; delete it and run the benchmark again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA_VERSION:
        found = content.get("schema") if isinstance(content, dict) else None
        raise ZooFormatError(f"{path} is no record of schema {SCHEMA_VERSION} but {found!r}; run the benchmark again")
    wrong = _first_fault(content)
    if wrong:
        raise ZooFormatError(f"{path} is no valid record: {wrong}; delete it and run the benchmark again")
    return Record(**content)


def _first_fault(content: Mapping[str, Any]) -> str | None:
    types = {entry.name: str(entry.type) for entry in fields(Record)}
    for name in content.keys() - types.keys():
        return f"unknown field {name!r}"
    for name in ("task", "method", "metric"):
        if not isinstance(content.get(name), str) or not content[name]:
            return f"{name} is {content.get(name)!r}, not a name"
    source, metric, scores = content.get("source"), content["metric"], content.get("scores")
    if source not in SOURCES:
        return f"source is {source!r}, not one of {', '.join(SOURCES)}"
    # Papers may report what is not computed here.
    if source == "ours" and metric not in REGRESSION + CLASSIFICATION:
        return f"metric is {metric!r}, not one of {', '.join(REGRESSION + CLASSIFICATION)}"
    if not isinstance(scores, dict) or not all(isinstance(values, list) for values in scores.values()):
        return "scores is no table of lists"
    for key, values in scores.items():
        if not all(value is None or _is_number(value) for value in values):
            return f"scores[{key!r}] holds something that is neither a number nor null"
    if len(content["task"].split("/")) != 3:
        return f"task is {content['task']!r}, not zoo/property/protocol"
    lengths = {len(values) for values in scores.values()}
    if not content.get("error") and (not scores.get(metric) or len(lengths) > 1):
        return f"it has no error, and no {metric} in each fold"
    interval = content.get("interval")
    if interval is not None and not (_are_numbers(interval) and len(interval) == 2 and interval[0] <= interval[1]):
        return f"interval is {interval!r}, not two numbers, the lower one first"
    for name, value in content.items():
        fits, expected = _FORMS[types[name]]
        if not fits(value):
            return f"{name} is {value!r}, not {expected}"
    return None


def _is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float holds: neither true nor NaN, nor infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and _is_number(value) and value >= 0


#: What a field holds, by the type that it is declared with, and how that is called.
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "str": (lambda value: isinstance(value, str), "a text"),
    "str | None": (lambda value: value is None or isinstance(value, str), "a text or null"),
    "int": (_is_count, "a whole number"),
    "int | None": (lambda value: value is None or _is_count(value), "a whole number or null"),
    "list[float]": (_are_numbers, "a list of numbers"),
    "list[float] | None": (lambda value: value is None or _are_numbers(value), "a list of numbers or null"),
    "dict[str, str]": (
        lambda value: isinstance(value, dict) and all(isinstance(entry, str) for entry in value.values()),
        "a table of texts",
    ),
    "dict[str, Any]": (lambda value: isinstance(value, dict), "a table"),
    "dict[str, list[float | None]]": (lambda value: isinstance(value, dict), "a table of lists"),
}


def iterate_records(folder: str | os.PathLike[str]) -> Iterator[Record]:
    """Every record of a store, in the order of the paths."""
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root} with records; `zoobench run --out {root}` makes one")
    for path in sorted(root.glob("*/*/*/*.json")):
        record = load_record(path)
        if path != path_of(root, record.task, record.method):
            raise ZooFormatError(
                f"{path} holds the record of {record.method} on {record.task}, which belongs elsewhere; delete it"
            )
        yield record


def load_results(*folders: str | os.PathLike[str]) -> pd.DataFrame:
    """The records of one store or several as a table.

    Parameters
    ----------
    *folders : path
        Stores. By default those that come with the package: records of the bundled zoos, and published numbers.

    Returns
    -------
    DataFrame
        One row a record: ``zoo property protocol method source metric score low high n_folds fit_seconds
        predict_seconds peak_memory n_models n_states inputs error``. Of records of one task and method the last
        folder's stays.

    Raises
    ------
    FileNotFoundError
        If a folder is not there.
    ZooFormatError
        If a file in it is no record.

    Examples
    --------
    >>> from zoobench.benchmark import load_results
    >>> table = load_results()
    >>> tau = table[(table["zoo"] == "small_cnn_zoo_cifar10") & (table["protocol"] == "nfn")]
    >>> float(tau.set_index("method").loc["statnn_published", "score"])
    0.915
    """
    chosen = folders or (RECORDS, PUBLISHED)
    found = {(r.task, r.method, r.source): r for folder in chosen for r in iterate_records(folder)}
    return to_frame(list(found.values()))


def to_frame(records: list[Record]) -> pd.DataFrame:
    """Records as a table, one row each; see :func:`load_results`."""
    columns = ["zoo", "property", "protocol", "method", "source", "metric", "score", "low", "high", "n_folds"]
    columns += ["fit_seconds", "predict_seconds", "peak_memory", "n_models", "n_states", "inputs", "error"]
    rows = []
    for record in records:
        zoo, name, protocol = record.task.split("/")
        low, high = record.interval or (None, None)
        folds = len(record.scores.get(record.metric, []))
        times = [
            sum(seconds) / len(seconds) if seconds else None for seconds in (record.fit_seconds, record.predict_seconds)
        ]
        rows.append(
            [zoo, name, protocol, record.method, record.source, record.metric, record.score, low, high, folds]
            + [*times, record.peak_memory, record.n_models, record.n_states, record.inputs, record.error]
        )
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["score", "low", "high", "fit_seconds", "predict_seconds", "peak_memory", "n_models", "n_states"]
    table[numbers] = table[numbers].astype(float)
    return table
