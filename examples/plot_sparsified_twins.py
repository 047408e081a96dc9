"""Sparsified twins over the epochs of their sparsification
=========================================================

Test accuracy and sparsity of the bundled twins, as the Model Zoos' paper shows those of its own: the median of the
models, and the range of the middle nine tenths of them. Epoch 0 is the state that the twins start from.

``python examples/plot_sparsified_twins.py --save docs/sparsified_twins.png`` makes the figure of the documentation.
It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import matplotlib.pyplot as plt
import pandas as pd

from zoobench import fetch_zoo

# %%
# The twins carry their models' names, which is how the states that they start from are found.

twins = fetch_zoo("digits_cnn_s_sparse")
before = fetch_zoo("digits_cnn_s", epochs="last").properties
before = before[before["model"].isin(twins.properties["model"].unique())].assign(epoch=0, sparsity=0.0)
table = pd.concat([before, twins.properties[twins.properties["epoch"] > 0]])
columns = {"test_acc": "test accuracy", "sparsity": "sparsity"}
quantiles = table.groupby("epoch")[list(columns)].quantile([0.05, 0.5, 0.95]).unstack()
print(quantiles.xs(0.5, axis=1, level=1).round(3).to_string())

# %%
# Sparsity is the share of weights that are zero in the network that is evaluated, biases not counted.

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for (name, label), marker in zip(columns.items(), "os", strict=True):
    (line,) = axes.plot(quantiles.index, quantiles[name, 0.5], marker=marker, label=label)
    axes.fill_between(
        quantiles.index, quantiles[name, 0.05], quantiles[name, 0.95], color=line.get_color(), alpha=0.2, linewidth=0
    )
axes.set(
    xlabel="epoch of the sparsification",
    xticks=quantiles.index,
    ylim=(0, 1),
    title=f"{table['model'].nunique()} twins on digits, CNN-s",
)
axes.grid(alpha=0.3)
axes.legend(loc="center right")
plt.show()

# sphinx_gallery_start_ignore
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="file to write the figure into")
arguments, _ = parser.parse_known_args()
if arguments.save:
    figure.savefig(arguments.save, dpi=90)
# sphinx_gallery_end_ignore
