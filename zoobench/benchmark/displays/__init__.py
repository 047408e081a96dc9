"""Displays: pictures of zoos, predictions and leaderboards, in the style of scikit-learn's.

A ``from_*`` method computes what is shown and draws it; ``plot(ax=...)`` draws it again, elsewhere. Drawing needs
matplotlib: ``pip install 'zoobench[plot]'``.
"""

from __future__ import annotations

from zoobench.benchmark.displays.cost import CostDisplay
from zoobench.benchmark.displays.critical_difference import CriticalDifferenceDisplay
from zoobench.benchmark.displays.diversity import DiversityDisplay
from zoobench.benchmark.displays.histogram import PropertyHistogramDisplay
from zoobench.benchmark.displays.overview import ZooOverviewDisplay
from zoobench.benchmark.displays.prediction import PredictionDisplay
from zoobench.benchmark.displays.ranks import RankDisplay
from zoobench.benchmark.displays.trajectory import TrajectoryDisplay

__all__ = [
    "CostDisplay",
    "CriticalDifferenceDisplay",
    "DiversityDisplay",
    "PredictionDisplay",
    "PropertyHistogramDisplay",
    "RankDisplay",
    "TrajectoryDisplay",
    "ZooOverviewDisplay",
]
