"""Put your own method on the leaderboard
======================================

A method is a scikit-learn estimator in a file: a class, or a function that yields one. It is named ``file.py:name``,
here and in ``zoobench run --method file.py:name``. All methods get the same folds, by model, and each result is kept as
a small file.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from zoobench.benchmark import Leaderboard, run_benchmark
from zoobench.benchmark.displays import RankDisplay

# %%
# The idea of this one: sorting all weights of a network by size forgets which neuron is which. The last step of a
# pipeline is told which model each state belongs to, and the probe chooses its penalty by held-out models.

CODE = """
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from zoobench.estimators import LinearProbeRegressor


def sorted_weights():
    return make_pipeline(FunctionTransformer(np.sort), StandardScaler(), LinearProbeRegressor())
"""
folder = Path(tempfile.mkdtemp())
(folder / "my_method.py").write_text(CODE)
mine = f"{folder / 'my_method.py'}:sorted_weights"

# %%
# Next to it: the mean, what the hyper-parameters tell without any weight, and two linear probes of the literature.

records = run_benchmark(
    ["digits_cnn_s_hyp_rand/test_acc", "digits_cnn_s_seed/test_acc"],
    methods=["dummy", "hyperparameters_boosting", "statistics_ridge", "weights_ridge", mine],
    out=folder / "results",
)
board = Leaderboard(records)
board

# %%
# Scores on a task, with 95 % intervals over models.

RankDisplay.from_leaderboard(board, task="digits_cnn_s_hyp_rand/test_acc/cv-5x1")
plt.show()

# %%
# The table for a paper, and the same as a page: ``write_report(board, "report.html")``.

print(board.to_latex())
