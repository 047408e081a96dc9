"""How well a hyper-representation restores networks it has never seen
======================================================================

Networks of the test split go through the autoencoder; what comes out is a network again, and its accuracy on the test
images is what counts. The more the restored network resembles the original in what it does, the closer it comes to
the original's accuracy; one that is guessing has 0.1.

The figure shows the results in ``docs/estimators/hyper_representation.json``. With ``--recompute`` they are computed
anew: a zoo of 1200 networks is trained (6 minutes of one core), then an autoencoder for each setting and number of
networks to learn from (less than 2 minutes each). Each result is kept as soon as it is there.

``python examples/plot_hyper_representation.py --save docs/estimators/hyper_representation.png`` makes the figure of the
documentation. It needs matplotlib: ``pip install "zoobench[plot]"``.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from zoobench import Zoo, fetch_zoo, make_zoo
from zoobench.estimators import HyperRepresentation, LinearProbeRegressor, WeightStatistics
from zoobench.estimators.tokens import WeightTokens
from zoobench.generators import Recipe, evaluate

RESULTS = Path(sys.argv[0]).resolve().parent.parent / "docs" / "estimators" / "hyper_representation.json"

parser = argparse.ArgumentParser()
parser.add_argument("--recompute", action="store_true", help="train zoo and autoencoders anew (half an hour)")
parser.add_argument("--zoo", default="hyper_representation_zoo", help="folder where the zoo is, or is to be")
parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results")
parser.add_argument("--save", help="file to write (default: show the figure)")
arguments, _ = parser.parse_known_args()

# %%
# The zoo is that of ``digits_cnn_s_seed`` with more seeds, a larger learning rate and a stronger weight decay: in ten
# epochs its networks are as good as those of the bundled zoo in fifty.

RECIPE = Recipe(
    grid={"lr": [1e-2], "weight_decay": [3e-3]},
    seeds=range(1, 1201),
    n_epochs=10,
    checkpoint_epochs=[1, 2, 3, 5, 7, 10],
    name="digits_cnn_s_many",
)

#: Every autoencoder sees that many views in training: 500 batches of 32, whatever the number of networks.
N_SEEN = 16_000
N_MODELS = (64, 128, 384, 768)
COMMON = {"contrastive_weight": 0.0, "erase": 0.0, "n_iter_no_change": None}
SETTINGS = {
    "permuted views": {},
    "permuted views, errors not normalised by layer": {"layer_norm_loss": False},
    "views as they are": {"permute": False},
}


def restored_accuracy(model: HyperRepresentation, zoo: Zoo, n_models: int | None = None) -> float:
    """Mean test accuracy of a zoo's networks, or of the first ones, after they went through the autoencoder."""
    contents = zoo.to_contents()
    weights = model.inverse_transform(model.transform(zoo.data[:n_models]))
    restored = dataclasses.replace(contents, weights=weights, properties=contents.properties[:n_models], peaks=None)
    return float(evaluate(Zoo.from_contents(restored)).frame["accuracy"].mean())


def recompute() -> None:
    zoo = make_zoo(RECIPE, out=arguments.zoo)
    train, val, test = (zoo.select(subset=subset, epochs="last") for subset in ("train", "val", "test"))
    found = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
    found["original"], found["n_test"] = float(test.properties["test_acc"].mean()), len(test.data)
    runs = [(name, settings, n) for name, settings in SETTINGS.items() for n in N_MODELS]
    for name, settings, n in [*runs, ("a compression token", {"compression": "token"}, N_MODELS[-1])]:
        row = found.setdefault(name, {})
        if str(n) in row:
            continue
        model = HyperRepresentation("cnn_s", max_epochs=round(N_SEEN / n), **COMMON, **settings)
        model.fit(np.asarray(train.data[:n]), X_val=val.data[:50])
        row[str(n)] = {
            "test_acc": restored_accuracy(model, test),
            "train_acc": restored_accuracy(model, train, n_models=50),
            "test_r2": model.score(test.data),
        }
        arguments.results.write_text(json.dumps(found, indent=1) + "\n")
        print(name, n, row[str(n)], flush=True)


def probe() -> None:
    """R2 of a ridge regression of test accuracy on the hyper-parameter zoo's latents, statistics and plain weights."""
    zoo = fetch_zoo("digits_cnn_s_hyp_rand", max_abs_weight=5)
    train, val, test = (zoo.select(subset=subset) for subset in ("train", "val", "test"))
    latents = HyperRepresentation("cnn_s", latent_dim=256, batch_size=128, max_epochs=15, n_iter_no_change=None)
    found = json.loads(arguments.results.read_text())
    found["probe"] = {}
    for name, features in {
        "weights": FunctionTransformer(),
        "statistics": WeightStatistics("cnn_s"),
        "latents": latents,
    }.items():
        extra = {"X_val": val.data} if features is latents else {}
        features.fit(train.data, **extra)
        X_train, X_val, X_test = (features.transform(part.data) for part in (train, val, test))
        regressor = LinearProbeRegressor().fit(X_train, train.target, X_val=X_val, y_val=val.target)
        found["probe"][name] = {"val": regressor.score(X_val, val.target), "test": regressor.score(X_test, test.target)}
    arguments.results.write_text(json.dumps(found, indent=1) + "\n")
    print(found["probe"], flush=True)


def components() -> None:
    """Test accuracy from the 512 numbers along the neurons' principal components of largest variance.

    Neurons of a layer share their components; variances are in units of the layer's own, or in common ones.
    """
    found = json.loads(arguments.results.read_text())
    found["components"] = {}
    for zoo in (make_zoo(RECIPE, out=arguments.zoo), fetch_zoo("digits_cnn_s_seed")):
        train, test = (zoo.select(subset=subset, epochs="last") for subset in ("train", "test"))
        tokens = WeightTokens(zoo.layout)
        layers = []
        for seen, held_out in zip(tokens.split(train.data), tokens.split(test.data), strict=True):
            neurons = seen.reshape(-1, seen.shape[2])
            layers.append((PCA().fit(neurons), neurons.var(), held_out))
        contents = test.to_contents()
        row = found["components"][contents.name] = {}
        for units in ("layer", "common"):
            scaled = [pca.explained_variance_ / (spread if units == "layer" else 1) for pca, spread, _ in layers]
            costs = [len(held_out[0]) for _, _, held_out in layers]
            ranked = sorted(((v, cost) for each, cost in zip(scaled, costs, strict=True) for v in each), reverse=True)
            # Each component costs one number a neuron.
            n_kept = np.searchsorted(np.cumsum([cost for _, cost in ranked]), 512, side="right")
            least = ranked[n_kept - 1][0]
            restored = []
            for (pca, _, x), variances in zip(layers, scaled, strict=True):
                kept = pca.components_[variances >= least]
                restored.append(pca.mean_ + (x - pca.mean_) @ kept.T @ kept)
            weights = tokens.join(restored).astype(np.float32)
            accuracies = evaluate(Zoo.from_contents(dataclasses.replace(contents, weights=weights, peaks=None))).frame
            row[units] = float(accuracies["accuracy"].mean())
    arguments.results.write_text(json.dumps(found, indent=1) + "\n")
    print(found["components"], flush=True)


def longer() -> None:
    """Test accuracy of restored networks of the bundled zoo after training for longer, into more numbers."""
    zoo = fetch_zoo("digits_cnn_s_seed")
    train = zoo.select(subset="train", epochs=[25, 50])
    val, test = (zoo.select(subset=subset, epochs="last") for subset in ("val", "test"))
    model = HyperRepresentation("cnn_s", latent_dim=700, max_epochs=200, random_state=42, **COMMON)
    model.fit(train.data, X_val=val.data)
    found = json.loads(arguments.results.read_text())
    found["longer"] = {
        "test_acc": restored_accuracy(model, test),
        "original": float(test.properties["test_acc"].mean()),
    }
    arguments.results.write_text(json.dumps(found, indent=1) + "\n")
    print(found["longer"], flush=True)


if arguments.recompute:
    recompute()
    probe()
    components()
    longer()
results = json.loads(arguments.results.read_text())

# %%
# Half of what the originals are better than guessing is the line to beat.

figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, marker in zip(SETTINGS, "osv", strict=True):
    row = {int(n): values["test_acc"] for n, values in results.get(name, {}).items()}
    axes.plot(sorted(row), [row[n] for n in sorted(row)], marker=marker, label=name)
original = results["original"]
for level, label in {original: "originals", (original + 0.1) / 2: "half way from guessing", 0.1: "guessing"}.items():
    axes.axhline(level, color="0.5", linestyle=":", linewidth=1)
    axes.text(N_MODELS[0], level + 0.01, label, color="0.4", fontsize=8)
axes.set(
    xscale="log",
    xlabel="networks to learn from",
    xticks=N_MODELS,
    xticklabels=N_MODELS,
    ylim=(0, 1),
    ylabel="test accuracy of restored networks",
    title=f"{results['n_test']} held-out networks, restored from {HyperRepresentation().latent_dim} numbers",
)
axes.minorticks_off()
axes.legend(fontsize=8, loc="lower right")
if arguments.save:
    figure.savefig(arguments.save, dpi=90)
else:
    plt.show()
