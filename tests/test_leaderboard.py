"""The leaderboard ranks what is there, shows what is missing, and says the same in every form."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.ranking import corrected_t_test
from zoobench.benchmark.records import Record

TASKS = [f"zoo_{i}/test_acc/cv-5x1" for i in range(7)]


def record(task: str, method: str, *scores: float, **changed: object) -> Record:
    interval = [min(scores) - 0.1, max(scores) + 0.1] if scores else None
    return Record(task, method, "r2", {"r2": list(scores)} if scores else {}, interval, **changed)


def board(**levels: float) -> Leaderboard:
    """Methods whose score is their level on every task, but for a little that differs from task to task."""
    rng = np.random.default_rng(0)
    return Leaderboard(
        record(task, method, level + rng.uniform(0, 0.01)) for task in TASKS for method, level in levels.items()
    )


def test_methods_come_in_the_order_of_their_mean_rank() -> None:
    """The best first; who lacks a task has no rank and comes last."""
    found = board(middle=0.5, best=0.9, worst=0.1)
    assert found.methods == ["best", "middle", "worst"]
    assert found.ranking()["mean_rank"].tolist() == [1, 2, 3]
    assert found.ranking()["win_rate"].tolist() == [1, 0.5, 0]
    lacking = Leaderboard([*found.records, record(TASKS[0], "partial", 0.99)])
    assert lacking.methods == ["best", "middle", "worst", "partial"]
    assert np.isnan(lacking.ranking().loc["partial", "mean_rank"])
    assert lacking.ranking().loc["partial", "n_tasks"] == 1
    assert "Not ranked, for want of a result: partial" in lacking.to_text()


def test_published_numbers_are_shown_and_not_ranked() -> None:
    """They come from other splits: no rank, no test and no bold depends on them. By themselves they are ranked."""
    ours = board(good=0.5, bad=0.1)
    theirs = [record(task, "theirs", 0.9, source="published") for task in TASKS]
    both = Leaderboard([*ours.records, *theirs])
    assert both.methods == ["good", "bad", "theirs"]
    assert list(both.ranked) == ["good", "bad"]
    assert both.ranking().drop("theirs").equals(ours.ranking())
    for text in (both.to_text(), both.to_markdown(), both.to_html()):
        assert text.count("theirs (published)") == 1 + len(TASKS)
        assert "Not ranked, as published numbers come from other splits: theirs." in text
    assert "**0.9" not in both.to_markdown()
    with pytest.raises(ValueError, match="'theirs' on .* is a published one"):
        both.compare(TASKS[0], "good", "theirs")
    assert list(Leaderboard(theirs).ranked) == ["theirs"]


def test_of_a_loss_less_is_better() -> None:
    """A task that is judged by an error ranks the smaller one first."""
    errors = {"good": 0.1, "bad": 0.4}
    found = Leaderboard(Record("z/test_acc/cv-5x1", name, "mae", {"mae": [value]}) for name, value in errors.items())
    assert found.methods == ["good", "bad"]


def test_a_failure_is_shown_with_its_reason() -> None:
    """It is no score, no rank, and no silence."""
    found = Leaderboard([record(TASKS[0], "good", 0.5), record(TASKS[0], "broken", error="ValueError: no such layer")])
    for text in (found.to_text(), found.to_markdown(), found.to_html()):
        assert "failed" in text
        assert "ValueError: no such layer" in text


def test_few_tasks_are_said_to_be_too_few() -> None:
    """No difference over five tasks can be significant; over seven it can, and neighbours are told apart."""
    few = Leaderboard(r for r in board(a=0.9, b=0.1).records if r.task in TASKS[:5])
    assert "5 tasks are too few to call any difference among 2 methods significant: that takes 6" in few.to_text()
    assert few.cliques() == []
    four = board(a=0.9, b=0.1, c=0.1, d=0.5)
    assert "7 tasks are too few to call any difference among 4 methods significant: that takes 8" in four.to_text()
    many = Leaderboard([*four.records, *(replace(r, task="one_more/ggap/cv-5x1") for r in four.records[:4])])
    assert "too few" not in many.to_text()
    assert [set(clique) for clique in many.cliques()] == [{"b", "c"}]
    assert many.comparisons().set_index(["first", "second"]).loc[("a", "b"), "wins"].item() == 8


def test_two_methods_on_one_task_by_their_folds() -> None:
    """The corrected t-test of the differences of the folds, from the numbers of models that the record holds."""
    sizes = {"n_train": 80, "n_test": 20}
    better = record(TASKS[0], "better", 0.92, 0.93, 0.91, 0.94, 0.92, **sizes)
    found = Leaderboard([better, record(TASKS[0], "worse", 0.9, 0.9, 0.9, 0.9, 0.9, **sizes)])
    expected = corrected_t_test(np.array([0.02, 0.03, 0.01, 0.04, 0.02]), n_train=80, n_test=20)
    assert found.compare(TASKS[0], "better", "worse") == pytest.approx(expected)
    with pytest.raises(ValueError, match="'nobody' has no score on .*; there are scores of better, worse"):
        found.compare(TASKS[0], "better", "nobody")


def test_another_protocol_is_not_another_task() -> None:
    """Ranks are over one protocol; records of another are shown below, and the notes say so."""
    found = board(a=0.9, b=0.1)
    other = [replace(r, task=r.task.replace("cv-5x1", "paper")) for r in found.records if r.task == TASKS[0]]
    both = Leaderboard([*found.records, *other])
    assert both.ranking()["mean_rank"].tolist() == found.ranking()["mean_rank"].tolist()
    assert "Ranked over 7 of 8 tasks, those of cv-5x1." in both.to_text()


def test_scores_of_two_metrics_are_not_compared() -> None:
    """A task has one metric that ranks; records that differ in it are refused."""
    with pytest.raises(ValueError, match="are judged by kendall_tau and by r2, which cannot be compared"):
        Leaderboard([record(TASKS[0], "a", 0.5), Record(TASKS[0], "b", "kendall_tau", {"kendall_tau": [0.7]})])


def test_every_form_holds_every_score() -> None:
    """What stands in the frame stands in the text, the Markdown, the LaTeX, the CSV and the HTML."""
    found = board(best=0.9, worst=0.1)
    for text in (found.to_text(), found.to_markdown(), found.to_latex(), found.to_html(), found._repr_html_()):
        for score in found.to_frame()["score"]:
            assert f"{score:.3f}" in text
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [float(row["score"]) for row in rows] == found.to_frame()["score"].tolist()


def test_markup_of_names_is_harmless() -> None:
    """A method's name or message is text, whatever it looks like."""
    found = Leaderboard([record(TASKS[0], "<script>", error="<b>no</b>"), record(TASKS[0], "a_b", 0.5)])
    assert "<script>" not in found.to_html()
    assert "<b>" not in found.to_html()
    assert r"a\_b" in found.to_latex()


def test_html_is_well_formed() -> None:
    """Every tag that is opened is closed, tables have captions, and header cells say of what."""
    open_tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            open_tags.append(tag)
            assert tag != "th" or dict(attrs).get("scope")

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    text = board(best=0.9, worst=0.1).to_html()
    Reader().feed(text)
    assert not open_tags
    assert text.count("<caption>") == text.count("<table>") == 1 + len(TASKS)


def test_no_record_is_no_leaderboard() -> None:
    """The message says where records come from."""
    with pytest.raises(ValueError, match="needs at least one record, and there is none; `zoobench run` makes them"):
        Leaderboard([])
