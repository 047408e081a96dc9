"""The leaderboard's own work, without the methods', against the same by plain scipy, scikit-learn and pandas.

Ranking and comparisons of the committed records, against a loop over records, pairs and tasks; the interval of one
score, against scikit-learn's metric on each of two hundred resamples; tables as HTML, against pandas' own; and a second
run of a finished store, against the first one, which fits. Numbers that both compute are the same.
"""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.stats import wilcoxon
from sklearn.metrics import r2_score

from conftest import Beside, Turns
from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.metrics import bootstrap_interval
from zoobench.benchmark.records import RECORDS, Record, iterate_records
from zoobench.benchmark.report import write_report
from zoobench.benchmark.runner import run_benchmark

N_RESAMPLES = 200


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(iterate_records(RECORDS))


def plain_ranking(records: list[Record]) -> tuple[pd.Series, dict[tuple[str, str], float]]:
    """Mean ranks and Holm's p-values, as one writes them down."""
    rows = [{"task": r.task, "method": r.method, "score": np.mean(r.scores[r.metric])} for r in records]
    table = pd.DataFrame(rows).pivot(index="task", columns="method", values="score")
    ranks = table.rank(axis=1, ascending=False).mean().sort_values()
    pairs = list(combinations(ranks.index, 2))
    found = {pair: wilcoxon(table[pair[0]], table[pair[1]]).pvalue for pair in pairs}
    corrected, largest = {}, 0.0
    for position, pair in enumerate(sorted(found, key=lambda pair: found[pair])):
        largest = max(largest, min(1.0, found[pair] * (len(pairs) - position)))
        corrected[pair] = largest
    return ranks, corrected


def test_ranking(benchmark: BenchmarkFixture, records: list[Record], by_turns: Turns, beside: Beside) -> None:
    def ours() -> tuple[pd.DataFrame, pd.DataFrame]:
        board = Leaderboard(records)
        return board.ranking(), board.comparisons()

    ranking, comparisons = ours()
    ranks, _ = plain_ranking(records)
    np.testing.assert_allclose(ranking["mean_rank"], ranks.reindex(ranking.index))
    assert len(comparisons) == len(ranks) * (len(ranks) - 1) / 2
    times = by_turns({"ours": ours, "plain": lambda: plain_ranking(records)})
    what = f"ranking and comparisons of {len(records)} records"
    beside(what, times["ours"], "pandas and scipy", times["plain"])
    benchmark.pedantic(ours, rounds=3)


def test_interval(benchmark: BenchmarkFixture, by_turns: Turns, beside: Beside) -> None:
    rng, n_models, n_states, n_folds = np.random.default_rng(0), 200, 3, 5
    folds = []
    for fold in range(n_folds):
        groups = np.repeat(np.arange(fold, n_models, n_folds), n_states)
        truth = rng.normal(size=len(groups))
        folds.append((truth, truth + 0.3 * rng.normal(size=len(groups)), groups))

    def plain() -> tuple[float, float]:
        draws = np.random.default_rng(0).multinomial(n_models, np.full(n_models, 1 / n_models), size=N_RESAMPLES)
        means = []
        for times in draws:
            weighted = [r2_score(truth, guess, sample_weight=times[groups]) for truth, guess, groups in folds]
            means.append(np.mean(weighted))
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)

    def ours() -> tuple[float, float] | None:
        return bootstrap_interval("r2", folds, random_state=0, n_resamples=N_RESAMPLES)

    assert ours() == pytest.approx(plain(), abs=1e-9)
    times = by_turns({"ours": ours, "plain": plain}, 1)
    beside(
        f"interval of a score, {N_RESAMPLES} resamples",
        times["ours"],
        "scikit-learn's r2_score, in a loop",
        times["plain"],
    )
    benchmark.pedantic(ours, rounds=5)


def test_writing(
    benchmark: BenchmarkFixture, records: list[Record], by_turns: Turns, beside: Beside, tmp_path: Path
) -> None:
    board = Leaderboard(records)
    frame = board.to_frame()

    def page() -> Path:
        return write_report(board, tmp_path / "index.html")

    times = by_turns({"html": board.to_html, "page": page, "pandas": frame.to_html})
    beside(f"to_html of {len(records)} records", times["html"], "DataFrame.to_html", times["pandas"])
    beside("write_report: page with tables and plots", times["page"], "DataFrame.to_html", times["pandas"])
    benchmark.pedantic(page, rounds=3)


def test_second_run(benchmark: BenchmarkFixture, beside: Beside, tmp_path: Path) -> None:
    """Nothing is computed again: a run of a finished store reads its records."""

    store = tmp_path / "store"

    def run() -> list[Record]:
        return run_benchmark(["digits_cnn_s_seed"], methods=["dummy", "statistics_ridge", "pca_ridge"], out=store)

    started = time.perf_counter()
    first = run()
    fitting = time.perf_counter() - started
    files = {path: path.stat().st_mtime_ns for path in store.rglob("*.json")}
    second = benchmark.pedantic(run, rounds=3)
    assert second == first
    assert files == {path: path.stat().st_mtime_ns for path in store.rglob("*.json")}
    if benchmark.stats is not None:  # None under --benchmark-disable
        again = benchmark.stats.stats.min
        beside(f"second run of {len(first)} results", again, "the first, which fits", fitting)
        assert again < fitting / 2
