"""Pictures of zoos, predictions and leaderboards
=================================================

The displays of ``zoobench.benchmark.displays``, in the style of scikit-learn's: a ``from_*`` method computes and draws.

``python examples/plot_displays.py --save docs/displays`` makes the pictures of the documentation.
It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from zoobench import fetch_zoo
from zoobench.benchmark.analysis import analyze_zoo
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
from zoobench.benchmark.records import RECORDS
from zoobench.estimators import WeightStatistics

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="folder to write into (default: show the figures)")
parser.add_argument("--records", default=RECORDS, help="folder of `zoobench run` (default: those of the bundled zoos)")
arguments, _ = parser.parse_known_args()
figures = {}

# %%
# A zoo: accuracy over the epochs, its distribution, and where the networks are in the space of weights.

zoo = fetch_zoo("digits_cnn_s_hyp_rand")
figures["zoo"], axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
ZooOverviewDisplay.from_zoo(zoo, ax=axes[0])
PropertyHistogramDisplay.from_zoo(zoo, ax=axes[1])
trajectories = TrajectoryDisplay.from_zoo(fetch_zoo("digits_cnn_s_seed"), n_models=50)
figures["trajectories"] = trajectories.figure_

# %%
# Test accuracy as boosting on layer statistics predicts it for networks that it has not seen.

bounded = zoo.select(max_abs_weight=5)
model = make_pipeline(WeightStatistics(layout=zoo.layout), HistGradientBoostingRegressor(random_state=0))
predicted = cross_val_predict(model, bounded.data, bounded.target, groups=bounded.groups, cv=GroupKFold(5))
display = PredictionDisplay.from_predictions(bounded.target, predicted, groups=bounded.properties["epoch"])
figures["prediction"] = display.figure_

# %%
# How much the networks of a zoo differ: takes a minute.

figures["diversity"] = DiversityDisplay.from_analysis(analyze_zoo(fetch_zoo("digits_cnn_s_seed"))).figure_

# %%
# The leaderboard of the bundled zoos: ranks, whether they differ, and what a better one costs.

board = Leaderboard.from_folder(arguments.records)
figures["critical_difference"] = CriticalDifferenceDisplay.from_leaderboard(board).figure_
figures["ranks"] = RankDisplay.from_leaderboard(board).figure_
figures["cost"] = CostDisplay.from_leaderboard(board).figure_
figures["scores"] = RankDisplay.from_leaderboard(board, task=board.tasks[0]).figure_

if arguments.save:
    for name, figure in figures.items():
        figure.savefig(Path(arguments.save) / f"{name}.png", dpi=80, pil_kwargs={"optimize": True})
else:
    plt.show()
