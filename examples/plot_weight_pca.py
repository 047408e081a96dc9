"""Training trajectories in the plane of two principal components
===============================================================

The bundled seed zoo: 200 networks that differ by their seed alone, each at epochs 5, 25 and 50. The first component of
all their weights is how far training has come; the others are which network it is.

``python examples/plot_weight_pca.py --save docs/estimators/weight_pca.png`` makes the figure of the documentation.
It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np

from zoobench import fetch_zoo
from zoobench.estimators import WeightPCA

# %%
# One line a network: its states in the order of the epochs.

zoo = fetch_zoo("digits_cnn_s_seed")
pca = WeightPCA(50, layout=zoo.layout).fit(zoo.data)
plane = pca.transform(zoo.data)[:, :2]
order = np.lexsort((zoo.properties["epoch"], zoo.groups))
trajectories = plane[order].reshape(-1, zoo.properties["epoch"].nunique(), 2)
accuracy = zoo.properties["test_acc"]
print(f"correlation of the first component with test accuracy: {np.corrcoef(plane[:, 0], accuracy)[0, 1]:.3f}")

# %%
# How much variance the components explain, one by one and in each layer.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", width_ratios=(1.4, 1))
left.plot(*trajectories.transpose(2, 1, 0), color="0.8", linewidth=0.3, zorder=0)
points = left.scatter(*plane.T, c=accuracy, s=8)
left.set(xlabel="component 0", ylabel="component 1", title=f"{len(trajectories)} networks at 3 epochs")
figure.colorbar(points, ax=left, label="test accuracy")
names = [layer.name.removeprefix("module_list.") for layer in zoo.layout.layers]
right.bar(names, pca.layer_explained_variance_ratio_, color="0.6")
right.set(xlabel="layer (module_list)", ylim=(0, 1), title="variance that 50 explain")
right.axhline(pca.explained_variance_ratio_.sum(), color="black", linestyle=":", label="of the whole vector")
right.legend()
plt.show()

# sphinx_gallery_start_ignore
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="file to write the figure into")
arguments, _ = parser.parse_known_args()
if arguments.save:
    figure.savefig(arguments.save, dpi=80)
# sphinx_gallery_end_ignore
