"""Estimators that learn from zoos: transformers of weights and linear probes, all of them scikit-learn estimators."""

from __future__ import annotations

from zoobench.estimators.classifier import LinearProbeClassifier
from zoobench.estimators.linear import LinearProbeRegressor
from zoobench.estimators.statistics import WeightStatistics

__all__ = ["LinearProbeClassifier", "LinearProbeRegressor", "WeightStatistics"]
