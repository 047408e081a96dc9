"""`LinearProbeRegressor`, all targets at once, against scikit-learn's `RidgeCV` with one fit a target, in the same run.

Both choose among the paper's 17 penalties by leaving out one row at a time, in closed form, on raw weights (more
columns than rows) and on statistics (fewer). The chosen penalties and the predictions must be the same, and five
targets must take less time. Times are the fastest of runs that alternate.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from sklearn.linear_model import RidgeCV

from conftest import Beside
from zoobench.estimators.held_out import PAPER_ALPHAS
from zoobench.estimators.linear import LinearProbeRegressor
from zoobench.estimators.statistics import WeightStatistics

N_STATES, N_TARGETS, N_ROUNDS = 1000, 5, 3


@pytest.mark.parametrize("features", ["weights", "statistics"])
def test_probes(benchmark: BenchmarkFixture, beside: Beside, features: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.05, 0.3, size=N_STATES)
    weights = (rng.normal(0.1, 1, size=(N_STATES, 2464)) * scale[:, None]).astype(np.float32)
    X = weights if features == "weights" else WeightStatistics("cnn_s").fit_transform(weights)
    Y = scale[:, None] * rng.normal(size=N_TARGETS) + 0.02 * rng.normal(size=(N_STATES, N_TARGETS))
    exact = X.astype(np.float64)
    work: dict[str, Callable[[], list[RidgeCV] | LinearProbeRegressor]] = {
        "LinearProbeRegressor": lambda: LinearProbeRegressor().fit(X, Y),
        "RidgeCV": lambda: [RidgeCV(PAPER_ALPHAS).fit(exact, y) for y in Y.T],
    }
    fastest, fitted = dict.fromkeys(work, np.inf), {}
    for _ in range(N_ROUNDS):
        for name, run in work.items():
            started = time.perf_counter()
            fitted[name] = run()
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    ours, theirs = fitted["LinearProbeRegressor"], fitted["RidgeCV"]
    np.testing.assert_allclose(ours.alpha_, [ridge.alpha_ for ridge in theirs])
    np.testing.assert_allclose(ours.predict(X), np.stack([ridge.predict(exact) for ridge in theirs], axis=1), atol=1e-6)
    ratio = fastest["LinearProbeRegressor"] / fastest["RidgeCV"]
    benchmark.extra_info["ratio"] = ratio
    what = f"LinearProbeRegressor, {N_TARGETS} targets, {features}"
    beside(what, fastest["LinearProbeRegressor"], "RidgeCV, one fit a target", fastest["RidgeCV"])
    benchmark.pedantic(work["LinearProbeRegressor"], rounds=1)
    with capsys.disabled():
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in fastest.items())
        print(f"\n{N_TARGETS} targets on {X.shape[0]} x {X.shape[1]} {features}: {times}: {ratio:.2f} of its time")
    assert ratio < 1
