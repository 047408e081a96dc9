"""Methods by name on a zoo whose hyper-parameters vary
====================================================

Every method of ``list_methods`` is fitted on the train models of the bundled hyper-parameter zoo, with the val models
for penalties and early stopping, and scored by the R2 of test accuracy on val and test models: on states without a
weight beyond 5, as the Model Zoos' paper has it, and, in the last column, on all states, diverged ones included.

``python examples/plot_methods.py --save docs/estimators/methods.png`` prints the table of the documentation and makes
its figure. ``--methods`` takes some of the methods only; the others, and those whose extra is not installed, have rows
without numbers. The figure needs matplotlib: ``pip install "zoobench[plot]"``.

Because that takes many minutes, the program is only shown here, not run. :doc:`/estimators/methods` has what it prints.

.. image:: /estimators/methods.png
   :alt: R2 of each method on test and val models
"""

# sphinx_gallery_thumbnail_path = "estimators/methods.png"

from __future__ import annotations

import argparse
import warnings
from typing import Any

import sklearn

from zoobench import fetch_zoo
from zoobench.estimators import list_methods, make_method

ZOO = "digits_cnn_s_hyp_rand"
TARGET = "test_acc"

# %%
# One function scores any method: it asks the pipeline which held-out data it has a use for.


def score(name: str, *, max_abs_weight: float | None) -> dict[str, float]:
    """R2 on val and test."""
    parts = {}
    for part in ("train", "val", "test"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # says how many states have no finite weights
            parts[part] = fetch_zoo(ZOO, subset=part, properties=TARGET, max_abs_weight=max_abs_weight)
    inputs = "properties" if list_methods().loc[name, "inputs"] == "hyperparameters" else "data"
    train, val = parts["train"], parts["val"]
    held_out = {"X_val": val[inputs], "y_val": val.target}
    with sklearn.config_context(enable_metadata_routing=True):
        method = make_method(name, layout=train.layout, target=TARGET, device="cpu")
        taken = method.get_metadata_routing().consumes("fit", list(held_out))
        method.fit(train[inputs], train.target, **{key: held_out[key] for key in taken})
    return {part: method.score(parts[part][inputs], parts[part].target) for part in ("val", "test")}


# %%
# The table, one line at a time: the slow methods take minutes.


def row(name: str) -> tuple[str, float, float, float]:
    """A method's line of the table."""
    usual, everything = score(name, max_abs_weight=5.0), score(name, max_abs_weight=None)
    return name, usual["val"], usual["test"], everything["test"]


def shown(value: float) -> str:
    """Three digits, and no digits of what is no prediction any more."""
    return "< -10" if value < -10 else f"{value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=list(list_methods().index), help="default: all")
    parser.add_argument("--save", help="file for the figure (default: none is drawn)")
    arguments, _ = parser.parse_known_args()
    rows: list[Any] = []
    print("| method | val R² | test R² | test R², all states |\n|:--|--:|--:|--:|", flush=True)
    for name in list_methods().index:
        if name not in arguments.methods:
            print(f"| `{name}` | - | - | - |", flush=True)
            continue
        try:
            rows.append(row(name))
        except ImportError as error:
            print(f"| `{name}` | - | - | - |", flush=True)
            warnings.warn(str(error), stacklevel=1)
            continue
        print(f"| `{name}` | {' | '.join(map(shown, rows[-1][1:]))} |", flush=True)
    if arguments.save:
        draw(rows, arguments.save)


# %%
# Bars of test R2; what is below zero, worse than the mean, is drawn to the edge.


def draw(rows: list[Any], path: str) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 0.9 + 0.28 * len(rows)), layout="constrained")
    names, places = [name for name, *_ in rows], range(len(rows))
    axes.barh(places, [max(test, -0.25) for *_, test, _ in rows], color="C0", label="test models", height=0.6)
    axes.plot([max(val, -0.25) for _, val, *_ in rows], places, "k|", markersize=9, label="val models")
    reference = next((test for name, _, test, _ in rows if name == "hyperparameters_boosting"), None)
    if reference is not None:
        axes.axvline(reference, color="C3", linestyle="--", linewidth=1, label="hyper-parameters only")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlim=(-0.25, 1), xlabel="R² of test accuracy")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
