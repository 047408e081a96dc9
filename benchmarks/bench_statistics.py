"""`WeightStatistics` against the cheapest way to percentiles alone: a numpy sort per tensor and block of rows.

The ratio is that of the fastest of several runs, which alternate so that both see the same load of the machine. Once
with the threads that it takes by itself, once on one core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conftest import Beside
from zoobench.estimators.statistics import WeightStatistics
from zoobench.layout import WeightLayout

N_STATES, N_ROUNDS = 5000, 10

#: Rows that the baseline sorts at a time: what is fastest here, and a size that one would write down unmeasured.
BLOCKS = (128, 1024)


def sort_blocks(X: np.ndarray, layout: WeightLayout, n_rows: int) -> None:
    for start in range(0, len(X), n_rows):
        block = X[start : start + n_rows]
        for tensor in layout.tensors:
            np.sort(block[:, tensor.slice], axis=1)


@pytest.mark.parametrize("one_core", [False, True])
@pytest.mark.parametrize("architecture", ["cnn_s", "cnn_l"])
def test_statistics(
    benchmark: BenchmarkFixture, beside: Beside, architecture: str, one_core: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = os.sched_getaffinity(0)
    if one_core:
        os.sched_setaffinity(0, {min(cores)})
    layout = WeightLayout.from_architecture(architecture)
    X = np.random.default_rng(0).normal(0, 0.1, size=(N_STATES, layout.n_weights)).astype(np.float32)
    statistics = WeightStatistics(layout).fit(X)
    work: dict[str, Callable[[], object]] = {"ours": lambda: statistics.transform(X)}
    work |= {f"{rows} rows": partial(sort_blocks, X, layout, rows) for rows in BLOCKS}
    fastest = dict.fromkeys(work, np.inf)
    for _ in range(N_ROUNDS):
        for name, run in work.items():
            started = time.perf_counter()
            run()
            fastest[name] = min(fastest[name], time.perf_counter() - started)
    ours = fastest.pop("ours")
    ratios = {name: ours / seconds for name, seconds in fastest.items()}
    benchmark.extra_info.update(ratios)
    what = f"WeightStatistics, {N_STATES} {architecture}{', one core' if one_core else ''}"
    beside(what, ours, "numpy.sort of each tensor", min(fastest.values()))
    with capsys.disabled():
        shown = ", ".join(f"{ratio:.2f} of sorting {name}" for name, ratio in ratios.items())
        print(f"\n{architecture}, {1 if one_core else len(cores)} cores: {ours * 1e3:.0f} ms, {shown} at a time")
    benchmark.pedantic(statistics.transform, args=(X,), rounds=5, warmup_rounds=1)
    os.sched_setaffinity(0, cores)
