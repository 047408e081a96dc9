"""The train/val/test split of a zoo's models: a hash of the model's name, the same for every reader and source."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from zoobench.properties import IDENTITY

SPLITS = ("train", "val", "test")

#: Upper ends of "train" and "val" in [0, 1): 70/15/15, as in Model Zoos (NeurIPS 2022), section 4.
_TRAIN_BELOW, _VAL_BELOW = 0.70, 0.85


def split_of(model: str) -> str:
    """The part that a model belongs to.

    Parameters
    ----------
    model : str
        The model's name. Nothing else counts: not the order of a directory, not which other models there are.

    Returns
    -------
    {"train", "val", "test"}

    Examples
    --------
    >>> from zoobench.split import split_of
    >>> split_of("seed=1"), split_of("seed=7")
    ('train', 'train')
    """
    digest = hashlib.blake2b(model.encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return "train" if position < _TRAIN_BELOW else "val" if position < _VAL_BELOW else "test"


def with_split(properties: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A zoo's property table with its columns in order and ``split`` among them.

    Parameters
    ----------
    properties : DataFrame
        Columns ``model`` (categorical), ``epoch``, perhaps ``split_published``, and properties.
    kind : {"hash", "published"}
        What becomes ``split``: :func:`split_of` each model, or the source's own ``split_published``.

    Returns
    -------
    DataFrame
        Columns ``model epoch split [split_published]`` and the properties; the data is shared.
    """
    if kind == "published":
        column = pd.Categorical(properties["split_published"], categories=SPLITS)
    else:
        model = properties["model"].cat
        parts = np.array([SPLITS.index(split_of(name)) for name in model.categories], dtype=np.int8)
        column = pd.Categorical.from_codes(parts[model.codes], categories=list(SPLITS))
    first = [name for name in IDENTITY if name in properties and name != "split"]
    result = properties[[*first, *(name for name in properties if name not in IDENTITY)]].copy(deep=False)
    result.insert(2, "split", column)
    return result
