"""stub"""
from zoobench.estimators.statistics import WeightStatistics
from zoobench.estimators.linear import LinearProbeRegressor
