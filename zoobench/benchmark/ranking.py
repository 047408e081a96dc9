"""Which method is better, over many tasks and on one: ranks, win rates, and tests that say how sure that is.

A table of scores has one row a task and one column a method; larger is better. A missing score stays missing: ranks
are over tasks that all ranked methods have.
"""

from __future__ import annotations

from itertools import combinations, count
from typing import NamedTuple

import numpy as np
import pandas as pd


def fewest_tasks(n_methods: int, *, alpha: float = 0.05) -> int:
    """How many tasks it takes for any difference to be significant, however clear.

    Wilcoxon's test of n tasks gives no p-value below 2 / 2**n, and Holm's correction multiplies the smallest one by the
    number of pairs.

    Parameters
    ----------
    n_methods : int
        Methods that are compared with each other.
    alpha : float, default=0.05
        Level.

    Returns
    -------
    int

    Examples
    --------
    >>> from zoobench.benchmark.ranking import fewest_tasks
    >>> fewest_tasks(2), fewest_tasks(8)
    (6, 11)
    """
    n_pairs = max(1, n_methods * (n_methods - 1) // 2)
    return next(n for n in count(1) if n_pairs * 2 / 2**n < alpha)


#: Sets of tasks that methods have in common; more are not looked at.
_MOST_SETS = 10_000


def complete(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The largest part of a table in which nothing is missing, and the methods that are not in it.

    Parameters
    ----------
    table : DataFrame of shape (n_tasks, n_methods)
        Scores.

    Returns
    -------
    table : DataFrame
        The part with the most scores; where two have as many, the one with more tasks. Only among tables of methods
        that lack tasks in more than ten thousand different ways may there be a larger one.
    left_out : list of str
        The other methods.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.ranking import complete
    >>> complete(pd.DataFrame({"a": [0.1, 0.2], "b": [0.3, None], "c": [0.3, 0.4]}))[1]
    ['b']
    """
    # A set of tasks is a number, one bit a task. No method can be added to the largest part, and no task: it has the
    # tasks that some methods have in common.
    has = {name: sum(1 << i for i in np.flatnonzero(table[name].notna()).tolist()) for name in table}
    sets: dict[int, None] = {}
    for tasks in has.values():
        sets |= dict.fromkeys([tasks, *(tasks & other for other in sets)][: _MOST_SETS - len(sets)])
    sets.pop(0, None)

    def size(tasks: int) -> tuple[int, int]:
        n_tasks = tasks.bit_count()
        return n_tasks * sum(tasks & known == tasks for known in has.values()), n_tasks

    if not sets:
        return table.iloc[:0, :0], list(table)
    tasks = max(sets, key=size)
    rows = [bool(tasks >> i & 1) for i in range(len(table))]
    whole = [name for name, known in has.items() if tasks & known == tasks]
    return table.loc[rows, whole], [name for name in table if name not in whole]


def mean_ranks(table: pd.DataFrame) -> pd.Series:
    """Mean over tasks of each method's rank: 1 is the best, ties share their mean.

    Parameters
    ----------
    table : DataFrame of shape (n_tasks, n_methods)
        Scores. Methods that are not in its :func:`complete` part get NaN.

    Returns
    -------
    Series
        One number a method, in the order of the columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.ranking import mean_ranks
    >>> mean_ranks(pd.DataFrame({"a": [0.9, 0.5], "b": [0.8, 0.5]})).tolist()
    [1.25, 1.75]
    """
    whole, _ = complete(table)
    return whole.rank(axis=1, ascending=False).mean().reindex(table.columns)


def win_rates(table: pd.DataFrame) -> pd.Series:
    """Share of the comparisons with another method on a task that a method wins; a tie counts half.

    Parameters
    ----------
    table : DataFrame of shape (n_tasks, n_methods)
        Scores. Methods that are not in its :func:`complete` part get NaN, and so does one that has no other beside it.

    Returns
    -------
    Series
        One number a method, in the order of the columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.ranking import win_rates
    >>> win_rates(pd.DataFrame({"a": [0.9, 0.5], "b": [0.8, 0.5]})).tolist()
    [0.75, 0.25]
    """
    whole, _ = complete(table)
    others = whole.shape[1] - 1
    rates = (whole.shape[1] - whole.rank(axis=1, ascending=False)).mean() / (others or np.nan)
    return rates.reindex(table.columns)


class Comparison(NamedTuple):
    """Two methods over many tasks.

    Attributes
    ----------
    first, second : str
        The methods.
    n_tasks : int
        Tasks that both have.
    wins, ties : int
        Tasks on which the first is better, and as good.
    difference : float
        Median over tasks of the first's score minus the second's.
    p : float
        Two-sided Wilcoxon signed-rank test; NaN where all tasks are ties.
    p_holm : float
        The same, corrected for the number of comparisons (Holm).
    """

    first: str
    second: str
    n_tasks: int
    wins: int
    ties: int
    difference: float
    p: float
    p_holm: float


def compare_all(table: pd.DataFrame) -> list[Comparison]:
    """Every pair of methods, by Wilcoxon's signed-rank test with Holm's correction.

    Recommended for classifiers over many data sets in place of post-hoc tests on mean ranks, where a comparison of two
    methods depends on who else is in the table [1]_. Tasks of one zoo share its models: they are not independent, so
    the p-values are too small by a factor that nobody knows.

    Parameters
    ----------
    table : DataFrame of shape (n_tasks, n_methods)
        Scores. A pair is compared on the tasks that both have.

    Returns
    -------
    list of Comparison

    References
    ----------
    .. [1] Benavoli, A., Corani, G. and Mangili, F., "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR
       17, 2016.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.ranking import compare_all
    >>> table = pd.DataFrame({"a": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], "b": [0.1, 0.2, 0.3, 0.31, 0.32, 0.33]})
    >>> [(c.first, c.second, c.wins, c.p_holm) for c in compare_all(table)]
    [('a', 'b', 6, 0.03125)]
    """
    from scipy.stats import wilcoxon

    rows = []
    for first, second in combinations(table.columns, 2):
        both = table[[first, second]].dropna()
        difference = (both[first] - both[second]).to_numpy(dtype=np.float64)
        untied = difference[difference != 0]
        p = float(wilcoxon(untied).pvalue) if len(untied) else float("nan")
        median = float(np.median(difference)) if len(difference) else float("nan")
        rows.append((first, second, len(both), int((difference > 0).sum()), int((difference == 0).sum()), median, p))
    corrected = holm([row[-1] for row in rows])
    return [Comparison(*row, p_holm) for row, p_holm in zip(rows, corrected, strict=True)]


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction of p-values; NaN stays NaN and counts as no comparison.

    Parameters
    ----------
    p_values : list of float
        As the tests give them.

    Returns
    -------
    list of float
        In the same order.

    Examples
    --------
    >>> from zoobench.benchmark.ranking import holm
    >>> holm([0.01, 0.04, 0.02])
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    result = np.full(len(p), np.nan)
    steps = np.arange(len(order), 0, -1)
    result[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return [float(value) for value in result]


def cliques(table: pd.DataFrame, *, alpha: float = 0.05) -> list[tuple[str, ...]]:
    """Groups of neighbours in the ranking of which no two differ significantly: the bars of a critical-difference plot.

    Parameters
    ----------
    table : DataFrame of shape (n_tasks, n_methods)
        Scores; methods with a missing one are left out.
    alpha : float, default=0.05
        Level of the corrected test.

    Returns
    -------
    list of tuple of str
        From the best to the worst; only groups of two and more that lie in no larger one.

    Examples
    --------
    >>> import pandas as pd
    >>> from zoobench.benchmark.ranking import cliques
    >>> cliques(pd.DataFrame({"a": [0.9, 0.5, 0.3], "b": [0.8, 0.5, 0.4]}))
    [('a', 'b')]
    """
    whole, _ = complete(table)
    ordered = mean_ranks(whole).sort_values(kind="stable").index.tolist()
    differ = {frozenset((c.first, c.second)) for c in compare_all(whole) if c.p_holm < alpha}
    found: list[tuple[str, ...]] = []
    end = 0
    for start in range(len(ordered)):
        stop = start + 1
        while stop < len(ordered) and not any(frozenset((ordered[stop], x)) in differ for x in ordered[start:stop]):
            stop += 1
        if stop > end and stop - start > 1:
            found.append(tuple(ordered[start:stop]))
        end = max(end, stop)
    return found


def corrected_t_test(differences: np.ndarray, *, n_train: float, n_test: float) -> tuple[float, float]:
    """Two methods on one task, from the differences of their scores in the folds of a (repeated) cross-validation.

    Folds share training data, so that the usual t-test takes chance for difference far too often. Nadeau and Bengio's
    correction [1]_ puts the variance of the mean at (1 / n_folds + n_test / n_train) times the variance of the folds.

    Parameters
    ----------
    differences : array-like of shape (n_folds,)
        One score minus the other, fold by fold.
    n_train, n_test : float
        Models to fit and to test in a fold.

    Returns
    -------
    t, p : float
        Statistic with n_folds - 1 degrees of freedom, and two-sided p-value. NaN where there are fewer than two folds;
        where all differences are equal, t is infinite and p zero, or both 0 and 1 if they are zero.

    References
    ----------
    .. [1] Nadeau, C. and Bengio, Y., "Inference for the Generalization Error", Machine Learning 52, 2003, section 3.

    Examples
    --------
    >>> from zoobench.benchmark.ranking import corrected_t_test
    >>> t, p = corrected_t_test([0.02, 0.03, 0.01, 0.04, 0.02], n_train=80, n_test=20)
    >>> round(t, 3), round(p, 3)
    (3.138, 0.035)
    """
    from scipy.stats import t as student

    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan")
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    if variance == 0:
        return (0.0, 1.0) if mean == 0 else (float(np.copysign(np.inf, mean)), 0.0)
    t = mean / np.sqrt((1 / len(values) + n_test / n_train) * variance)
    return float(t), float(2 * student.sf(abs(t), len(values) - 1))
