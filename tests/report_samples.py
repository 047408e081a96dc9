"""Records for the report page: some of everything that it has to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zoobench.benchmark.leaderboard import Leaderboard
from zoobench.benchmark.records import Record
from zoobench.benchmark.report import write_report

PROPERTIES = ("test_acc", "epoch", "ggap", "lr")
METHODS = {"best": "weights", "middle_one": "hyperparameters", "worst": "both", "tied": "weights"}


def records() -> list[Record]:
    """Two zoos, eight tasks, four methods that are ranked; one that failed once, and a published number."""
    rng, found = np.random.default_rng(0), []
    for zoo in ("digits_cnn_s_seed", "an_unknown_zoo"):
        for name in PROPERTIES:
            for level, (method, inputs) in enumerate(METHODS.items()):
                score = 0.9 - 0.2 * min(level, 2) + float(rng.uniform(0, 0.02))
                task = f"{zoo}/{name}/cv-5x1"
                found.append(
                    Record(
                        task,
                        method,
                        "r2",
                        {"r2": [score - 0.01, score + 0.01], "mae": [0.1, 0.2]},
                        [score - 0.03, score + 0.03],
                        fit_seconds=[0.01 * 10.0**level] * 2,
                        predict_seconds=[0.001, 0.002],
                        peak_memory=120_000_000,
                        n_states=600,
                        n_models=200,
                        n_train=160,
                        n_test=40,
                        inputs=inputs,
                        licence="BSD-3-Clause",
                        settings=f"Ridge(alpha={level})",
                        data_sha256="0123abcd",
                        versions={"numpy": "2.4.6"},
                        environment={"system": "Linux", "cores": 2},
                        command=f"zoobench run --tasks {task} --methods {method}",
                    )
                )
    task = "digits_cnn_s_seed/test_acc/cv-5x1"
    found.append(
        Record(task, "broken", "r2", error="ValueError: no such layer", command="zoobench run --methods broken")
    )
    found.append(
        Record(task, "in_a_paper", "r2", {"r2": [0.8]}, source="published", method_source="a paper", confidence="read")
    )
    return found


def written(found: list[Record], folder: Path, **given: str) -> str:
    return write_report(Leaderboard(found), folder / "report.html", **given).read_text(encoding="utf-8")
