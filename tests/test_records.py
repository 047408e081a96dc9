"""Records survive being written and read, and what is no record is named and refused."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.benchmark.records import (
    PUBLISHED,
    Record,
    iterate_records,
    load_record,
    load_results,
    save_record,
    to_frame,
)
from zoobench.datasets_registry.cards import find_card
from zoobench.errors import ZooFormatError

SCORES = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5)


def some(**changed: object) -> Record:
    about = {"task": "z/test_acc/cv-5x1", "method": "ridge", "metric": "r2", "scores": {"r2": [0.5, 0.25]}}
    return Record(**{**about, **changed})


@given(scores=SCORES, error=st.none() | st.text(min_size=1))
def test_a_record_comes_back_as_it_was(scores: list[float | None], error: str | None, tmp_path_factory) -> None:
    """Every number to its last digit, None as None."""
    record = some(scores={"r2": scores}, error=error, interval=[0.1, 0.9], environment={"cores": 2})
    assert load_record(save_record(record, tmp_path_factory.mktemp("store"))) == record


def test_the_path_is_the_tasks_id(tmp_path: Path) -> None:
    """zoo/property/protocol/method.json, and nothing else lies beside it."""
    path = save_record(some(), tmp_path)
    assert path.relative_to(tmp_path).as_posix() == "z/test_acc/cv-5x1/ridge.json"
    assert list(path.parent.iterdir()) == [path]
    save_record(some(scores={"r2": [1.0]}), tmp_path)
    assert [record.score for record in iterate_records(tmp_path)] == [1.0]


def test_a_fold_without_a_score_leaves_the_record_without_one() -> None:
    """A mean over the folds that happen to have a score would be another quantity."""
    assert some().score == 0.375
    assert some(scores={"r2": [0.5, None]}).score is None
    assert some(scores={}, error="ValueError: no").score is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 1}, "is no record of schema 2 but 1"),
        ({"surprise": 1}, "unknown field 'surprise'"),
        ({"method": ""}, "method is '', not a name"),
        ({"source": "guessed"}, "source is 'guessed', not one of ours, published"),
        ({"scores": {"r2": 0.5}}, "scores is no table of lists"),
        ({"scores": {"r2": ["0.5"]}}, "scores['r2'] holds something that is neither a number nor null"),
        ({"scores": {}}, "it has no error, and no r2 in each fold"),
        ({"scores": {"r2": []}}, "it has no error, and no r2 in each fold"),
        ({"scores": {"r2": [0.1], "mae": [0.1, 0.2]}}, "it has no error, and no r2 in each fold"),
        ({"task": "z"}, "task is 'z', not zoo/property/protocol"),
        ({"interval": "wide"}, "interval is 'wide', not two numbers"),
        ({"interval": [float("nan"), float("nan")]}, "interval is [nan, nan], not two numbers"),
        ({"interval": [0.9, 0.1]}, "interval is [0.9, 0.1], not two numbers, the lower one first"),
        ({"scores": {"r2": [True, True]}}, "scores['r2'] holds something that is neither a number nor null"),
        ({"scores": {"r2": [float("inf")]}}, "scores['r2'] holds something that is neither a number nor null"),
        ({"metric": "bogus", "scores": {"bogus": [0.5]}}, "metric is 'bogus', not one of r2, mae, "),
        ({"versions": None}, "versions is None, not a table of texts"),
        ({"versions": {"numpy": 2}}, "versions is {'numpy': 2}, not a table of texts"),
        ({"environment": None}, "environment is None, not a table"),
        ({"fit_seconds": None}, "fit_seconds is None, not a list of numbers"),
        ({"predict_seconds": ["a"]}, "predict_seconds is ['a'], not a list of numbers"),
        ({"peak_memory": "a"}, "peak_memory is 'a', not a whole number or null"),
        ({"n_states": True}, "n_states is True, not a whole number or null"),
        ({"n_models": -1}, "n_models is -1, not a whole number or null"),
        ({"inputs": None}, "inputs is None, not a text"),
        ({"error": 5}, "error is 5, not a text or null"),
        ({"schema": 2.0}, "schema is 2.0, not a whole number"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_is_no_record_is_refused(change: dict, said: str, tmp_path: Path) -> None:
    """The message names the file, what is wrong with it, and what to do."""
    path = save_record(some(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ZooFormatError) as error:
        load_record(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_published_metrics_may_be_any(tmp_path: Path) -> None:
    """A paper may report what is not computed here."""
    record = some(metric="rmse", scores={"rmse": [0.5]}, source="published")
    assert load_record(save_record(record, tmp_path)) == record


@given(
    field=st.sampled_from([entry.name for entry in fields(Record)]),
    value=st.sampled_from([None, True, float("nan"), "", "a", [], ["a"], [0.5], {}, {"a": [{}]}]),
)
def test_a_field_of_another_type_is_never_an_error_from_inside(field: str, value: Any, tmp_path_factory) -> None:
    """Whatever stands in a field: the record is refused, or can be shown."""
    path = save_record(some(), tmp_path_factory.mktemp("store"))
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    try:
        record = load_record(path)
    except ZooFormatError:
        return
    assert len(to_frame([record])) == 1


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    """What a full disk or another program left is no record."""
    path = save_record(some(), tmp_path)
    path.write_text(path.read_text()[:40])
    with pytest.raises(ZooFormatError, match="is no record: .*delete it and run the benchmark again"):
        load_record(path)


def test_a_record_in_another_place_is_refused(tmp_path: Path) -> None:
    """A file that was renamed would stand for another method."""
    path = save_record(some(), tmp_path)
    path.rename(path.with_name("boosting.json"))
    with pytest.raises(ZooFormatError, match="holds the record of ridge on z/test_acc/cv-5x1, which belongs elsewhere"):
        list(iterate_records(tmp_path))


def test_results_are_one_table(tmp_path: Path) -> None:
    """One row a record; the last folder's counts where two have the same; failures stay with what they said."""
    save_record(some(), tmp_path / "one")
    save_record(some(method="broken", scores={}, error="ValueError: no"), tmp_path / "one")
    save_record(some(scores={"r2": [0.75]}, interval=[0.5, 0.9], fit_seconds=[2.0]), tmp_path / "two")
    table = load_results(tmp_path / "one", tmp_path / "two").set_index("method")
    assert table.loc["ridge", ["zoo", "property", "protocol", "score", "low", "high", "fit_seconds"]].tolist() == [
        "z", "test_acc", "cv-5x1", 0.75, 0.5, 0.9, 2.0,
    ]  # fmt: skip
    assert table.loc["broken", "error"] == "ValueError: no"
    assert table["score"].isna().sum() == 1
    assert to_frame([]).columns.tolist() == load_results(tmp_path / "one").columns.tolist()


def test_a_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    """With the command that makes one."""
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere with records; `zoobench run --out"):
        load_results(tmp_path / "nowhere")


def test_published_numbers_say_where_they_were_read() -> None:
    """Each is of a zoo of the registry, under a protocol with a name of its own, with source and confidence."""
    found = list(iterate_records(PUBLISHED))
    assert len(found) > 150
    for record in found:
        zoo, _, protocol = record.task.split("/")
        assert find_card(zoo).name == zoo
        assert protocol == "nfn" or re.search("-20[0-9]{2}$", protocol)
        assert record.source == "published"
        assert record.method.endswith("_published")
        assert record.confidence
        assert record.method_source
        assert -10 < record.score <= 1
