"""The committed results hold: whatever is changed in one is said, and nothing replaces them without a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zoobench.benchmark import committed
from zoobench.benchmark.records import RECORDS, iterate_records, load_record, path_of

TASK = "digits_cnn_s_seed/epoch/cv-5x1"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the committed records of two cheap methods, which stands for all of them."""
    folder, names = tmp_path / "records", ("dummy", "hyperparameters_boosting")
    for name in names:
        for path in RECORDS.glob(f"digits_cnn_s_seed/*/*/{name}.json"):
            copy = folder / path.relative_to(RECORDS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    revisions = tmp_path / "revisions.jsonl"
    shutil.copy(committed.REVISIONS, revisions)
    for name, value in {
        "RECORDS": folder,
        "REVISIONS": revisions,
        "DEFAULT_METHODS": names,
        "CHECKED_METHODS": names[:1],
        "benchmarked": list,
        "default_zoos": lambda: ["digits_cnn_s_seed"],
    }.items():
        monkeypatch.setattr(committed, name, value)
    return folder


def revisions() -> list[dict[str, object]]:
    return [json.loads(line) for line in committed.REVISIONS.read_text(encoding="utf-8").splitlines()]


def changed(store: Path, method: str, **values: object) -> Path:
    path = path_of(store, TASK, method)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("dummy", {"n_models": 7}),
        ("dummy", {"settings": "Oracle()"}),
        ("dummy", {"command": "zoobench list"}),
        ("dummy", {"interval": [-0.5, 0.5]}),
        ("dummy", {"inputs": "both"}),
        ("dummy", {"error": "ValueError: tired", "scores": {}, "interval": None}),
        ("hyperparameters_boosting", {"settings": "Oracle()"}),
        ("hyperparameters_boosting", {"data_sha256": "0" * 64}),
    ],
)
def test_whatever_is_changed_in_a_record_is_said(store: Path, method: str, values: dict[str, object]) -> None:
    """Of methods that are run again every field counts; of the others what tells their method and their data."""
    changed(store, method, **values)
    said = committed.check_committed()
    assert said
    assert all(line.startswith(f"{TASK}, {method}: ") for line in said)


def test_whole_runs_are_compared_whole(store: Path, tmp_path: Path) -> None:
    """With the records of a run every score counts, and so does what is missing or too much."""
    run = tmp_path / "run"
    assert committed.check_committed() == []
    assert committed.check_committed(store=run) == []
    scores = load_record(path_of(store, TASK, "hyperparameters_boosting")).scores
    changed(store, "hyperparameters_boosting", scores=scores | {"r2": [0.1, *scores["r2"][1:]]})
    (said,) = committed.check_committed(store=run)
    assert f"{TASK}, hyperparameters_boosting: r2 of fold 0 is" in said
    path_of(store, TASK, "hyperparameters_boosting").rename(store / TASK / "unknown.json")
    missing, unknown = committed.check_committed(store=run)
    assert "there is no committed record" in missing
    assert "unknown: a committed record that no default method makes" in unknown


def test_results_change_for_a_reason_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one nothing is replaced, nor after a method that fails; with one it stands beside the new results."""
    path = changed(store, "dummy", n_models=7)
    with pytest.raises(ValueError, match="n_models is 200, but 7 is committed. Say why with --reason"):
        committed.update_committed()
    assert load_record(path).n_models == 7
    assert committed.update_committed(reason="somebody miscounted") == [
        f"{TASK}, dummy: n_models is 200, but 7 is committed"
    ]
    assert load_record(path).n_models == 200
    last = revisions()[-1]
    assert (last["reason"], last["changed"]) == ("somebody miscounted", [f"{TASK}, dummy"])
    before = {record.task: record for record in iterate_records(store)}
    monkeypatch.setattr("sklearn.dummy.DummyRegressor.fit", lambda *given: 1 / 0)
    with pytest.raises(RuntimeError, match=r"nothing was replaced, because 3 results failed; the first is dummy on"):
        committed.update_committed(reason="tired")
    assert {record.task: record for record in iterate_records(store)} == before


def test_revisions_are_numbered() -> None:
    """Every change of the committed results has its number, its version and its reason."""
    found = revisions()
    assert [revision["revision"] for revision in found] == list(range(1, len(found) + 1))
    assert all(revision["reason"] and revision["version"] for revision in found)
