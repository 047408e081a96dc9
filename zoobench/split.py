"""The train/val/test split of a zoo's models: a hash of the model's name, the same for every reader and source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

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


def split_codes(models: Iterable[str]) -> np.ndarray:
    """Index into :data:`SPLITS` for each model's name.

    Parameters
    ----------
    models : iterable of str
        Names of models.

    Returns
    -------
    ndarray of int8
    """
    return np.fromiter((SPLITS.index(split_of(model)) for model in models), dtype=np.int8)
