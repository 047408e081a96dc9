"""Pictures of zoos, predictions and leaderboards
=================================================

The displays of :mod:`zoobench.benchmark.displays`, in the style of scikit-learn's: a ``from_*`` method computes and
draws.

``python examples/plot_displays.py --save docs/displays`` makes the pictures of the documentation.
It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import matplotlib.pyplot as plt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from zoobench import fetch_zoo
from zoobench.benchmark import Leaderboard, analyze_zoo
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
from zoobench.estimators import WeightStatistics

# %%
# A zoo: accuracy over the epochs, its distribution, and where the networks are in the space of weights.

zoo = fetch_zoo("digits_cnn_s_hyp_rand")
overview, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
ZooOverviewDisplay.from_zoo(zoo, ax=axes[0])
PropertyHistogramDisplay.from_zoo(zoo, ax=axes[1])
trajectories = TrajectoryDisplay.from_zoo(fetch_zoo("digits_cnn_s_seed"), n_models=50)

# %%
# Test accuracy as boosting on layer statistics predicts it for networks that it has not seen.

bounded = zoo.select(max_abs_weight=5)
model = make_pipeline(WeightStatistics(layout=zoo.layout), HistGradientBoostingRegressor(random_state=0))
predicted = cross_val_predict(model, bounded.data, bounded.target, groups=bounded.groups, cv=GroupKFold(5))
prediction = PredictionDisplay.from_predictions(bounded.target, predicted, groups=bounded.properties["epoch"])

# %%
# How much the networks of a zoo differ. Here are those of the val part; the picture in the documentation has all of
# them, which takes a minute.

val = fetch_zoo("digits_cnn_s_seed", subset="val")
diversity = DiversityDisplay.from_analysis(analyze_zoo(val, n_pairs=50))

# %%
# The leaderboard of the bundled zoos: ranks, whether they differ, and what a better one costs. A folder that
# ``zoobench run`` wrote takes the place of the records that come with the package.

board = Leaderboard.from_folder()
CriticalDifferenceDisplay.from_leaderboard(board)
RankDisplay.from_leaderboard(board)
CostDisplay.from_leaderboard(board)
RankDisplay.from_leaderboard(board, task=board.tasks[0])
plt.show()

# sphinx_gallery_start_ignore
import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="folder to write the pictures of the documentation into")
arguments, _ = parser.parse_known_args()
if arguments.save:
    diversity = DiversityDisplay.from_analysis(analyze_zoo(fetch_zoo("digits_cnn_s_seed")))
    for name, figure in {
        "zoo": overview,
        "trajectories": trajectories.figure_,
        "prediction": prediction.figure_,
        "diversity": diversity.figure_,
    }.items():
        figure.savefig(Path(arguments.save) / f"{name}.png", dpi=80, pil_kwargs={"optimize": True})
# sphinx_gallery_end_ignore
