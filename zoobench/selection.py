"""Which rows and properties of a zoo are asked for: the arguments that every loading function shares."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.layout import WeightLayout
from zoobench.properties import CATEGORICAL, HYPERPARAMETERS, IDENTITY, MEASURED
from zoobench.split import SPLITS, split_of

#: Rows are looked through in blocks of this many bytes, so that a memory map larger than memory can be scanned.
_BLOCK_BYTES = 1 << 25

#: More columns than this make a DataFrame that takes seconds to build and cannot be looked at.
_MAX_FRAME_WEIGHTS = 100_000

Epochs = int | str | Collection[int] | None


def normalise_epochs(epochs: object) -> str | tuple[int, ...] | None:
    """``None`` (all), ``"last"``, or a sorted tuple of epochs.

    Parameters
    ----------
    epochs : int, sequence of int, "last" or None
        As users give it.

    Returns
    -------
    None, "last" or tuple of int

    Raises
    ------
    ValueError
        For anything else, and for an empty sequence.
    """
    if epochs is None or (isinstance(epochs, str) and epochs == "last"):
        return epochs
    values = [epochs] if isinstance(epochs, numbers.Integral) else epochs
    whole = isinstance(values, Iterable) and not isinstance(values, (str, bytes))
    found = list(values) if whole else []  # type: ignore[call-overload]
    if not found or not all(isinstance(e, numbers.Integral) and not isinstance(e, bool) for e in found):
        raise ValueError(f"epochs must be an int, a sequence of ints, 'last' or None (all), not {epochs!r}")
    return tuple(sorted({int(e) for e in found}))


def check_subset(subset: str) -> None:
    """Raise ValueError if ``subset`` is none of "train", "val", "test" and "all"."""
    if subset not in (*SPLITS, "all"):
        raise ValueError(f"subset must be 'train', 'val', 'test' or 'all', not {subset!r}")


def models_of(subset: str) -> Callable[[str], bool] | None:
    """A test that tells by a model's name whether it belongs to the subset; None where all do."""
    check_subset(subset)
    return None if subset == "all" else lambda model: split_of(model) == subset


def select_rows(
    properties: pd.DataFrame,
    *,
    name: str,
    subset: str,
    epochs: str | tuple[int, ...] | None,
    keep: np.ndarray | None,
) -> np.ndarray:
    """Numbers of the rows that are asked for, in their order.

    Parameters
    ----------
    properties : DataFrame
        The zoo's rows; columns ``model``, ``epoch`` and ``split`` are looked at.
    name : str
        The zoo's name, for messages.
    subset : {"train", "val", "test", "all"}
        Part of the split.
    epochs : None, "last" or tuple of int
        See :func:`normalise_epochs`. ``"last"`` is each model's own last state.
    keep : ndarray of bool, shape (n_states,), or None
        False where a state is to be left out for another reason.

    Returns
    -------
    ndarray of int64

    Raises
    ------
    ValueError
        If an epoch does not exist, or nothing is left.
    """
    check_subset(subset)
    mask = np.ones(len(properties), dtype=bool) if keep is None else keep.copy()
    epoch = properties["epoch"].to_numpy()
    if isinstance(epochs, tuple):
        known = np.unique(epoch)
        missing = sorted(set(epochs) - set(known.tolist()))
        if missing:
            raise ValueError(f"zoo {name!r} has no epoch {listed(missing)}; it has epochs {listed(known.tolist())}")
        mask &= np.isin(epoch, epochs)
    if subset != "all":
        mask &= (properties["split"] == subset).to_numpy()
    if epochs == "last":
        model = properties["model"].cat.codes.to_numpy()
        last = np.full(int(model.max(initial=-1)) + 1, np.iinfo(np.int64).min)
        np.maximum.at(last, model[mask], epoch[mask])
        mask &= epoch == last[model]
    rows = np.flatnonzero(mask)
    if not len(rows):
        models = properties["model"].nunique()
        what = "no state that the arguments ask for" if subset == "all" else f"no usable state in its {subset!r} part"
        raise ValueError(
            f"zoo {name!r} ({len(properties)} states of {models} models) has {what}; ask for another subset or for "
            f"more epochs, or split by zoo.groups yourself"
        )
    return rows


def property_columns(properties: pd.DataFrame, wanted: str | Sequence[str], *, name: str, numeric: bool) -> list[str]:
    """Names of the property columns that are asked for.

    Parameters
    ----------
    properties : DataFrame
        The zoo's rows.
    wanted : str or sequence of str
        A property, several, or ``"all"``: every measured property and hyper-parameter except the seed.
    name : str
        The zoo's name, for messages.
    numeric : bool
        Leave categorical properties out of ``"all"``.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If the zoo lacks a property; close matches are named.
    """
    available = [c for c in properties.columns if c not in IDENTITY or c == "epoch"]
    if isinstance(wanted, str) and wanted == "all":
        shown = [c for c in (*MEASURED, *HYPERPARAMETERS) if c in available]
        return [c for c in shown if not (numeric and c in CATEGORICAL)]
    if not isinstance(wanted, Iterable):
        raise ValueError(f"properties must be a name, a list of names or 'all', not {wanted!r}")
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"properties must name at least one property, and none twice, but is {wanted!r}")
    for column in names:
        if column not in available:
            close = difflib.get_close_matches(str(column), available, n=3)
            hint = f"did you mean {' or '.join(repr(c) for c in close)}? It" if close else "it"
            raise ValueError(f"zoo {name!r} has no property {column!r}; {hint} has {', '.join(available)}")
    return names


def target_of(properties: pd.DataFrame, names: Sequence[str], wanted: str | Sequence[str], as_frame: bool) -> Any:
    """The columns that are asked for: one is 1-D if it was named alone; names are text in an array."""
    single = isinstance(wanted, str) and wanted != "all"
    target: Any = properties[names[0]] if single else properties[list(names)]
    if as_frame:
        return target
    values = target.to_numpy()
    return values.astype(str) if single and values.dtype.kind not in "fiu" else values


def largest_weights(weights: np.ndarray, layout: WeightLayout) -> np.ndarray:
    """The largest absolute weight of each state, buffers left out; NaN where a weight is NaN or a buffer not finite.

    Parameters
    ----------
    weights : ndarray of shape (n_states, n_weights), float32
        May be a memory map of any size: it is read in blocks.
    layout : WeightLayout
        Which of them are buffers.

    Returns
    -------
    ndarray of shape (n_states,), float32
    """
    peaks = np.empty(len(weights), dtype=np.float32)
    step = max(1, _BLOCK_BYTES // (weights.shape[1] * 4))
    for start in range(0, len(weights), step):
        peaks[start : start + step] = _row_peaks(weights[start : start + step], layout)
    return peaks


def _row_peaks(block: np.ndarray, layout: WeightLayout) -> np.ndarray:
    """The same of rows that fit into memory."""
    peaks = np.zeros(len(block), dtype=np.float32)
    for buffers, run in groupby(layout.tensors, lambda tensor: tensor.is_buffer):
        tensors = list(run)
        part = block[:, tensors[0].start : tensors[-1].slice.stop]
        if buffers:
            # Counts of batches and variances are no weights, and may be as large as they like.
            peaks[~np.isfinite(part).all(axis=1)] = np.nan
        elif part.shape[1]:
            np.maximum(peaks, np.maximum(part.max(axis=1), -part.min(axis=1)), out=peaks)
    return peaks


def check_bound(max_abs_weight: float | None) -> None:
    """Raise ValueError if a bound on weights is no positive number."""
    if max_abs_weight is None:
        return
    if not isinstance(max_abs_weight, numbers.Real) or isinstance(max_abs_weight, bool) or not max_abs_weight > 0:
        raise ValueError(f"max_abs_weight must be a positive number or None, not {max_abs_weight!r}")


def check_frame(n_weights: int, name: str) -> None:
    """Raise ValueError if a zoo has too many weights for a DataFrame."""
    if n_weights > _MAX_FRAME_WEIGHTS:
        raise ValueError(
            f"as_frame=True would make a DataFrame of {n_weights} columns for zoo {name!r}; at most "
            f"{_MAX_FRAME_WEIGHTS} are sensible. Use as_frame=False and zoo.properties"
        )


def usable_states(
    properties: pd.DataFrame, peaks: np.ndarray, max_abs_weight: float | None, drop_nan: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Which states may be used, and how many have something wrong with them.

    Parameters
    ----------
    properties : DataFrame of n_states rows
        The zoo's rows. A table without any measured property counts as complete: nobody claimed to have measured.
    peaks : ndarray of shape (n_states,)
        Largest absolute weight of each state.
    max_abs_weight : float or None
        The bound. It was asked for, so what it leaves out is no news and is not counted. NaN is beyond any bound.
    drop_nan : bool
        Whether states that are not finite or were not measured may not be used.

    Returns
    -------
    keep : ndarray of bool, shape (n_states,)
    unusable : dict of str to int
        What is wrong with them -> number of states that are not finite or were not measured, kept or not.
    """
    columns = [c for c in MEASURED if c in properties and c not in IDENTITY]
    everything = np.ones(len(peaks), dtype=bool)
    measured = properties[columns].notna().any(axis=1).to_numpy() if columns else everything
    finite = np.isfinite(peaks)
    keep = finite & measured if drop_nan else everything
    if max_abs_weight is not None:
        keep &= peaks <= max_abs_weight
    named = properties["model"].astype(str).to_numpy()
    unusable = {}
    for reason, states in (("with NaN or infinite weights", ~finite), ("without a result", finite & ~measured)):
        if states.any():
            first = np.flatnonzero(states)[0]
            which = f"{named[first]} at epoch {properties['epoch'].iloc[first]}"
            unusable[f"{reason} (the first is {which})"] = int(states.sum())
    return keep, unusable


def what_to_say(unusable: Mapping[str, int], drop_nan: bool, read: ZooContents | None) -> str:
    """What is wrong with states that were just read, or chosen from, as one sentence; empty if nothing is."""
    sentences: dict[str, Mapping[str, int]] = {"states left out": unusable if drop_nan else {}}
    if read is not None:
        sentences["states left out"] = {**read.left_out, **sentences["states left out"]}
        sentences |= {"states kept, as asked": {} if drop_nan else unusable, "noticed": read.noticed}
    return "; ".join(
        f"{what}: " + ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        for what, counts in sentences.items()
        if any(counts.values())
    )


def listed(numbers_: Sequence[int]) -> str:
    """Numbers with commas; of many the first and the last ones."""
    shown = [str(n) for n in numbers_]
    return ", ".join(shown) if len(shown) <= 12 else ", ".join([*shown[:5], "...", *shown[-3:]])
