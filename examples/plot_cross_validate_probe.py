"""Cross-validate a probe by model
===============================

How well can a network's accuracy be read off its weights? Checkpoints of one network are alike, so that all of them
belong on one side of a split: ``zoo.groups`` is made for scikit-learn's ``GroupKFold``. A split by row asks an easier
question than the one that was meant, and the answer looks too good.
"""

import matplotlib.pyplot as plt
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from zoobench import fetch_zoo
from zoobench.benchmark.displays import PredictionDisplay
from zoobench.estimators import HyperparameterEncoder, WeightStatistics

# Weights beyond 5 belong to networks that diverged; the benchmark leaves them out as well.
zoo = fetch_zoo("digits_cnn_s_hyp_rand", max_abs_weight=5)

# %%
# Ridge on statistics of each layer, beside the mean as a reference. A split by row flatters.

statistics = WeightStatistics(layout=zoo.layout)
probes = {
    "mean": DummyRegressor(),
    "statistics, ridge": make_pipeline(statistics, StandardScaler(), Ridge(10)),
}
splits = {"by row": KFold(5, shuffle=True, random_state=0), "by model": GroupKFold(5)}
for name, probe in probes.items():
    scores = [cross_val_score(probe, zoo.data, zoo.target, groups=zoo.groups, cv=cv).mean() for cv in splits.values()]
    print(f"{name:18}", ", ".join(f"R² {how} {score:.3f}" for how, score in zip(splits, scores, strict=True)))

# %%
# On a zoo of varied hyper-parameters there is one more reference: what these tell without any weight.

boosting = HistGradientBoostingRegressor(max_iter=60, random_state=0)
hyperparameters = make_pipeline(HyperparameterEncoder(target="test_acc"), boosting)
score = cross_val_score(hyperparameters, zoo.properties, zoo.target, groups=zoo.groups, cv=GroupKFold(5)).mean()
print(f"hyper-parameters only: R² by model {score:.3f}")

# %%
# Boosting on the same statistics: predictions of networks that it has not seen, coloured by epoch.

probe = make_pipeline(statistics, boosting)
predicted = cross_val_predict(probe, zoo.data, zoo.target, groups=zoo.groups, cv=GroupKFold(5))
PredictionDisplay.from_predictions(zoo.target, predicted, groups=zoo.properties["epoch"])
plt.show()
