"""The committed results of the bundled zoos: whether they still hold, and how they are made anew."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable

from zoobench.benchmark.records import RECORDS, Record, iterate_records, load_record, path_of
from zoobench.benchmark.results import (
    CLOSED_FORM_TOLERANCE,
    RESULTS,
    TRAINED_TOLERANCE,
    benchmarked,
    differences,
    load_result,
    run_paper,
    save_result,
)
from zoobench.benchmark.runner import run_benchmark

#: Methods that are run again by every check: seconds each.
CHECKED_METHODS = ("dummy", "statistics_ridge")

#: Of regression tasks; a probe for names is trained.
_CLOSED_FORMS = ("dummy", "_ridge")


def check_committed(progress: Callable[[str], None] | None = None) -> list[str]:
    """Compute a part of the committed results again.

    Parameters
    ----------
    progress : callable, optional
        Is told what comes next.

    Returns
    -------
    list of str
        In which sentences the new results differ from the committed ones: none, if all is well. Closed forms have to
        agree to 1e-6, what is trained to 1e-3.
    """
    tell = progress or (lambda what: None)
    said = []
    for name in benchmarked():
        tell(f"the paper's table of {name}")
        said += differences(run_paper(name), load_result(RESULTS / f"{name}.json"))
    tell("the leaderboard")
    with tempfile.TemporaryDirectory() as folder:
        for record in run_benchmark(methods=CHECKED_METHODS, out=folder):
            path = path_of(RECORDS, record.task, record.method)
            if not path.exists():
                said.append(
                    f"{record.task}: {record.method} has no committed record; `zoobench check --update` makes it"
                )
            else:
                said += _changes(record, load_record(path))
    return said


def update_committed(n_jobs: int | None = None) -> None:
    """Compute all committed results anew and write them into the package: for who changes a method on purpose."""
    for name in benchmarked():
        save_result(run_paper(name), RESULTS)
    made = {path_of(RECORDS, r.task, r.method) for r in run_benchmark(out=RECORDS, n_jobs=n_jobs, again=True)}
    for record in list(iterate_records(RECORDS)):
        path = path_of(RECORDS, record.task, record.method)
        if path not in made and record.source == "ours":
            path.unlink()


def _changes(found: Record, committed: Record) -> list[str]:
    where = f"{found.task}, {found.method}"
    if found.error or committed.error:
        return [] if found.error == committed.error else [f"{where}: {found.error or committed.error}"]
    if found.data_sha256 != committed.data_sha256:
        return [f"{where}: the zoo's weights are not those of the committed record"]
    closed = found.metric == "r2" and found.method.endswith(_CLOSED_FORMS)
    tolerance = CLOSED_FORM_TOLERANCE if closed else TRAINED_TOLERANCE
    said = []
    if {m: len(v) for m, v in found.scores.items()} != {m: len(v) for m, v in committed.scores.items()}:
        return [f"{where}: the committed record has other metrics or another number of folds"]
    for metric, values in committed.scores.items():
        for fold, (new, old) in enumerate(zip(found.scores[metric], values, strict=True)):
            if (new is None) != (old is None) or not math.isclose(new or 0, old or 0, rel_tol=0, abs_tol=tolerance):
                said.append(f"{where}: {metric} of fold {fold} is {new}, but {old} is committed")
    return said
