"""Distances and principal components before and after alignment
==============================================================

The last states of the bundled seed zoo: 200 networks that differ by their seed alone. Aligner and components are fitted
to the models of the training part; what is shown are models of the test part.

``python examples/plot_alignment.py --save docs/estimators/permutation_aligner.png`` makes the figure of the
documentation. It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from zoobench import fetch_zoo
from zoobench.estimators import PermutationAligner

# %%
# The same networks three times: as they were trained, aligned to one of them, and aligned to their own centre.

zoo = fetch_zoo("digits_cnn_s_seed", epochs="last")
train, test = zoo.split == "train", zoo.split == "test"
to_model = PermutationAligner(zoo.layout, reference=zoo.data[train][0]).fit(zoo.data[train])
to_center = PermutationAligner(zoo.layout).fit(zoo.data[train])
states = {
    "as trained": zoo.data.astype(float),
    "aligned to one model": to_model.transform(zoo.data).astype(float),
    "aligned to the centre": to_center.transform(zoo.data).astype(float),
}

# %%
# How far models lie apart, and how much of their variance components explain that have not seen them.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for (name, X), color in zip(states.items(), ("0.6", "C1", "C0"), strict=True):
    distances = pdist(X[test])
    left.hist(distances, bins=40, histtype="step", label=name, color=color)
    pca = PCA(100, random_state=0).fit(X[train])
    centred = X[test] - pca.mean_
    explained = ((centred @ pca.components_.T) ** 2).sum(axis=0).cumsum() / (centred**2).sum()
    right.plot(np.arange(1, 101), explained, label=name, color=color)
    print(
        f"{name}: mean distance {distances.mean():.2f}, explained by 10 / 50 / 100 components "
        + " / ".join(f"{explained[k - 1]:.3f}" for k in (10, 50, 100))
    )
left.set(xlabel="distance of two models", ylabel="pairs", title=f"{test.sum()} models of the test part")
right.set(xlabel="principal components", ylabel="variance explained", ylim=(0, None), title="by components of others")
right.legend()
for axes in (left, right):
    axes.grid(alpha=0.3)
plt.show()

# sphinx_gallery_start_ignore
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="file to write the figure into")
arguments, _ = parser.parse_known_args()
if arguments.save:
    figure.savefig(arguments.save, dpi=80)
# sphinx_gallery_end_ignore
