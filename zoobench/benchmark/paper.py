"""The paper's benchmark: how well linear probes predict properties of networks from their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from zoobench.estimators.adam import AdamSettings, train_linear_layers
from zoobench.estimators.classifier import codes_of
from zoobench.estimators.held_out import PAPER_ALPHAS
from zoobench.estimators.hyperparameters import HyperparameterEncoder
from zoobench.estimators.ridge import RidgePath, blocked_product, first_best, r2_scores
from zoobench.estimators.statistics import layer_statistics
from zoobench.properties import CATEGORICAL, HYPERPARAMETERS, PAPER_PROPERTIES
from zoobench.selection import largest_weights
from zoobench.split import SPLITS

#: States with a weight beyond this are left out (Model Zoos, section 4).
MAX_ABS_WEIGHT = 5.0

FEATURES = ("weights", "statistics", "hyperparameters")

#: Rows of each part of the split.
Parts = dict[str, np.ndarray]

#: Property -> part of the split -> score.
Scores = dict[str, dict[str, float]]


def paper_table(
    zoo: Bunch, *, features: Sequence[str] = ("weights", "statistics"), random_state: int = 42
) -> pd.DataFrame:
    """The table "predicting model properties" of the Model Zoos paper, for any zoo.

    Linear probes are fitted on the train part of the zoo's split. Numbers are predicted by ridge regression, the
    penalty chosen on the val part; names by a linear layer trained with Adam, nothing chosen. States with NaN weights
    or a weight beyond 5 are left out, and for each property those of which it is not known. Properties that are the
    same in every state are left out.

    Parameters
    ----------
    zoo : Zoo
        The zoo, with all parts of its ``split``, which is the one that is used. The order of its states does not
        matter.
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
    .. [1] Schürholt, K., et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS
       2022, section 4.

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
    # NaN is beyond any bound.
    weights = np.asarray(zoo.data, dtype=np.float32)
    usable = np.flatnonzero(largest_weights(weights, zoo.layout) <= MAX_ABS_WEIGHT)
    # The authors' own order, which the classifiers' batches depend on: model by model, epoch by epoch.
    order = usable[np.lexsort((zoo.properties["epoch"].to_numpy()[usable], np.asarray(zoo.groups)[usable]))]
    table, split = zoo.properties.iloc[order].reset_index(drop=True), np.asarray(zoo.split)[order]
    _rows_of_parts(np.ones(len(table), dtype=bool), split, "no usable state")
    properties = [name for name in PAPER_PROPERTIES if name in table and table[name].nunique() > 1]
    rows: list[dict[str, Any]] = []
    for kind in chosen:
        if kind == "hyperparameters":
            scores = _score_hyperparameters(table, split, properties, random_state)
        else:
            X = weights[order]
            if kind == "statistics":
                X = layer_statistics(X, zoo.layout, exact=True)
            scores = _score_probes(X, table, split, properties, random_state)
        rows += [{"features": kind, "property": name, "metric": _metric(name), **scores[name]} for name in properties]
    return pd.DataFrame(rows, columns=["features", "property", "metric", *SPLITS])


def _metric(name: str) -> str:
    return "accuracy" if name in CATEGORICAL else "R2"


def _rows_of_parts(known: np.ndarray, split: np.ndarray, lack: str) -> Parts:
    """Rows of each part of the split among those that are known; an error if a part has none."""
    parts = {part: np.flatnonzero(known & (split == part)) for part in SPLITS}
    for part, rows in parts.items():
        if not len(rows):
            raise ValueError(
                f"the {part!r} part of the zoo has {lack}, and the paper's benchmark needs all of "
                f"{', '.join(SPLITS)}; load the zoo with subset='all', or use one of more models"
            )
    return parts


def _score_probes(
    X: np.ndarray, table: pd.DataFrame, split: np.ndarray, properties: Sequence[str], random_state: int
) -> Scores:
    """Linear probes on some features: properties that are known in the same states share the work."""
    shared: dict[tuple[bytes, str], list[str]] = {}
    for name in properties:
        shared.setdefault((table[name].notna().to_numpy().tobytes(), _metric(name)), []).append(name)
    scores: Scores = {}
    for (_, metric), names in shared.items():
        parts = _rows_of_parts(table[names[0]].notna().to_numpy(), split, f"no state with a known {names[0]}")
        if metric == "accuracy":
            scores |= _score_classification(X, table[names], parts, random_state)
        else:
            scores |= _score_regression(X, table[names], parts)
    return scores


def _score_regression(X: np.ndarray, targets: pd.DataFrame, parts: Parts) -> Scores:
    """Ridge as the authors compute it, but from one factorisation."""
    # The authors keep targets in float32.
    truth = targets.to_numpy(dtype=np.float32).astype(np.float64)
    path = RidgePath(X[parts["train"]], truth[parts["train"]], penalize_intercept=True)
    residuals = truth[parts["val"]] - path.predict(X[parts["val"]], PAPER_ALPHAS)
    best = first_best(r2_scores(residuals, truth[parts["val"]]), residuals)
    coef, intercept = path.coefficients(np.asarray(PAPER_ALPHAS)[best])
    residuals = truth - intercept - blocked_product(X, coef.T)
    found = {part: r2_scores(residuals[rows], truth[rows]) for part, rows in parts.items()}
    return {name: {part: float(found[part][i]) for part in SPLITS} for i, name in enumerate(targets)}


def _score_classification(X: np.ndarray, targets: pd.DataFrame, parts: Parts, random_state: int) -> Scores:
    """The authors' linear layer; the layers of all targets are trained side by side."""
    X, train = X.astype(np.float32, copy=False), parts["train"]
    known = [np.unique(targets[name].to_numpy()[train].astype(str)) for name in targets]
    codes = [codes_of(targets[name].to_numpy().astype(str), known[i]) for i, name in enumerate(targets)]
    n_classes = [len(classes) for classes in known]
    layers = train_linear_layers(X[train], [code[train] for code in codes], n_classes, random_state, AdamSettings())
    scores: Scores = {}
    for name, code, (weight, bias) in zip(targets, codes, layers, strict=True):
        right = (X @ weight.T + bias).argmax(axis=1) == code
        scores[name] = {part: float(right[rows].mean()) for part, rows in parts.items()}
    return scores


def _score_hyperparameters(
    table: pd.DataFrame, split: np.ndarray, properties: Sequence[str], random_state: int
) -> Scores:
    """Gradient boosting on what the models were trained with."""
    # Imported here, because it takes a second and most tables do without.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    varying = [name for name in HYPERPARAMETERS if name in table and table[name].nunique() > 1]
    if not varying:
        raise ValueError(
            "the hyper-parameters of this zoo do not vary, so features='hyperparameters' has nothing to learn from; "
            "leave it out, or use a zoo whose hyper-parameters vary (variant 'hyp_rand' or 'hyp_fix')"
        )
    scores: Scores = {}
    for name in properties:
        if varying == [name]:  # nothing varies but the target
            scores[name] = dict.fromkeys(SPLITS, float("nan"))
            continue
        parts = _rows_of_parts(table[name].notna().to_numpy(), split, f"no state with a known {name}")
        classify = name in CATEGORICAL
        boosting = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
        y = table[name].to_numpy().astype(str if classify else np.float64)
        # What does not vary tells nothing, and need not be known.
        inputs = HyperparameterEncoder(target=name).set_output(transform="pandas").fit_transform(table[varying])
        # Early stopping would hold out rows, and so put states of one model on both sides.
        model = boosting(categorical_features="from_dtype", early_stopping=False, random_state=random_state)
        # On so few rows, threads wait for each other longer than they work.
        with threadpool_limits(1, user_api="openmp"):
            model.fit(inputs.iloc[parts["train"]], y[parts["train"]])
            predicted = {part: model.predict(inputs.iloc[rows]) for part, rows in parts.items()}
        scores[name] = {
            part: float(
                (predicted[part] == y[rows]).mean()
                if classify
                else r2_scores((y[rows] - predicted[part])[:, None], y[rows][:, None])[0]
            )
            for part, rows in parts.items()
        }
    return scores
