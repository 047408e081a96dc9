"""Load a zoo and look at it
=========================

A zoo is a population of trained networks. One line loads it: rows of ``zoo.data`` are checkpoints, ``zoo.target`` is
what is to be predicted from them. This one comes with the package, so that nothing is downloaded.
"""

import matplotlib.pyplot as plt

from zoobench import fetch_zoo
from zoobench.benchmark.displays import PropertyHistogramDisplay, ZooOverviewDisplay

zoo = fetch_zoo("digits_cnn_s", variant="hyp_rand")
zoo

# %%
# States without finite weights are left out, and it says so. Each row has properties: which model it is of, at which
# epoch, in which part of the split, how good it is, and what it was trained with.

zoo.properties.sample(5, random_state=0)

# %%
# The layout says which columns of ``zoo.data`` are which weights.

for layer in zoo.layout.layers:
    print(f"{layer.name:15} {layer.kind:8}", *(f"{tensor.role} {tensor.shape}" for tensor in layer.tensors))

# %%
# Two thirds of the networks learn, the others hardly do: their hyper-parameters come from a grid. A thin line is a
# network.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
ZooOverviewDisplay.from_zoo(zoo, ax=axes[0])
PropertyHistogramDisplay.from_zoo(zoo, ax=axes[1])
plt.show()

# %%
# What is asked for is all that is loaded: some epochs, a part of the split, several properties at once.

part = fetch_zoo("digits_cnn_s_hyp_rand", subset="test", epochs="last", properties=["test_acc", "ggap"], as_frame=True)
part.target.describe().round(3)

# %%
# A row is a network again with one call.

best = int(zoo.target.argmax())
print(f"test accuracy {zoo.target[best]:.3f}")
zoo.module(best)
