"""The canonical names of properties, and the published keys that map to them."""

from __future__ import annotations

#: What is measured of a state.
MEASURED = ("test_acc", "train_acc", "val_acc", "test_loss", "train_loss", "val_loss", "ggap", "epoch", "sparsity")

#: What a model was trained with, the seed apart: the inputs of the hyper-parameters-only reference.
HYPERPARAMETERS = ("activation", "init", "optimizer", "dropout", "lr", "weight_decay")

#: Properties that are names, not numbers: predicted by classification.
CATEGORICAL = ("activation", "init", "optimizer")

#: Every canonical property, in the order in which tables show them.
CANONICAL = (*MEASURED, *HYPERPARAMETERS, "seed")

#: Columns of a zoo's property table that say which state a row is, and are no properties to predict.
IDENTITY = ("model", "epoch", "split", "split_published")

#: Published key -> canonical name: results and params of the Model Zoos, and their preprocessed files.
PUBLISHED_KEYS = {
    "training_iteration": "epoch",
    "sparsity_ratio": "sparsity",
    "model::nlin": "activation",
    "model::init_type": "init",
    "model::dropout": "dropout",
    "optim::optimizer": "optimizer",
    "optim::lr": "lr",
    "optim::wd": "weight_decay",
}

#: The properties of the paper's benchmark, in its order (Model Zoos, table 2).
PAPER_PROPERTIES = ("test_acc", "epoch", "ggap", *HYPERPARAMETERS)


def canonical_name(key: str) -> str:
    """The canonical name of a published key; a key that is canonical already, or unknown, stays as it is."""
    return PUBLISHED_KEYS.get(key, key)
