"""The report says what the records say, and needs nothing but itself."""

from __future__ import annotations

import dataclasses
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from report_samples import METHODS, records, written
from zoobench.benchmark import report_plots as plots
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.ranking import compare_all
from zoobench.benchmark.records import Record
from zoobench.benchmark.report import write_report
from zoobench.benchmark.report_tables import describe_protocol

#: Elements that are never closed.
VOID = {"meta", "link", "input", "br", "wbr"}


class Page(HTMLParser):
    """A page as a list of elements, after a look at its form."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] not in (["style"], ["script"]):
            self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, attribute: str) -> list[str]:
        return [a[attribute] or "" for _, a in self.elements if attribute in a]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(records(), tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_page_needs_nothing_but_itself(text: str, page: Page) -> None:
    """No address of another file or host is in it, and it forbids the browser to ask for one."""
    addresses = [value for name in ("src", "href", "srcset", "action", "data", "poster") for value in page.values(name)]
    assert [value for value in addresses if not value.startswith(("#", "data:,"))] == []
    assert re.findall(r"url\(|@import|//[a-z]|fetch\(|XMLHttpRequest|import\(", text) == []
    (policy,) = (a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")


def test_page_is_well_formed_and_labelled(page: Page) -> None:
    """Elements nest, ids are unique, what refers to an id finds it; tables and pictures have names."""
    identities = page.values("id")
    assert len(set(identities)) == len(identities)
    named = [part for name in ("aria-labelledby", "aria-describedby") for v in page.values(name) for part in v.split()]
    assert {*named, *(value[1:] for value in page.values("href") if value.startswith("#"))} <= set(identities)
    assert len(page.of("caption")) == len(page.of("table")) == 5
    assert {a.get("scope") for a in page.of("th")} == {"col", "row"}
    assert all(a.get("aria-hidden") or (a.get("role") == "img" and a.get("aria-labelledby")) for a in page.of("svg"))
    assert len([a for a in page.of("svg") if a.get("role")]) == len(page.of("title")) - 1 == len(page.of("desc"))
    assert {landmark for landmark in ("header", "nav", "main", "footer") if len(page.of(landmark)) == 1} == {
        *("header", "nav", "main", "footer")
    }
    assert page.of("html") == [{"lang": "en"}]


def test_every_record_can_be_computed_again(page: Page) -> None:
    """The command of each stands in the page, to be copied; a published number says where it is from instead."""
    said = set(page.text)
    commands = {record.command for record in records() if record.command}
    assert len(commands) == 33
    assert commands <= said
    assert len([a for a in page.of("button") if a.get("class") == "copy"]) == 33
    assert "published: a paper; confidence: read" in "".join(page.text)


def test_scores_failures_and_gaps_are_told_apart(tmp_path: Path) -> None:
    """A score has its interval, a failure its reason, what was not tried says so, and no score says so too."""
    undefined = Record("digits_cnn_s_seed/epoch/cv-5x1", "broken", "r2", {"r2": [0.5, None]})
    said = "".join(Page(written([*records(), undefined], tmp_path)).text)
    best = next(record for record in records() if record.method == "best")
    assert f"{best.score:.3f}" in said
    assert "±0.030" in said
    for words in ("ValueError: no such layer", "no result", "not defined", "not ranked", "1 result failed"):
        assert words in said
    assert "an_unknown_zoo" in said and "not in the registry" in said
    assert "Licence: CC-BY-4.0" in said
    assert "Linux" in said and "2.4.6" in said
    assert "Sees: both. Source: not stated. Licence of its code: BSD-3-Clause." in said


def test_names_are_text_whatever_they_look_like(tmp_path: Path, page: Page) -> None:
    """Markup in a name, a message, a command, a licence or the title is shown, and changes no element of the page."""
    hostile = "<script>alert(1)</script>\"' onload=x {{ 7*7 }} </style><img src=x>&amp;"
    (good, *rest) = records()
    bad = [
        dataclasses.replace(good, method=hostile, inputs=hostile, settings=hostile, command=hostile, licence=hostile),
        dataclasses.replace(rest[0], method="plain", error=hostile, scores={}, versions={hostile: hostile}),
        dataclasses.replace(rest[1], task=f"{hostile.replace('/', '')}/test_acc/paper", metric="r2"),
        dataclasses.replace(rest[2], method="p", source="published", method_source=hostile, confidence=hostile),
    ]
    found = Page(written([*records(), *bad], tmp_path, title=hostile))
    assert len(found.of("script")) == len(found.of("style")) == 1
    assert found.of("img") == []
    assert [name for _, a in found.elements for name in a if name.startswith("on")] == []
    assert hostile in "".join(found.text)
    assert {tag for tag, _ in found.elements} == {tag for tag, _ in page.elements}


def test_same_records_give_the_same_bytes(text: str, tmp_path: Path) -> None:
    """Whatever order they come in, and whenever it is."""
    shuffled = records()
    random.Random(0).shuffle(shuffled)
    assert written(shuffled, tmp_path) == text


def test_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are made, an older page is replaced, nothing else is left, and a failure leaves the older page alone."""
    path = write_report(Leaderboard(records()), tmp_path / "a" / "b" / "page.html", title="First")
    write_report(Leaderboard(records()), str(path), title="Second")
    assert "<h1>Second</h1>" in path.read_text(encoding="utf-8")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match="jinja2"):
        write_report(Leaderboard(records()), path, title="Third")
    assert "<h1>Second</h1>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [-1e34, -1e308, 1e308, -0.0, 1e-300, float("nan"), float("inf")])
@pytest.mark.parametrize("metric", ["r2", "mae"])
def test_absurd_numbers_are_drawn_at_the_end_of_the_axis(metric: str, value: float, tmp_path: Path) -> None:
    """A method that diverged does not spoil the page: every place in every picture is a number within it."""
    odd = Record("z/lr/cv-5x1", "odd", metric, {metric: [value]}, [value, value], fit_seconds=[0.0])
    usual = [dataclasses.replace(odd, method=f"m{i}", scores={metric: [0.1 * i]}, interval=None) for i in range(1, 5)]
    found = Page(written([odd, *usual], tmp_path))
    places = " ".join(v for name in ("d", "cx", "cy", "x", "y", "width", "height") for v in found.values(name))
    numbers = [float(part) for part in re.findall(r"[^\sMLZ]+", places)]
    assert numbers
    assert min(numbers) >= 0
    assert max(numbers) < 1500


def test_too_few_tasks_are_said_to_be_too_few(tmp_path: Path) -> None:
    """The page says that no difference can be significant, and from how many on; one record alone makes a page, too."""
    few = [record for record in records() if record.task.startswith("digits") and record.method in METHODS]
    assert f"4 tasks are too few: it takes {Leaderboard(few).fewest_tasks} at least." in written(few, tmp_path)
    assert Leaderboard(few).fewest_tasks > 4
    alone = "".join(Page(written(few[:1], tmp_path)).text)
    assert "1 method on 1 task of 1 zoo" in alone
    assert "Fewer than two methods are ranked." in alone and "No two methods share a task." in alone


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_critical_difference_shows_ranks_and_cliques() -> None:
    """A point a method, as far along as its mean rank, and a bar over those that do not differ."""
    board = Leaderboard(record for record in records() if record.method in METHODS)
    found = Page(plots.critical_difference(board))
    points = [float(a["cx"] or 0) for a in found.of("circle")]
    ranks = sorted(board.ranking()["mean_rank"])
    assert np.corrcoef(points, ranks)[0, 1] == pytest.approx(1, abs=1e-4)
    bars = [a for a in found.of("path") if a["class"] == "line clique"]
    assert len(bars) == len(board.cliques()) == 1
    assert "Not significantly different: worst, tied" in "".join(found.text).replace("tied, worst", "worst, tied")


def test_pairs_show_wins_and_corrected_p() -> None:
    """Each pair stands twice, seen from either side, with Holm's p; significant pairs are framed."""
    board = Leaderboard(record for record in records() if record.method in METHODS)
    found = Page(plots.pairwise(board.methods, compare_all(board.ranked)))
    assert found.text.count("8 of 8") == found.text.count("0 of 8") == 5
    sure = int((board.comparisons()["p_holm"] < 0.05).sum())
    assert len([a for a in found.of("rect") if a["class"] == "sure"]) == 2 * sure == 10


def test_cost_has_a_logarithmic_axis() -> None:
    """Methods that take ten times as long each stand at equal distances."""
    board = Leaderboard(record for record in records() if record.method in METHODS)
    found = Page(plots.cost(board))
    marks = {a["class"]: a for tag, a in found.elements if tag in ("circle", "rect", "path")}
    assert {"weights", "hyperparameters", "both"} <= set(marks)
    circles = sorted(float(a["cx"] or 0) for a in found.of("circle"))
    square = float(found.of("rect")[0]["x"] or 0) + 4.5
    assert (square - circles[0]) * 3 == pytest.approx(circles[1] - circles[0], abs=1)


def test_axis_reaches_as_far_as_scores_mean_something() -> None:
    """From 0 to 1 where that is enough, to -1 where needed, and of losses to the usual ones' next power of ten."""
    assert plots.domain("r2", [0.9, -0.01]) == (0, 1)
    assert plots.domain("r2", [0.9, -0.4]) == (-0.5, 1)
    assert plots.domain("r2", [0.9, -0.8, -1e34]) == (-1, 1)
    assert plots.domain("mae", [0.02, 0.03, 1e9]) == (0, 0.1)


def test_numbers_are_short_and_aligned() -> None:
    """Three decimals and a real minus; a power of ten for what is absurd; p-values without a leading nought."""
    found = [plots.number(value) for value in (0.5, -0.25, -0.0001, -3e34, 1e9, float("nan"))]
    assert found == ["0.500", "−0.250", "0.000", "−3e34", "1e9", "not defined"]
    assert [plots.p_text(p) for p in (0.0001, 0.0312, 1.0, float("nan"))] == [
        "p < .001",
        "p = .031",
        "p = 1",
        "no test",
    ]


@pytest.mark.parametrize("protocol", ["cv-5x1", "cv-10x3", "paper", "nfn", "transfer-from-digits_cnn_s_seed"])
def test_every_protocol_is_described(protocol: str) -> None:
    """One sentence a protocol; an unknown one gets none rather than a wrong one."""
    assert describe_protocol(protocol).endswith(".")
    assert describe_protocol("another") == ""
