"""Every display draws what it says: the right numbers, where it is told to, with words where something is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression

from zoobench.benchmark.displays import (
    CostDisplay,
    CriticalDifferenceDisplay,
    DiversityDisplay,
    PredictionDisplay,
    PropertyHistogramDisplay,
    RankDisplay,
    TrajectoryDisplay,
    ZooOverviewDisplay,
)
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import Record
from zoobench.fetch import fetch_zoo
from zoobench.zoo import Zoo

matplotlib.use("Agg")

TASK = "zoo_0/test_acc/cv-5x1"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    plt.close("all")  # what other tests of this process left open
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def zoo() -> Zoo:
    return fetch_zoo("digits_cnn_s", subset="test")


def board(n_tasks: int, **levels: float) -> Leaderboard:
    """Methods whose score is their level on every task, but for a little that differs from task to task."""
    rng = np.random.default_rng(0)
    kinds = ("weights", "hyperparameters", "both")
    found = []
    for task in range(n_tasks):
        for number, (method, level) in enumerate(levels.items()):
            score = level + float(rng.uniform(0, 0.05))
            found.append(
                Record(
                    f"zoo_{task}/test_acc/cv-5x1",
                    method,
                    "r2",
                    {"r2": [score]},
                    [score - 0.1, score + 0.2],
                    fit_seconds=[10.0**number],
                    inputs=kinds[number % 3],
                )
            )
    return Leaderboard(found)


SMALL = {"good": 0.9, "like_good": 0.9, "bad": 0.2}

TABLE = pd.DataFrame(
    {"accuracy_mean": [0.3, 0.8], "accuracy_std": [0.1, 0.05], "accuracy_min": [0.1, 0.6], "accuracy_max": [0.5, 0.9]}
    | {f"{name}_{what}": [0.5, 0.25] for name in ("agreement", "l2", "cosine", "cka") for what in ("mean", "std")},
    index=pd.Index([5, 50], name="epoch"),
)

#: What draws each display, into given axes or a figure of its own.
DRAWN: dict[str, Callable[[Zoo, Any], Any]] = {
    "overview": lambda zoo, ax: ZooOverviewDisplay.from_zoo(zoo, ax=ax),
    "histogram": lambda zoo, ax: PropertyHistogramDisplay.from_zoo(zoo, "ggap", ax=ax),
    "prediction": lambda zoo, ax: PredictionDisplay.from_predictions([0, 1], [1, 0], ax=ax),
    "critical difference": lambda zoo, ax: CriticalDifferenceDisplay.from_leaderboard(board(9, **SMALL), ax=ax),
    "ranks": lambda zoo, ax: RankDisplay.from_leaderboard(board(3, **SMALL), ax=ax),
    "scores": lambda zoo, ax: RankDisplay.from_leaderboard(board(3, **SMALL), task=TASK, ax=ax),
    "cost": lambda zoo, ax: CostDisplay.from_leaderboard(board(3, **SMALL), ax=ax),
    "trajectory": lambda zoo, ax: TrajectoryDisplay.from_zoo(zoo, n_models=5, ax=ax),
    "diversity": lambda zoo, ax: DiversityDisplay.from_analysis(TABLE[["l2_mean", "l2_std"]], ax=ax),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_where_it_is_told_to_and_again(zoo: Zoo, name: str) -> None:
    """Into given axes and no others; `plot` returns the display and draws elsewhere; every axis says what it shows."""
    figure, ax = plt.subplots()
    display = DRAWN[name](zoo, ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert display.plot() is display
    assert display.figure_ is not figure
    assert display.ax_.get_xlabel()
    assert display.ax_.get_ylabel() or name in ("critical difference", "ranks", "scores", "diversity")
    display.figure_.canvas.draw()


@pytest.mark.parametrize("name", DRAWN)
def test_without_matplotlib_it_says_what_to_install(zoo: Zoo, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing and computing works without; drawing is one clear error."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Display draws with matplotlib, .* pip install 'zoobench\[plot\]'"):
        DRAWN[name](zoo, None)


def test_words_do_not_overlap() -> None:
    """Labels of methods of nearly equal cost and rank stand apart, and so do those of a crowded diagram."""
    crowded = board(4, **{f"a_method_of_some_length_{i}": 0.5 + 0.001 * i for i in range(8)})
    costs = CostDisplay.from_leaderboard(crowded)
    ranks = CriticalDifferenceDisplay.from_leaderboard(crowded)
    for display in (costs, ranks):
        display.figure_.canvas.draw()
        texts = [*display.labels_, *([display.note_] if display is ranks else [])]
        boxes = [text.get_window_extent() for text in texts]
        frame = display.figure_.bbox
        for i, box in enumerate(boxes):
            assert box.x0 >= frame.x0 and box.x1 <= frame.x1, texts[i].get_text()
            assert not [texts[j].get_text() for j in range(i) if box.overlaps(boxes[j])]


# -- zoos --------------------------------------------------------------------------------------------------------------


def test_overview_shows_quantiles_and_single_models(zoo: Zoo) -> None:
    """The line is the median of each epoch, the bands hold 90 and 50 %, and runs are the models' own values."""
    display = ZooOverviewDisplay.from_zoo(zoo, n_runs=3)
    by_epoch = zoo.properties.groupby("epoch")["test_acc"]
    np.testing.assert_allclose(display.median_.get_ydata(), by_epoch.median())
    assert display.median_.get_xdata().tolist() == [5, 25, 50]
    outer = display.bands_[0].get_paths()[0].vertices
    at_50 = outer[outer[:, 0] == 50, 1]
    np.testing.assert_allclose([at_50.min(), at_50.max()], by_epoch.get_group(50).quantile([0.05, 0.95]))
    assert len(display.runs_) == 3
    name = display.runs.columns[1]
    own = zoo.properties[zoo.properties["model"] == name].sort_values("epoch")["test_acc"]
    np.testing.assert_allclose(display.runs_[1].get_ydata(), own)
    assert display.ax_.get_title() == f"{zoo.properties['model'].nunique()} models"


def test_histogram_counts_every_state_once(zoo: Zoo) -> None:
    """Numbers by epoch, in bins over all; one group where the value is a model's own."""
    display = PropertyHistogramDisplay.from_zoo(zoo, bins=7)
    assert list(display.counts_) == ["epoch 5", "epoch 25", "epoch 50"]
    of_50 = zoo.properties.loc[zoo.properties["epoch"] == 50, "test_acc"]
    assert display.edges_ is not None
    np.testing.assert_array_equal(display.counts_["epoch 50"], np.histogram(of_50, display.edges_)[0])
    assert sum(counts.sum() for counts in display.counts_.values()) == len(zoo.data)
    steps = [patch for patch in display.ax_.patches if patch.get_label() == "epoch 50"]
    np.testing.assert_array_equal(steps[0].get_data().values, display.counts_["epoch 50"])


@pytest.mark.filterwarnings("ignore:zoo 'digits_cnn_s_hyp_rand':UserWarning")
def test_histogram_of_names_and_of_powers_of_ten() -> None:
    """Names and the few values of a grid are bars; what spans orders of magnitude has a logarithmic axis."""
    varied = fetch_zoo("digits_cnn_s_hyp_rand", subset="test", epochs="last")
    display = PropertyHistogramDisplay.from_zoo(varied, "activation")
    counts = varied.properties["activation"].value_counts().sort_index()
    (shown,) = display.counts_.values()
    heights = [bar.get_height() for bar in display.ax_.patches]
    assert shown.tolist() == heights == counts[counts > 0].tolist()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == counts[counts > 0].index.tolist()
    rates = varied.properties["lr"].value_counts().sort_index()
    display = PropertyHistogramDisplay.from_zoo(varied, "lr")
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == [f"{rate:g}" for rate in rates.index]
    assert display.counts_["states"].tolist() == rates.tolist()
    display = PropertyHistogramDisplay({"states": np.geomspace(1e-5, 1, 50)}, name="lr", bins=10).plot()
    assert display.ax_.get_xscale() == "log"
    assert display.counts_["states"].tolist() == [5] * 10


def test_trajectories_are_principal_components_joined_by_epoch(zoo: Zoo) -> None:
    """Places agree with scikit-learn's PCA up to the sign, lines follow a model's epochs, colours are accuracies."""
    display = TrajectoryDisplay.from_zoo(zoo)
    order = np.lexsort((zoo.properties["epoch"], zoo.groups))
    reference = PCA(2, svd_solver="full").fit(zoo.data.astype(np.float64))
    expected = reference.transform(zoo.data)[order]
    found = np.asarray(display.points_.get_offsets())
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(display.explained, reference.explained_variance_ratio_, rtol=1e-4)
    segments = display.lines_.get_segments()
    assert len(segments) == zoo.properties["model"].nunique()
    np.testing.assert_allclose(segments[1], found[3:6])
    np.testing.assert_allclose(display.points_.get_array(), zoo.properties["test_acc"].to_numpy()[order])
    few = TrajectoryDisplay.from_zoo(zoo, n_models=4)
    assert len(few.lines_.get_segments()) == 4
    assert {tuple(row) for row in few.coordinates} <= {tuple(row) for row in display.coordinates}


# -- predictions -------------------------------------------------------------------------------------------------------


def test_predictions_are_drawn_as_given() -> None:
    """One point a state; groups in a legend while they are few, else on a scale; both axes have the same ends."""
    rng = np.random.default_rng(0)
    true, predicted = rng.normal(size=(2, 50))
    epochs = pd.Series(np.arange(50) % 3, name="epoch")
    display = PredictionDisplay.from_predictions(true, predicted, groups=epochs)
    assert len(display.points_) == 3
    np.testing.assert_allclose(display.points_[1].get_offsets(), np.c_[true, predicted][epochs == 1])
    legend = display.ax_.get_legend()
    assert legend.get_title().get_text() == "epoch"
    assert [text.get_text() for text in legend.get_texts()] == ["0", "1", "2"]
    assert display.ax_.get_xlim() == display.ax_.get_ylim()
    many = PredictionDisplay.from_predictions(true, predicted, groups=np.arange(50), group_name="model")
    np.testing.assert_array_equal(many.points_[0].get_array(), np.arange(50))
    assert many.figure_.axes[1].get_ylabel() == "model"


def test_an_estimator_predicts_what_is_drawn() -> None:
    """What `predict` gives stands on the vertical axis, and R2 in the title."""
    X = np.arange(6.0)[:, None]
    y = np.array([0.0, 1.2, 1.9, 3.0, 4.1, 5.0])
    model = LinearRegression().fit(X, y)
    display = PredictionDisplay.from_estimator(model, X, y)
    np.testing.assert_allclose(display.points_[0].get_offsets(), np.c_[y, model.predict(X)])
    assert display.ax_.get_title() == f"R² = {model.score(X, y):.3f}"


# -- leaderboards ------------------------------------------------------------------------------------------------------


def test_critical_difference_shows_ranks_and_cliques() -> None:
    """Each method at its mean rank; a bar over those that cannot be told apart, and none over those that can."""
    found = board(12, **SMALL)
    display = CriticalDifferenceDisplay.from_leaderboard(found)
    ranks = found.ranking()["mean_rank"]
    dots = sorted(line.get_xdata()[0] for line in display.ax_.lines if line.get_marker() == "o")
    assert dots == pytest.approx(sorted(ranks))
    assert display.cliques == found.cliques() == [tuple(found.methods[:2])]
    (bar,) = display.bars_
    assert bar.get_xdata()[0] < ranks.min() < ranks["like_good"] < bar.get_xdata()[1] < ranks["bad"]
    assert f"{ranks['bad']:.2f}  bad" in display.labels_[-1].get_text()
    assert "12 tasks" in display.ax_.get_xlabel()


def test_too_few_tasks_are_said_to_be_too_few() -> None:
    """No bar, and a sentence in its place that says how many it takes."""
    display = CriticalDifferenceDisplay.from_leaderboard(board(3, **SMALL))
    assert display.bars_ == []
    said = display.note_.get_text()
    assert "3 tasks are too few to call any difference among 3 methods significant" in said
    found = board(int(said.split()[-3]), **SMALL)
    assert "too few" not in CriticalDifferenceDisplay.from_leaderboard(found).note_.get_text()


def test_rank_display_shows_means_and_extremes() -> None:
    """The large dot is the mean rank, the line goes from the best to the worst rank, small dots are single tasks."""
    found = board(7, **SMALL)
    display = RankDisplay.from_leaderboard(found)
    ranks = found.ranked.rank(axis=1, ascending=False)
    expected = ranks.mean().sort_values()
    offsets = np.asarray(display.points_.get_offsets())
    np.testing.assert_allclose(offsets, np.c_[expected, range(3)])
    lines = [segment[:, 0].tolist() for segment in display.lines_.get_segments()]
    assert lines == [[ranks[name].min(), ranks[name].max()] for name in expected.index]
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == expected.index.tolist()


def test_scores_of_a_task_have_their_intervals() -> None:
    """The best on top; intervals are those of the records, and of a loss the smaller is the better."""
    found = board(2, **SMALL)
    display = RankDisplay.from_leaderboard(found, task=TASK)
    for place, name in enumerate(display.values.index):
        record = found.record(TASK, str(name))
        assert record is not None
        assert display.points_.get_offsets()[place].tolist() == [record.score, place]
        assert display.lines_.get_segments()[place][:, 0].tolist() == record.interval
    assert display.values.is_monotonic_decreasing
    errors = {"good": 0.1, "worse": 0.4}
    losses = Leaderboard(Record("z/ggap/cv-5x1", name, "mae", {"mae": [value]}) for name, value in errors.items())
    display = RankDisplay.from_leaderboard(losses, task="z/ggap/cv-5x1")
    assert display.values.to_dict() == errors
    assert "lower is better" in display.ax_.get_xlabel()


def test_cost_is_logarithmic_and_has_a_front() -> None:
    """Seconds against mean rank; the front leads along methods that no cheaper one outranks."""
    found = board(7, cheap=0.2, good=0.9, waste=0.1)
    display = CostDisplay.from_leaderboard(found)
    table = found.ranking()
    drawn = {tuple(point) for points in display.points_ for point in points.get_offsets().tolist()}
    assert drawn == set(zip(table["fit_seconds"], table["mean_rank"], strict=True))
    assert display.ax_.get_xscale() == "log"
    assert display.front_.get_xdata().tolist() == table.loc[["cheap", "good"], "fit_seconds"].tolist()
    assert {label.get_text() for label in display.labels_} == {"cheap", "good", "waste"}
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["weights", "hyper-parameters", "both"]


def test_diversity_draws_a_panel_a_kind_of_measure() -> None:
    """Means as lines over the epochs; measures that the table lacks have no line, and no panel if none is left."""
    display = DiversityDisplay.from_analysis(TABLE)
    assert len(display.axes_) == 3
    assert set(display.lines_) == {"accuracy", "agreement", "cka", "l2", "cosine"}
    assert display.lines_["accuracy"].get_ydata().tolist() == [0.3, 0.8]
    assert display.lines_["accuracy"].get_xdata().tolist() == [5, 50]
    part = DiversityDisplay.from_analysis(TABLE[["cka_mean", "cka_std"]])
    assert (len(part.axes_), list(part.lines_)) == (1, ["cka"])


# -- refusals ----------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Zoo], Any], str]] = {
    "property": (lambda zoo: ZooOverviewDisplay.from_zoo(zoo, "test_ac"), "has no property 'test_ac'; there are"),
    "name": (lambda zoo: ZooOverviewDisplay.from_zoo(zoo, "activation"), "PropertyHistogramDisplay shows it"),
    "epoch": (lambda zoo: ZooOverviewDisplay.from_zoo(zoo.select(epochs=[5])), "has a single epoch"),
    "bar": (lambda zoo: PropertyHistogramDisplay.from_zoo(zoo, "test_ac"), "has no property 'test_ac'"),
    "colour": (lambda zoo: TrajectoryDisplay.from_zoo(zoo, "activation"), "'activation' is no number"),
    "component": (lambda zoo: TrajectoryDisplay.from_zoo(zoo, components=(-1, 0)), "two numbers from 0"),
    "nan": (lambda zoo: PredictionDisplay.from_predictions([0.1], [np.nan]), "y_pred must be finite numbers"),
    "text": (lambda zoo: PredictionDisplay.from_predictions(["a"], [0.1]), "y_true must be numbers"),
    "length": (lambda zoo: PredictionDisplay.from_predictions([0.1, 0.2], [0.1]), "inconsistent numbers of samples"),
    "names": (
        lambda zoo: PredictionDisplay.from_predictions(range(9), range(9), groups=list("abcdefghi")),
        "9 different names",
    ),
    "single": (lambda zoo: CriticalDifferenceDisplay.from_leaderboard(board(3, one=1.0)), "and two are needed"),
    "task": (lambda zoo: RankDisplay.from_leaderboard(board(1, a=1, b=2), task="x/y/z"), "no task 'x/y/z'; there are"),
    "times": (
        lambda zoo: CostDisplay.from_leaderboard(Leaderboard([Record(TASK, "a", "r2", {"r2": [0.5]})])),
        "no method with both a rank and a time",
    ),
    "table": (lambda zoo: DiversityDisplay.from_analysis(pd.DataFrame({"a": [1]})), "give what analyze_zoo returns"),
    "panels": (lambda zoo: DiversityDisplay.from_analysis(TABLE, ax=plt.subplots()[1]), "3 panels to draw, but 1 axes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drawn_is_said(zoo: Zoo, name: str) -> None:
    """An error that names what was found and what would do."""
    draw, said = REFUSED[name]
    with pytest.raises(ValueError, match=said):
        draw(zoo)
