"""How good predictions are, and how sure that is: scores of one fold, and intervals over models."""

from __future__ import annotations

import numpy as np

from zoobench.benchmark.kendall import resampled_tau

#: Scores of predicted numbers and of predicted names; in each the first is the one that ranks, unless a protocol says
#: otherwise.
REGRESSION = ("r2", "mae", "spearman", "kendall_tau")
CLASSIFICATION = ("accuracy", "balanced_accuracy", "macro_f1")

#: Of which less is better.
LOSSES = frozenset({"mae"})


def score(metric: str, truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """One score of predictions.

    Parameters
    ----------
    metric : str
        One of ``REGRESSION`` or ``CLASSIFICATION``.
    truth, predicted : ndarray of shape (n_rows,)
        Numbers, or names.

    Returns
    -------
    float or None
        None where it is not defined: R2 of a truth that does not vary, a rank correlation of what is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.metrics import score
    >>> score("r2", np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]))
    0.5
    """
    from sklearn import metrics

    if metric in REGRESSION and not np.isfinite(predicted).all():
        return None
    if metric in ("spearman", "kendall_tau"):
        from scipy import stats

        if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
            return None
        statistic = stats.spearmanr if metric == "spearman" else stats.kendalltau
        return float(statistic(truth, predicted).statistic)
    if metric == "r2":
        if np.ptp(truth) == 0:  # where rounding leaves a little of a sum of squares
            return None
        return float(1 - np.square(truth - predicted).sum() / np.square(truth - truth.mean()).sum())
    if metric == "mae":
        return float(np.abs(truth - predicted).mean())
    truth, predicted = truth.astype(str), predicted.astype(str)
    if metric == "accuracy":
        return float((truth == predicted).mean())
    known = np.unique(truth)
    if metric == "macro_f1":
        return float(metrics.f1_score(truth, predicted, labels=known, average="macro", zero_division=0.0))
    # The mean recall of the classes that occur. Scikit-learn's own would warn of a class that is only predicted.
    return float(metrics.recall_score(truth, predicted, labels=known, average="macro", zero_division=0.0))


def scores(metrics: tuple[str, ...], truth: np.ndarray, predicted: np.ndarray) -> dict[str, float | None]:
    """Several scores of the same predictions, by name."""
    return {metric: score(metric, truth, predicted) for metric in metrics}


#: Share of the draws in which every fold must have a score.
_LEAST_DEFINED = 0.9


def bootstrap_interval(
    metric: str,
    folds: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    random_state: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean score over folds, where what is drawn again are models.

    States of one model are alike, so rows are no independent draws; models are. A model that is drawn twice counts
    twice in every fold that tests it. How much a score would change with other training models is not part of it.

    Parameters
    ----------
    metric : str
        As in :func:`score`.
    folds : list of (truth, predicted, groups)
        What was predicted in each fold, and which model each row belongs to.
    random_state : int
        Seed. The same seed draws the same models for every method, so that intervals of methods move together.
    n_resamples : int, default=1000
        Draws.
    level : float, default=0.95
        Coverage.

    Returns
    -------
    (float, float) or None
        None where the score of a fold is not defined, or in more than a tenth of the draws, as with few models: the
        other draws are no fair sample.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.benchmark.metrics import bootstrap_interval
    >>> truth = np.linspace(0, 1, 50)
    >>> low, high = bootstrap_interval("r2", [(truth, truth + 0.1, np.arange(50))], random_state=0)
    >>> bool(low < 1 - 0.01 / truth.var() < high)
    True
    """
    models = np.unique(np.concatenate([groups for _, _, groups in folds]))
    rng = np.random.default_rng(random_state)
    counts = rng.multinomial(len(models), np.full(len(models), 1 / len(models)), size=n_resamples).astype(np.float64)
    totals, defined = np.zeros(n_resamples), np.ones(n_resamples, dtype=bool)
    for truth, predicted, groups in folds:
        if score(metric, truth, predicted) is None:
            return None
        found = _resampled(metric, truth, predicted, np.searchsorted(models, groups), counts)
        defined &= np.isfinite(found)
        totals += found
    if defined.mean() < _LEAST_DEFINED:
        return None
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(totals[defined] / len(folds), [tail, 100 - tail])
    return float(low), float(high)


#: A resample whose truth varies by less than this share of its size does not vary but for rounding.
_LEAST_SPREAD = 1e-9


def _resampled(
    metric: str, truth: np.ndarray, predicted: np.ndarray, model: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The score of each resample; NaN where it is not defined. ``counts`` says how often each model was drawn."""

    def total(values: np.ndarray) -> np.ndarray:
        # By model first: there are far fewer of them than rows.
        return counts @ np.bincount(model, weights=values, minlength=counts.shape[1])

    n = total(np.ones(len(truth)))
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "r2":
            centred = truth - truth.mean()
            squares = total(centred**2)
            spread = squares - total(centred) ** 2 / n
            result = 1 - total((truth - predicted) ** 2) / np.where(spread > _LEAST_SPREAD * squares, spread, np.nan)
        elif metric == "mae":
            result = total(np.abs(truth - predicted)) / n
        elif metric == "accuracy":
            result = total((truth.astype(str) == predicted.astype(str)).astype(np.float64)) / n
        elif metric == "kendall_tau":
            result = resampled_tau(truth, predicted, model, counts)
        else:
            times = counts.astype(np.intp)[:, model]
            found = [
                score(metric, np.repeat(truth, row), np.repeat(predicted, row)) if row.any() else None for row in times
            ]
            result = np.array([np.nan if value is None else value for value in found])
    return np.where(np.isfinite(result), result, np.nan)
