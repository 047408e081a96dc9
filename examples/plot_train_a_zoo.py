"""Train a small zoo
=================

A recipe says what is trained on what: an image set, an architecture, a grid of hyper-parameters, seeds and epochs.
Networks of the small architectures are trained side by side in compiled code, so that a zoo like this one takes
seconds.
"""

import matplotlib.pyplot as plt

from zoobench import make_zoo
from zoobench.benchmark.displays import TrajectoryDisplay
from zoobench.generators import Recipe

recipe = Recipe(
    dataset="digits",
    architecture="cnn_s",
    grid={"activation": ["tanh", "relu"], "lr": [1e-3, 1e-2]},
    seeds=range(1, 5),
    n_epochs=4,
)
zoo = make_zoo(recipe)
zoo

# %%
# Every combination is trained with every seed, and each epoch is a state, the untrained one included. With
# ``out="my_zoo"`` the zoo is written to disk, and the same line goes on where a killed run stopped.

table = zoo.properties.groupby(["activation", "lr", "epoch"], observed=True)["test_acc"].mean().unstack("epoch")
table.round(3)

# %%
# It is a zoo like any other: estimators and displays take it.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
table.T.plot(ax=left, marker="o")
left.set(ylabel="mean test accuracy", xticks=table.columns)
TrajectoryDisplay.from_zoo(zoo, ax=right)
plt.show()
