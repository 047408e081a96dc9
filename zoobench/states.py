"""The rows of a zoo from what a user has: state_dicts or weight vectors, and a table that says what each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd

from zoobench.contents import DESCRIBED, ZooContents
from zoobench.layout import WeightLayout, resolve_layout
from zoobench.split import SPLITS

#: What a table has to say of each state.
_NEEDED = ("model", "epoch")

_END = object()


def contents_of(
    states: Any, properties: Any, *, name: str, layout: WeightLayout | str | None, card: Mapping[str, Any] | None
) -> ZooContents:
    """The rows of a zoo of one's own; see :meth:`zoobench.Zoo.from_states`."""
    table = _table(properties)
    if hasattr(states, "shape"):
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and left out as such
            weights = np.ascontiguousarray(_array(states, "the array of states"), dtype=np.float32)
        if weights.ndim != 2 or len(weights) != len(table):
            raise ValueError(f"the states have shape {weights.shape}, but ({len(table)}, n_weights) was expected")
        found = resolve_layout(layout, weights.shape[1])
    else:
        weights, found = _joined(states, table, layout)
    lacking = [key for key in DESCRIBED if card is not None and not isinstance(card.get(key), str)]
    if lacking:
        raise ValueError(f"the card lacks {', '.join(lacking)}: a card says at least {', '.join(DESCRIBED)}, as text")
    return ZooContents(
        name=name,
        weights=weights,
        properties=table,
        layout=found.canonical(),
        provenance={"source": "states of one's own"},
        card=None if card is None else dict(card),
    )


def _table(properties: Any) -> pd.DataFrame:
    """The property table in the form that every reader gives it."""
    given = pd.DataFrame(properties).reset_index(drop=True)
    lacking = [column for column in _NEEDED if column not in given]
    if lacking:
        raise ValueError(
            f"the properties lack {' and '.join(map(repr, lacking))}: each row says which model it is (all states of "
            "a training run have one name) and after which epoch"
        )
    doubled = given.columns[given.columns.duplicated()]
    if len(doubled):
        raise ValueError(f"the properties have two columns {doubled[0]!r}; keep one, or give them names of their own")
    if not len(given):
        raise ValueError("the properties have no rows, and a zoo needs at least one state")
    if "split" in given:
        raise ValueError(
            "the properties have a column 'split', but that is told by the model's name; call a split of your own "
            "'split_published'"
        )
    reserved = [str(column) for column in given if not isinstance(column, str) or column.startswith("_")]
    if reserved:
        raise ValueError(f"no property can be called {reserved[0]!r}; use a text that does not start with '_'")
    missing = given[list(_NEEDED)].isna().any(axis=1)
    if missing.any():
        raise ValueError(f"row {int(missing.argmax())} of the properties lacks a model or an epoch")
    for column in given.columns.drop("model"):
        if pd.api.types.is_complex_dtype(given[column].infer_objects()):
            raise ValueError(f"the property {column!r} holds complex numbers; keep their parts as two properties")
    epochs = pd.to_numeric(given["epoch"], errors="coerce").to_numpy(dtype=np.float64)
    if not (np.isfinite(epochs) & (epochs == np.round(epochs))).all():
        raise ValueError("epochs must be whole numbers")
    most = np.iinfo(np.int32).max
    if (np.abs(epochs) > most).any():
        raise ValueError(
            f"epochs must be whole numbers of at most {most}, but one is {epochs[np.abs(epochs).argmax()]:.0f}"
        )
    models = given["model"].astype(str)
    table: dict[str, Any] = {
        "model": pd.Categorical(models, categories=pd.Index(models.unique(), dtype="str")),
        "epoch": epochs.astype(np.int32),
    }
    twice = pd.DataFrame(table).duplicated()
    if twice.any():
        row = int(twice.argmax())
        raise ValueError(f"there are two states of model {models[row]!r} at epoch {table['epoch'][row]}; keep one")
    for column in given.columns.drop(list(_NEEDED)):
        table[column] = _column(column, given[column].infer_objects())
    return pd.DataFrame(table)


def _column(name: str, values: pd.Series) -> Any:
    if name == "split_published":
        unknown = set(values) - set(SPLITS)
        if unknown:
            raise ValueError(f"split_published holds {unknown.pop()!r}, not one of {', '.join(SPLITS)}")
        return pd.Categorical(values, categories=pd.Index(SPLITS))
    if name == "seed" and pd.api.types.is_integer_dtype(values) and not values.isna().any():
        return values.to_numpy(dtype=np.int64)
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = values.notna()
    names = values.astype(object).where(known, None).map(str, na_action="ignore")
    return pd.Categorical(names, categories=pd.Index(sorted(names[known].unique()), dtype="str"))


def _joined(
    states: Iterable[Any], table: pd.DataFrame, layout: WeightLayout | str | None
) -> tuple[np.ndarray, WeightLayout]:
    """Weight vectors of state_dicts, one at a time: they may be loaded while they are asked for."""
    weights = np.empty(0)
    found: WeightLayout | None = None
    names: list[str] = []
    for row, (state, known) in enumerate(zip_longest(states, range(len(table)), fillvalue=_END)):
        if state is _END or known is _END:
            count = f"only {row}" if state is _END else f"more than {len(table)}"
            raise ValueError(f"there are {count} states, but {len(table)} rows of properties; each row is one state")
        where = f"state {row} ({table['model'].iloc[row]} at epoch {table['epoch'].iloc[row]})"
        tensors = _tensors(state, where)
        if found is None:
            names = list(tensors)
            own = WeightLayout.from_shapes((name, value.shape) for name, value in tensors.items())
            found = own if layout is None else resolve_layout(layout, own.n_weights)
            weights = np.empty((len(table), found.n_weights), dtype=np.float32)
        if list(tensors) != names:
            other = next(name for pair in zip_longest(tensors, names) if pair[0] != pair[1] for name in pair if name)
            raise ValueError(f"{where} and state 0 do not have the same tensors: the first that differs is {other!r}")
        try:
            with np.errstate(over="ignore"):
                weights[row] = found.flatten(tensors)
        except ValueError as error:
            raise ValueError(f"{where} does not fit: {error}") from None
    assert found is not None  # a table has at least one row, and so there was a state
    return weights, found


def _tensors(state: Any, where: str) -> dict[str, np.ndarray]:
    """The tensors of a state_dict or of a module, as arrays."""
    if not isinstance(state, Mapping) and hasattr(state, "state_dict"):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{where} is {type(state).__name__}, not a state_dict; weight vectors are given as one array of shape "
            "(n_states, n_weights)"
        )
    tensors = {}
    for name, value in state.items():
        if not hasattr(value, "shape"):
            raise TypeError(
                f"{where} holds {type(value).__name__} under {name!r}, not a tensor; of a checkpoint that holds more "
                "than weights give the state_dict in it"
            )
        tensors[str(name)] = _array(value, f"{name!r} of {where}")
    if not tensors:
        raise ValueError(f"{where} is empty")
    # What torch's wrappers for several devices put before every name. A network may have a part of that name.
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module."): value for name, value in tensors.items()} if wrapped else tensors


def _array(value: Any, where: str) -> np.ndarray:
    """An array, or a tensor of torch, which may lie on a GPU, need gradients or be of a type that numpy lacks."""
    tensor = hasattr(value, "detach")
    if value.is_complex() if tensor else np.iscomplexobj(value):
        raise ValueError(
            f"{where} is complex, and weights are real numbers; give real and imaginary parts as two tensors"
        )
    return value.detach().cpu().float().numpy() if tensor else np.asarray(value)
