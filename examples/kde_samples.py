"""How well samples of kernel densities classify
================================================

Networks are drawn from densities of the bundled seed zoo's train models at epoch 50, the best 30 % of them, and
evaluated on the test images of digits: from the models as they are, and after their neurons were put in one order.
Prints the median test accuracy of each, as a table.

The program is only shown here, not run. :doc:`/estimators/weight_kde` has what it prints.
"""

# sphinx_gallery_thumbnail_path = "displays/trajectories.png"

from __future__ import annotations

import numpy as np

from zoobench import fetch_zoo
from zoobench.estimators import LatentKDE, PermutationAligner, WeightKDE, WeightPCA
from zoobench.generators import evaluate

SAMPLERS = {
    "`WeightKDE()`": WeightKDE(),
    '`WeightKDE("joint", bandwidth=0.02)`': WeightKDE("joint", bandwidth=0.02),
    '`WeightKDE("joint", bandwidth=0.05)`': WeightKDE("joint", bandwidth=0.05),
    "`LatentKDE(WeightPCA(20))`": LatentKDE(WeightPCA(20)),
}


def median_accuracy(sampler: WeightKDE | LatentKDE, weights: np.ndarray) -> float:
    """Of as many samples as there are models."""
    zoo = fetch_zoo("digits_cnn_s_seed", subset="train", epochs="last")
    zoo.data = sampler.fit(weights, zoo.target).sample(len(weights), random_state=0)
    return float(np.median(evaluate(zoo).frame["accuracy"]))


if __name__ == "__main__":
    models = fetch_zoo("digits_cnn_s_seed", subset="train", epochs="last")
    aligned = PermutationAligner(models.layout).fit_transform(models.data)
    print(f"{len(models.data)} models, median test accuracy {np.median(models.target):.3f}\n")
    print("| sampler | models as they are | aligned by `PermutationAligner` |\n|:--|--:|--:|")
    for name, sampler in SAMPLERS.items():
        scores = [median_accuracy(sampler, weights) for weights in (models.data, aligned)]
        print(f"| {name} | {' | '.join(f'{score:.3f}'[1:] for score in scores)} |", flush=True)
