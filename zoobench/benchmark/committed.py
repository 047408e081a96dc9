"""The committed results of the bundled zoos: whether they still hold, and how they are made anew."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from zoobench.benchmark.entries import DEFAULT_METHODS, find_entries
from zoobench.benchmark.records import CIRCUMSTANCES, RECORDS, Record, load_record, path_of, save_record
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
from zoobench.benchmark.runner import finished, run_benchmark
from zoobench.benchmark.tasks import default_zoos, tasks_of
from zoobench.errors import ZooFormatError

#: Methods that every check runs again on every task, and the task on which it runs all: half a minute.
CHECKED_METHODS, CHECKED_TASK = ("dummy", "statistics_ridge"), "digits_cnn_s_seed/test_acc/cv-5x1"

#: When and why committed results have changed by more than the tolerance: one JSON object a line.
REVISIONS = RESULTS / "revisions.jsonl"

#: Of regression tasks; a probe for names is trained.
_CLOSED_FORMS = ("dummy", "_ridge")

#: Beside what another run measures anew: another release of a library is allowed as long as the results are the same.
_MAY_DIFFER = {*CIRCUMSTANCES, "versions", "scores", "interval"} - {"command"}


def check_committed(
    progress: Callable[[str], None] | None = None, *, store: str | os.PathLike[str] | None = None
) -> list[str]:
    """Compute a part of the committed results again.

    Parameters
    ----------
    progress : callable, optional
        Is told what comes next.
    store : path, optional
        A folder of records that ``zoobench run`` wrote: then every default method on every task is compared, and what
        the folder lacks is computed into it.

    Returns
    -------
    list of str
        In which sentences the new results differ from the committed ones: none, if all is well. Closed forms have to
        agree to 1e-6, what is trained to 1e-3, and all that a record says of method and data has to be the same.
    """
    tell = progress or (lambda what: None)
    said = []
    for name in benchmarked():
        tell(f"the paper's table of {name}")
        said += differences(run_paper(name), load_result(RESULTS / f"{name}.json"))
    tell("the leaderboard")
    tasks = tasks_of(default_zoos())
    if store is not None:
        return said + list(_compared(run_benchmark(tasks, methods=DEFAULT_METHODS, out=store), whole=True))
    with tempfile.TemporaryDirectory() as folder:
        found = run_benchmark(tasks, methods=CHECKED_METHODS, out=folder)
        others = [name for name in DEFAULT_METHODS if name not in CHECKED_METHODS]
        said += _compared([*found, *run_benchmark([CHECKED_TASK], methods=others, out=folder)])
    hold = {key for key, _ in finished(tasks, find_entries(DEFAULT_METHODS), RECORDS)}
    for task, name in product((task.id for task in tasks), others):
        if (task, name) not in hold and task != CHECKED_TASK:
            said.append(
                f"{task}, {name}: the committed record is missing, or of another method or zoo; "
                "`zoobench check --update` makes it"
            )
    return said


def update_committed(*, reason: str | None = None, n_jobs: int | None = None) -> list[str]:
    """Compute all committed results anew and write them into the package: for who changes a method on purpose.

    Parameters
    ----------
    reason : str, optional
        Why results change. It is written down with the number of the revision.
    n_jobs : int, optional
        Folds at the same time.

    Returns
    -------
    list of str
        What has changed by more than the tolerance.

    Raises
    ------
    ValueError
        If results change by more than the tolerance, and there is no reason. Then, as after a method that fails,
        nothing is replaced.
    """
    papers = {name: run_paper(name) for name in benchmarked()}
    with tempfile.TemporaryDirectory() as folder:
        records = run_benchmark(tasks_of(default_zoos()), methods=DEFAULT_METHODS, out=folder, n_jobs=n_jobs)
    failed = [f"{record.method} on {record.task}: {record.error}" for record in records if record.error]
    if failed:
        raise RuntimeError(f"nothing was replaced, because {len(failed)} results failed; the first is {failed[0]}")
    changed = [c for name in papers for c in differences(papers[name], load_result(RESULTS / f"{name}.json"))]
    changed += _compared(records, whole=True)
    if changed and not reason:
        raise ValueError(
            f"{len(changed)} committed results would change; the first: {changed[0]}. Say why with --reason, and "
            "they are replaced"
        )
    for result in papers.values():
        save_result(result, RESULTS)
    for record in records:
        save_record(record, RECORDS)
    for path in set(RECORDS.rglob("*.json")) - {path_of(RECORDS, r.task, r.method) for r in records}:
        path.unlink()
    if changed:
        _add_revision(str(reason), changed)
    return changed


def _add_revision(reason: str, changed: list[str]) -> None:
    known = REVISIONS.read_text(encoding="utf-8")
    revision = {
        "revision": len(known.splitlines()) + 1,
        "version": version("zoobench"),
        "reason": reason,
        "changed": sorted({line.partition(": ")[0] for line in changed}),
    }
    temporary = REVISIONS.with_suffix(".tmp")
    temporary.write_text(f"{known}{json.dumps(revision, ensure_ascii=False)}\n", encoding="utf-8")
    os.replace(temporary, REVISIONS)


def _compared(records: list[Record], *, whole: bool = False) -> Iterator[str]:
    """How records differ from the committed ones of the same name; and if they are all, which are too many."""
    paths = {path_of(RECORDS, record.task, record.method): record for record in records}
    for path, record in paths.items():
        if path.exists():
            yield from _changes(record, path)
        else:
            yield f"{record.task}, {record.method}: there is no committed record; `zoobench check --update` makes it"
    for path in sorted(set(RECORDS.rglob("*.json")) - set(paths)):
        about = path.relative_to(RECORDS).with_suffix("").as_posix()
        if whole or not about.endswith(tuple(f"/{name}" for name in DEFAULT_METHODS)):
            yield f"{about}: a committed record that no default method makes; `zoobench check --update` removes it"


def _changes(found: Record, path: Path) -> Iterator[str]:
    where = f"{found.task}, {found.method}"
    try:
        committed = load_record(path)
    except ZooFormatError as error:
        yield f"{where}: {error}"
        return
    for key in sorted(found.__dataclass_fields__.keys() - _MAY_DIFFER):
        new, old = getattr(found, key), getattr(committed, key)
        if new != old:
            yield f"{where}: {key} is {new!r}, but {old!r} is committed"
    if {m: len(v) for m, v in found.scores.items()} != {m: len(v) for m, v in committed.scores.items()}:
        yield f"{where}: the committed record has other metrics or another number of folds"
        return
    closed = found.metric == "r2" and found.method.endswith(_CLOSED_FORMS)
    tolerance = CLOSED_FORM_TOLERANCE if closed else TRAINED_TOLERANCE
    numbers: list[tuple[str, Any, Any]] = [
        (f"{metric} of fold {fold}", new, old)
        for metric, values in committed.scores.items()
        for fold, (new, old) in enumerate(zip(found.scores[metric], values, strict=True))
    ]
    ends = zip(("low", "high"), found.interval or (None, None), committed.interval or (None, None), strict=True)
    for what, new, old in [*numbers, *((f"the {end} end of the interval", new, old) for end, new, old in ends)]:
        if (new is None) != (old is None) or not math.isclose(new or 0, old or 0, rel_tol=0, abs_tol=tolerance):
            yield f"{where}: {what} is {new}, but {old} is committed"
