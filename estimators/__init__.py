"""stub"""
from zoobench.estimators.statistics import WeightStatistics
