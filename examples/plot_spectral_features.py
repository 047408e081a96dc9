"""Singular values of weights in training
=======================================

The bundled seed zoo: 200 networks at epochs 5, 25 and 50. On the left the squared singular values of the first linear
layer; on the right what the stable rank of that layer tells about a network.

``python examples/plot_spectral_features.py --save docs/estimators/spectral_features.png`` makes the figure of the
documentation. It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import matplotlib.pyplot as plt
import numpy as np

from zoobench import fetch_zoo
from zoobench.estimators import SpectralFeatures

# %%
# A frame comes out, one column a feature.

zoo = fetch_zoo("digits_cnn_s_seed")
spectral = SpectralFeatures(zoo.layout).set_output(transform="pandas")
features = spectral.fit_transform(zoo.data)
epoch, accuracy = zoo.properties["epoch"].to_numpy(), zoo.properties["test_acc"].to_numpy()
layer = zoo.layout.layers[3].weight
print(features.filter(like=layer.name).groupby(epoch).median().round(2).T.to_string())

# %%
# The median of the networks at each epoch: early on a single direction stands out, later many carry the layer.

values = np.linalg.svd(zoo.data[:, layer.slice].reshape(-1, *layer.shape), compute_uv=False) ** 2
ranks = np.arange(1, values.shape[1] + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for number, marker in zip(np.unique(epoch), "os^", strict=True):
    left.loglog(ranks, np.median(values[epoch == number], axis=0), marker=marker, markersize=4, label=f"epoch {number}")
left.set(xlabel="rank", ylabel="squared singular value", title=f"{layer.name}, {layer.shape[0]} × {layer.shape[1]}")
left.legend()
points = right.scatter(features[f"{layer.name}_stable_rank"], accuracy, c=epoch, s=8)
right.set(xlabel="stable rank", ylabel="test accuracy", title=f"{len(features)} states")
figure.colorbar(points, ax=right, label="epoch", ticks=np.unique(epoch))
plt.show()

# sphinx_gallery_start_ignore
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--save", help="file to write the figure into")
arguments, _ = parser.parse_known_args()
if arguments.save:
    figure.savefig(arguments.save, dpi=90)
# sphinx_gallery_end_ignore
