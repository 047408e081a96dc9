"""Ranks, tests and intervals agree with independent implementations, and treat what is missing as missing."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from zoobench.benchmark import metrics
from zoobench.benchmark.ranking import (
    cliques,
    compare_all,
    complete,
    corrected_t_test,
    fewest_tasks,
    holm,
    mean_ranks,
    win_rates,
)

SEEDS = st.integers(0, 2**32 - 1)


def random_table(seed: int, *, rounded: bool = False) -> pd.DataFrame:
    """Scores of 2-6 methods on 6-30 tasks; rounded ones have ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(rng.integers(6, 31), rng.integers(2, 7)))
    return pd.DataFrame(scores.round(1) if rounded else scores, columns=list("abcdef")[: scores.shape[1]])


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rounded=st.booleans())
def test_ranks_are_scipys(seed: int, rounded: bool) -> None:
    """The mean rank is that of scipy's ranks, the best first."""
    table = random_table(seed, rounded=rounded)
    expected = stats.rankdata(-table.to_numpy(), axis=1).mean(axis=0)
    np.testing.assert_allclose(mean_ranks(table), expected, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, rounded=st.booleans())
def test_win_rates_are_counted(seed: int, rounded: bool) -> None:
    """The win rate is what counting every comparison gives."""
    table = random_table(seed, rounded=rounded)
    for name, rate in win_rates(table).items():
        others = table.drop(columns=name).to_numpy()
        own = table[[name]].to_numpy()
        assert rate == pytest.approx(((own > others) + 0.5 * (own == others)).mean(), abs=1e-9)


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_pairwise_p_values_are_those_of_scikit_posthocs(seed: int) -> None:
    """Wilcoxon's test with Holm's correction over all pairs, against an independent implementation."""
    table = random_table(seed)
    long = table.melt(var_name="method", value_name="score")
    expected = scikit_posthocs.posthoc_wilcoxon(long, val_col="score", group_col="method", p_adjust="holm")
    for found in compare_all(table):
        assert found.p_holm == pytest.approx(expected.loc[found.first, found.second], abs=1e-9)
        assert found.p == pytest.approx(stats.wilcoxon(table[found.first], table[found.second]).pvalue, abs=1e-9)


@given(seed=SEEDS)
def test_the_corrected_t_test_without_correction_is_the_t_test(seed: int) -> None:
    """With no test models the correction vanishes, and scipy's one-sample test remains."""
    differences = np.random.default_rng(seed).normal(0.3, 1, size=10)
    t, p = corrected_t_test(differences, n_train=100, n_test=0)
    expected = stats.ttest_1samp(differences, 0)
    assert (t, p) == (pytest.approx(expected.statistic, abs=1e-9), pytest.approx(expected.pvalue, abs=1e-9))
    assert corrected_t_test(differences, n_train=80, n_test=20)[1] > p


def test_holm_leaves_out_what_was_not_compared() -> None:
    """A pair that ties on every task counts as no comparison, and no corrected value passes 1."""
    found = holm([0.04, float("nan"), 0.5, 0.9])
    assert found[0] == pytest.approx(0.12)
    assert np.isnan(found[1])
    assert found[2:] == [1.0, 1.0]


def test_ranks_are_over_the_largest_part_without_a_gap() -> None:
    """No other set of methods and tasks without a missing score holds more scores."""
    rng = np.random.default_rng(3)
    for _ in range(60):
        table = pd.DataFrame(rng.random((6, 5))).mask(rng.random((6, 5)) < 0.35)
        subsets = [list(s) for n in range(1, 6) for s in combinations(table, n)]
        largest = max(len(subset) * len(table[subset].dropna()) for subset in subsets)
        assert complete(table)[0].size == largest
        assert not complete(table)[0].isna().any(axis=None)


def test_a_missing_score_is_never_averaged_over() -> None:
    """Who lacks a task has no mean rank, and the others' ranks are those of a table without them.

    A task that only one of them has takes no part either, so that it does not rob the others of their ranks.
    """
    table = pd.DataFrame({"a": [0.9, 0.7, 0.5], "b": [0.8, 0.8, 0.4], "lacking": [1.0, np.nan, 1.0]})
    extra = pd.concat([table, pd.DataFrame({"a": [0.3], "b": [np.nan], "lacking": [np.nan]})], ignore_index=True)
    pd.testing.assert_series_equal(mean_ranks(extra), mean_ranks(table))
    assert complete(table)[1] == ["lacking"]
    for statistic in (mean_ranks, win_rates):
        found = statistic(table)
        assert np.isnan(found["lacking"])
        pd.testing.assert_series_equal(found.drop("lacking"), statistic(table[["a", "b"]]))
    assert {(c.first, c.second): c.n_tasks for c in compare_all(table)}["a", "lacking"] == 2


def test_no_difference_is_significant_below_the_fewest_tasks() -> None:
    """With one task less than that, no method that always wins is significantly better; with that many, one is."""
    for n_methods in (2, 4, 8):
        for n_tasks in (fewest_tasks(n_methods) - 1, fewest_tasks(n_methods)):
            gaps = np.arange(1.0, n_tasks + 1)
            table = pd.DataFrame({f"m{i}": i * gaps for i in range(n_methods)})
            smallest = min(found.p_holm for found in compare_all(table))
            assert (smallest < 0.05) == (n_tasks == fewest_tasks(n_methods))


def test_cliques_hold_no_pair_that_differs() -> None:
    """Bars join neighbours among which nobody is significantly better, and no bar lies in another."""
    sign, size = np.tile([1, -1], 10), np.arange(20) / 100
    table = pd.DataFrame({"a": 0 * size, "b": sign * size, "c": 5 + size, "d": 5 - sign * size, "e": 9 + size})
    ranks = mean_ranks(table).sort_values().index
    assert [set(clique) for clique in cliques(table)] == [{"a", "b"}]
    assert ranks[0] == "e"
    table["d"] = table["c"] + sign * size
    assert [set(clique) for clique in cliques(table)] == [{"c", "d"}, {"a", "b"}]


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_scores_are_scikit_learns(seed: int) -> None:
    """Each metric of each kind, on random predictions."""
    rng = np.random.default_rng(seed)
    truth, predicted = rng.normal(size=(2, 30))
    found = metrics.scores(metrics.REGRESSION, truth, predicted)
    assert found["r2"] == pytest.approx(reference.r2_score(truth, predicted), abs=1e-9)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(truth, predicted), abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(truth, predicted).statistic, abs=1e-9)
    assert found["kendall_tau"] == pytest.approx(stats.kendalltau(truth, predicted).statistic, abs=1e-9)
    names, guesses = np.array(["relu", "tanh", "gelu"])[rng.integers(0, 3, size=(2, 200))]
    found = metrics.scores(metrics.CLASSIFICATION, names, guesses)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(names, guesses), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(names, guesses), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(names, guesses, average="macro"), abs=1e-9)


def test_a_score_that_is_not_defined_is_none() -> None:
    """A truth that does not vary has no R2, and a constant prediction no rank correlation; neither is NaN or zero."""
    constant, varying = np.ones(4), np.arange(4.0)
    assert metrics.score("r2", constant, varying) is None
    assert metrics.score("r2", np.full(600, 3e-4), np.linspace(0, 1, 600)) is None  # whose mean is not quite 3e-4
    assert metrics.score("kendall_tau", varying, constant) is None
    assert metrics.score("mae", varying, np.array([0.0, np.nan, 2.0, 3.0])) is None
    assert metrics.bootstrap_interval("r2", [(constant, varying, np.arange(4))], random_state=0) is None


@pytest.mark.parametrize("metric", ["r2", "mae", "accuracy", "kendall_tau", "balanced_accuracy"])
def test_resampled_scores_are_those_of_repeated_rows(metric: str) -> None:
    """The fast sums over drawn models give what scoring the repeated rows gives."""
    rng = np.random.default_rng(0)
    truth, predicted = rng.normal(size=(2, 40))
    if metric in metrics.CLASSIFICATION:
        truth, predicted = (np.where(values > 0, "sgd", "adam") for values in (truth, predicted))
    model = rng.integers(0, 12, size=40)
    counts = rng.integers(0, 3, size=(5, 12)).astype(float)
    for found, drawn in zip(metrics._resampled(metric, truth, predicted, model, counts), counts, strict=True):
        times = drawn.astype(int)[model]
        expected = metrics.score(metric, np.repeat(truth, times), np.repeat(predicted, times))
        assert found == pytest.approx(expected, abs=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Over many zoos of 100 models with three alike states each, 95 % intervals hold the true score 95 % of the time.

    Were rows drawn instead of models, they would hold it far less often.
    """
    rng = np.random.default_rng(1)
    groups, inside, n_zoos = np.repeat(np.arange(100), 3), 0, 200
    for _ in range(n_zoos):
        truth = np.repeat(rng.normal(size=100), 3)
        predicted = truth + np.repeat(rng.normal(size=100), 3) * 0.5
        folds = [(truth, predicted, groups)]
        low, high = metrics.bootstrap_interval("r2", folds, random_state=2, n_resamples=300) or (1, 0)
        inside += low < 0.75 < high
    assert 0.89 <= inside / n_zoos <= 0.99


def test_a_draw_that_does_not_vary_has_no_part_in_an_interval() -> None:
    """Of a property that is one number a model, all drawn models may have the same: R2 is not defined there."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = np.repeat(rng.choice([1e-4, 3e-4, 1e-3, 3e-3], size=4), 7)
        truth[0:7], truth[7:14] = 1e-4, 3e-3
        predicted, groups = rng.normal(1e-3, 1e-3, size=28), np.repeat(np.arange(4), 7)
        low, high = metrics.bootstrap_interval("r2", [(truth, predicted, groups)], random_state=seed) or (0, 0)
        assert -1e6 < low <= high <= 1
