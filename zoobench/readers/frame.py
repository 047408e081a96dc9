"""The property table of a foreign zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from zoobench.properties import CANONICAL, CATEGORICAL, MEASURED
from zoobench.readers.results import hyperparameter, number
from zoobench.split import SPLITS


def property_frame(
    models: Sequence[str],
    codes: np.ndarray,
    epochs: np.ndarray,
    columns: Mapping[str, np.ndarray],
    splits: np.ndarray | None = None,
) -> pd.DataFrame:
    """Rows of a zoo's property table.

    Parameters
    ----------
    models : sequence of str
        Names, in the zoo's order of models.
    codes : ndarray of shape (n_states,)
        Which of them each state belongs to. Models without states are left out of the categories.
    epochs : ndarray of shape (n_states,)
        Of each state.
    columns : mapping of str to ndarray of shape (n_states,)
        Canonical property -> values, of the types that :func:`column` gives. Measurements that are missing
        everywhere are left out.
    splits : ndarray of shape (n_states,), optional
        Published split of each state, as its number in ``SPLITS``.

    Returns
    -------
    DataFrame
        As :class:`~zoobench.contents.ZooContents` describes it.
    """
    used, codes = np.unique(codes, return_inverse=True)
    table: dict[str, Any] = {
        "model": pd.Categorical.from_codes(codes, categories=pd.Index([models[code] for code in used.tolist()])),
        "epoch": epochs.astype(np.int32),
    }
    if splits is not None:
        table["split_published"] = pd.Categorical.from_codes(splits, categories=pd.Index(SPLITS))
    for name in CANONICAL:
        values = columns.get(name)
        if values is not None and not (name in MEASURED and np.isnan(values).all()):
            table[name] = values
    return pd.DataFrame(table)


def column(name: str, values: Sequence[Any]) -> Any:
    """Values of a hyper-parameter as a column: names as categorical, numbers as float64, whole seeds as int64."""
    if name in CATEGORICAL:
        names = [hyperparameter(name, value) for value in values]
        categories = sorted({str(value) for value in names if value is not None})
        return pd.Categorical(names, categories=pd.Index(categories, dtype="str"))
    if name == "seed" and all(type(value) is int and abs(value) < 1 << 63 for value in values):
        return np.array(values, np.int64)
    return np.array([number(value) for value in values], np.float64)
