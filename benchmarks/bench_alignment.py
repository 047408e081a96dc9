"""`PermutationAligner` on 1000 CNN-s models against a loop that matches one model after the other.

The models are states of the bundled zoo, permuted, with a little noise so that no two are equal. The loop is Git
Re-Basin's weight matching as one writes it down: for each model and each of as many starts, layers in random order,
one product of matrices a tensor and one assignment a layer, until nothing is gained. Both run on one core, by turns,
and the fastest of several runs counts, in processor time, because other work on the machine is none of ours. The loop
takes a part of the models.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy.optimize import linear_sum_assignment

from conftest import Beside
from zoobench.estimators.alignment import PermutationAligner
from zoobench.estimators.permutation import NeuronPermutation
from zoobench.fetch import fetch_zoo
from zoobench.layout import WeightLayout

N_STATES, N_IN_LOOP, N_ROUNDS, N_INIT = 1000, 50, 5, 3

#: Tensors of CNN-s as (rows, columns, tail), with the permutations of rows and columns.
SHAPES = ((8, 1, 25), (6, 8, 25), (4, 6, 4), (20, 4, 9), (10, 20, 1))
ENDS = ((0, None), (1, 0), (2, 1), (3, 2), (None, 3))
SIZES = (8, 6, 4, 20)


def tensors_of(vector: np.ndarray, layout: WeightLayout) -> tuple[list[np.ndarray], list[np.ndarray]]:
    values = [np.asarray(value, dtype=np.float64) for value in layout.unflatten(vector).values()]
    return [value.reshape(shape) for value, shape in zip(values[::2], SHAPES, strict=True)], values[1::2]


def match_one(
    reference: tuple[list[np.ndarray], list[np.ndarray]],
    model: tuple[list[np.ndarray], list[np.ndarray]],
    rng: np.random.Generator,
) -> float:
    best = -np.inf
    for _ in range(N_INIT):
        orders = [np.arange(size) for size in SIZES]
        gained = True
        while gained:
            gained = False
            for k in rng.permutation(len(SIZES)):
                cost = np.outer(reference[1][k], model[1][k])
                for wanted, found, (row, column) in zip(reference[0], model[0], ENDS, strict=True):
                    if row == k:
                        found = found if column is None else found[:, orders[column]]
                        cost += wanted.reshape(SIZES[k], -1) @ found.reshape(SIZES[k], -1).T
                    elif column == k:
                        found = found if row is None else found[orders[row]]
                        cost += np.tensordot(wanted, found, axes=((0, 2), (0, 2)))
                chosen = linear_sum_assignment(cost, maximize=True)[1]
                before = cost[np.arange(SIZES[k]), orders[k]].sum()
                product = cost[np.arange(SIZES[k]), chosen].sum()
                if product > before + 1e-12:
                    orders[k], gained = chosen, True
        best = max(best, product)
    return best


def test_alignment(benchmark: BenchmarkFixture, beside: Beside, capsys: pytest.CaptureFixture[str]) -> None:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    zoo = fetch_zoo("digits_cnn_s")
    rng = np.random.default_rng(0)
    X = np.resize(zoo.data, (N_STATES, zoo.layout.n_weights))
    X = NeuronPermutation(zoo.layout).fit_transform(X + rng.normal(0, 1e-3, X.shape).astype(np.float32))
    aligner = PermutationAligner(zoo.layout, reference=zoo.data[-1], n_init=N_INIT).fit(X)
    reference = tensors_of(zoo.data[-1], zoo.layout)
    models = [tensors_of(x, zoo.layout) for x in X[:N_IN_LOOP]]
    ours = loop = np.inf
    for _ in range(N_ROUNDS):
        started = time.process_time()
        aligner.transform(X)
        ours = min(ours, time.process_time() - started)
        started = time.process_time()
        for model in models:
            match_one(reference, model, rng)
        loop = min(loop, (time.process_time() - started) * N_STATES / N_IN_LOOP)
    benchmark.extra_info["ratio"] = loop / ours
    beside(f"PermutationAligner, {N_STATES} CNN-s models", ours, "a loop over models", loop)
    with capsys.disabled():
        print(
            f"\n{N_STATES} models, {N_INIT} starts, 1 core: {ours:.2f} s; a loop takes {loop / ours:.1f} times as long"
        )
    benchmark.pedantic(aligner.transform, args=(X,), rounds=3)
    os.sched_setaffinity(0, cores)
