"""The paper's benchmark: how well linear probes predict properties of networks from their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from zoobench.estimators.adam import AdamSettings, train_linear_layers
from zoobench.estimators.linear import PAPER_ALPHAS
from zoobench.estimators.ridge import RidgePath, r2_scores
from zoobench.estimators.statistics import layer_statistics
from zoobench.properties import CATEGORICAL, HYPERPARAMETERS, PAPER_PROPERTIES
from zoobench.split import SPLITS
from zoobench.zoo import Zoo

#: States with a weight beyond this are left out (Model Zoos, section 4).
MAX_ABS_WEIGHT = 5.0

FEATURES = ("weights", "statistics", "hyperparameters")

#: Per split part: a score.
Scores = dict[str, float]


def paper_table(
    zoo: Zoo, *, features: Sequence[str] = ("weights", "statistics"), random_state: int = 42
) -> pd.DataFrame:
    """The table "predicting model properties" of the Model Zoos paper, for any zoo.

    Linear probes are fitted on the train part of the zoo's split. Numbers are predicted by ridge regression, the
    penalty chosen on the val part; names by a linear layer trained with Adam, nothing chosen. States with NaN weights or
    a weight beyond 5 are left out, and for each property those of which it is not known. Properties that are the same
    in every state are left out.

    Parameters
    ----------
    zoo : Zoo
        The zoo; its ``split`` is the one that is used.
    features : sequence of {"weights", "statistics", "hyperparameters"}, default=("weights", "statistics")
        Raw weights; statistics of each layer, as in ``WeightStatistics(preset="model_zoos")``; and, for reference,
        gradient boosting on the hyper-parameters alone (activation, init, optimizer, dropout, lr, weight_decay),
        without the property to predict, the seed or the epoch.
    random_state : int, default=42
        Seed of the classifiers; 42 is the authors'.

    Returns
    -------
    DataFrame
        Columns ``features``, ``property``, ``metric`` (``"R2"`` or ``"accuracy"``), ``train``, ``val``, ``test``.

    Raises
    ------
    ValueError
        For unknown features, for hyper-parameters of a zoo in which none varies, and where a part of the split has no
        state.

    References
    ----------
    .. [1] K. Schuerholt et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS 2022,
       section 4.

    Examples
    --------
    >>> from zoobench import fetch_zoo, paper_table
    >>> table = paper_table(fetch_zoo("digits_cnn_s"), features=["statistics"])
    >>> table[["features", "property", "metric"]]
         features  property metric
    0  statistics  test_acc     R2
    1  statistics     epoch     R2
    2  statistics      ggap     R2
    """
    chosen = [features] if isinstance(features, str) else list(features)
    unknown = [name for name in chosen if name not in FEATURES]
    if unknown or not chosen:
        raise ValueError(f"features must be some of {', '.join(FEATURES)}, not {features!r}")
    zoo = zoo.select(max_abs_weight=MAX_ABS_WEIGHT, as_frame=False)
    # The authors' own order, which the classifiers' batches depend on: model by model, epoch by epoch.
    order = np.lexsort((zoo.properties["epoch"], zoo.groups))
    table, split = zoo.properties.iloc[order], zoo.split[order]
    _check_split(split)
    properties = [name for name in PAPER_PROPERTIES if name in table and table[name].nunique() > 1]
    rows: list[dict[str, Any]] = []
    for kind in chosen:
        if kind == "hyperparameters":
            scores = _score_hyperparameters(table, split, properties, random_state)
        else:
            X = np.asarray(zoo.data[order], dtype=np.float32)
            if kind == "statistics":
                X = layer_statistics(X, zoo.layout, exact=True)
            scores = _score_probes(X, table, split, properties, random_state)
        rows += [
            {"features": kind, "property": name, "metric": _metric(name), **scores[name]} for name in properties
        ]
    return pd.DataFrame(rows, columns=["features", "property", "metric", *SPLITS])


def _metric(name: str) -> str:
    return "accuracy" if name in CATEGORICAL else "R2"


def _check_split(split: np.ndarray) -> None:
    empty = [part for part in SPLITS if not (split == part).any()]
    if empty:
        raise ValueError(
            f"the zoo has no usable state in its {empty[0]!r} part, and the paper's benchmark needs all three parts; "
            f"use a zoo of more models, or more epochs"
        )


def _parts(known: np.ndarray, split: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Rows of each part of the split in which a property is known."""
    parts = {part: np.flatnonzero(known & (split == part)) for part in SPLITS}
    for part, rows in parts.items():
        if not len(rows):
            raise ValueError(f"no state of the {part!r} part has a known {name}; the paper's benchmark needs some")
    return parts


def _score_probes(
    X: np.ndarray, table: pd.DataFrame, split: np.ndarray, properties: Sequence[str], random_state: int
) -> dict[str, Scores]:
    """Linear probes on some features: those that share their rows share the work."""
    shared: dict[tuple[bytes, bool], list[str]] = {}
    for name in properties:
        shared.setdefault((table[name].notna().to_numpy().tobytes(), name in CATEGORICAL), []).append(name)
    scores: dict[str, Scores] = {}
    for (_, categorical), names in shared.items():
        parts = _parts(table[names[0]].notna().to_numpy(), split, names[0])
        score = _score_classification if categorical else _score_regression
        scores.update(score(X, table, parts, names, random_state))
    return scores


def _score_regression(
    X: np.ndarray, table: pd.DataFrame, parts: dict[str, np.ndarray], names: Sequence[str], random_state: int
) -> dict[str, Scores]:
    # The authors keep targets in float32.
    Y = table[list(names)].to_numpy(dtype=np.float32).astype(np.float64)
    features = {part: X[rows].astype(np.float64) for part, rows in parts.items()}
    truth = {part: Y[rows] for part, rows in parts.items()}
    path = RidgePath(features["train"], penalize_intercept=True)
    alphas = np.asarray(PAPER_ALPHAS)
    validation = r2_scores(path.predictions(features["val"], truth["train"], alphas), truth["val"])
    coef, intercept = path.coefficients(truth["train"], alphas[validation.argmax(axis=0)])
    found = {part: r2_scores(features[part] @ coef.T + intercept, truth[part]) for part in SPLITS}
    return {name: {part: float(found[part][i]) for part in SPLITS} for i, name in enumerate(names)}


def _score_classification(
    X: np.ndarray, table: pd.DataFrame, parts: dict[str, np.ndarray], names: Sequence[str], random_state: int
) -> dict[str, Scores]:
    X = X.astype(np.float32)
    codes, n_classes = {}, []
    for name in names:
        classes, codes[name] = np.unique(table[name].to_numpy().astype(str), return_inverse=True)
        n_classes.append(len(classes))
    train = parts["train"]
    targets = [codes[name][train] for name in names]
    layers = train_linear_layers(X[train], targets, n_classes, random_state, AdamSettings())
    return {
        name: {
            part: float(((X[rows] @ weight.T + bias).argmax(axis=1) == codes[name][rows]).mean())
            for part, rows in parts.items()
        }
        for name, (weight, bias) in zip(names, layers, strict=True)
    }


def _score_hyperparameters(
    table: pd.DataFrame, split: np.ndarray, properties: Sequence[str], random_state: int
) -> dict[str, Scores]:
    """Gradient boosting on what the models were trained with."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    varying = [name for name in HYPERPARAMETERS if name in table and table[name].nunique() > 1]
    if not varying:
        raise ValueError("the zoo's hyper-parameters do not vary, so features='hyperparameters' has nothing to learn from")
    scores: dict[str, Scores] = {}
    for name in properties:
        inputs = table[[column for column in varying if column != name]]
        parts = _parts(table[name].notna().to_numpy(), split, name)
        classify = name in CATEGORICAL
        boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
        y = table[name].astype(str).to_numpy() if classify else table[name].to_numpy(dtype=np.float64)
        # Without early stopping, which would hold out rows and so put one model's states on both sides.
        model = boosting(categorical_features="from_dtype", early_stopping=False, random_state=random_state)
        # On so few rows, threads wait for each other longer than they work.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(inputs.iloc[parts["train"]], y[parts["train"]])
        scores[name] = {part: float(model.score(inputs.iloc[rows], y[rows])) for part, rows in parts.items()}
    return scores
