"""A zoo in memory: populations of trained networks as ``data`` and ``target``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from zoobench.contents import ZooContents, ZooSource
from zoobench.layout import WeightLayout
from zoobench.selection import (
    Epochs,
    check_bound,
    check_frame,
    largest_weights,
    normalise_epochs,
    property_columns,
    select_rows,
    target_of,
    usable_states,
    what_to_say,
)
from zoobench.split import with_split
from zoobench.states import contents_of
from zoobench.warning import warn_user

if TYPE_CHECKING:
    import torch


class Zoo(Bunch):
    """A population of trained networks, in the style of ``sklearn.datasets``.

    Zoos come from :func:`~zoobench.fetch_zoo`, :func:`~zoobench.load_zoo` and :func:`~zoobench.make_zoo`, and those of
    networks of your own from :meth:`from_states`. Keys are attributes as well.

    Attributes
    ----------
    data : ndarray of shape (n_states, n_weights), float32, or DataFrame
        One checkpoint a row. A read-only memory map where a stored zoo is taken whole or in neighbouring rows.
    target : ndarray, Series or DataFrame
        The chosen property, shape (n_states,), or properties, shape (n_states, n_properties).
    properties : DataFrame of n_states rows
        ``model``, ``epoch``, ``split`` (``split_published`` where the source has one) and every property.
    frame : DataFrame or None
        ``data`` and ``target`` side by side, under ``as_frame=True`` only.
    target_names : list of str
        Names of the chosen properties.
    feature_names : list of str
        One name a weight; built when first asked for.
    layout : WeightLayout
        Which columns belong to which layer.
    groups : ndarray of shape (n_states,), int64
        Number of each row's model, for ``GroupKFold``.
    split : ndarray of shape (n_states,), str
        ``"train"``, ``"val"`` or ``"test"``: by model, 70/15/15.
    card : dict
        The registry's description; empty for data that is not from the registry.
    DESCR : str
        Description in words, with licence and citation.
    filenames : list of str
        The files behind it.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> zoo
    Zoo(digits_cnn_s_seed: 200 states of 200 models, 2464 weights, epoch 50, target test_acc)
    >>> zoo.data.shape, zoo.target.shape
    ((200, 2464), (200,))
    """

    # -- making --------------------------------------------------------------------------------------------------------

    @classmethod
    def from_states(
        cls,
        states: Any,
        properties: Any,
        *,
        name: str = "my_zoo",
        layout: WeightLayout | str | None = None,
        target: str | Sequence[str] = "test_acc",
        card: Mapping[str, Any] | None = None,
    ) -> Zoo:
        """A zoo of networks of your own.

        Parameters
        ----------
        states : iterable of state_dicts or modules, or array or tensor of shape (n_states, n_weights)
            One a row. A generator may load them one by one.
        properties : DataFrame, or what makes one, of n_states rows
            ``model``, ``epoch``, and every property; numbers that are missing are NaN.
        name : str, default="my_zoo"
            The zoo's name.
        layout : WeightLayout or str, optional
            Of the states, or an architecture's name. Default: that of the first state_dict; of an array, one layer.
        target : str or sequence of str, default="test_acc"
            The property, or properties, to predict.
        card : mapping, optional
            ``title``, ``description``, ``licence`` and ``citation``, as text, and what else there is to say.

        Raises
        ------
        ValueError, TypeError
            If states do not fit each other, the layout or the properties: the first one is named.

        Examples
        --------
        >>> from torch import nn
        >>> from zoobench import Zoo
        >>> Zoo.from_states([nn.Linear(2, 1)] * 2, {"model": ["a", "a"], "epoch": [1, 2], "test_acc": [0.5, 0.6]})
        Zoo(my_zoo: 2 states of 1 models, 3 weights, epochs 1, 2, target test_acc)
        """
        contents = contents_of(states, properties, name=name, layout=layout, card=card)
        return cls.from_contents(contents, properties=target)

    @classmethod
    def from_contents(
        cls,
        contents: ZooContents,
        *,
        subset: str = "all",
        epochs: Epochs = None,
        properties: str | Sequence[str] = "test_acc",
        max_abs_weight: float | None = None,
        drop_nan: bool = True,
        as_frame: bool = False,
        split: str = "hash",
        source: ZooSource | None = None,
    ) -> Zoo:
        """A zoo of a reader's rows, or of some of them; see :meth:`from_states` for networks of your own.

        Parameters
        ----------
        contents : ZooContents
            All rows.
        subset, epochs, properties, max_abs_weight, drop_nan, as_frame
            See :func:`~zoobench.load_zoo`.
        split : {"hash", "published"}, default="hash"
            What becomes ``split``: the hash of each model's name, or the source's own ``split_published``.
        source : ZooSource, optional
            Where the rows can be read again. Without it, a pickle holds the weights.

        Examples
        --------
        >>> from zoobench import Zoo, fetch_zoo
        >>> Zoo.from_contents(fetch_zoo("digits_cnn_s").to_contents(), epochs="last")
        Zoo(digits_cnn_s_seed: 200 states of 200 models, 2464 weights, epoch 50, target test_acc)
        """
        return cls._whole(contents, split, source)._chosen(
            subset, epochs, properties, max_abs_weight, drop_nan, as_frame, contents
        )

    @classmethod
    def _whole(cls, contents: ZooContents, split: str, source: ZooSource | None) -> Zoo:
        """Every row, no target yet."""
        table = with_split(contents.properties, split)
        zoo = cls(
            data=contents.weights,
            target=None,
            properties=table,
            frame=None,
            target_names=[],
            layout=contents.layout,
            groups=table["model"].cat.codes.to_numpy().astype(np.int64),
            split=np.asarray(table["split"], dtype="<U5"),
            card=dict(contents.card or {}),
            DESCR=contents.describe(),
            filenames=list(contents.filenames),
        )
        zoo._set(_name=contents.name, _source=source, _rows=None, _split_kind=split, _target=("test_acc", False))
        zoo._set(_recipe=contents.recipe, _provenance=contents.provenance, _peaks=contents.peaks)
        return zoo

    def _set(self, **private: Any) -> None:
        # Bunch turns attributes into keys; what is private stays out of the keys that users see.
        for key, value in private.items():
            object.__setattr__(self, key, value)

    # -- selecting -----------------------------------------------------------------------------------------------------

    def select(
        self,
        *,
        subset: str = "all",
        epochs: Epochs = None,
        properties: str | Sequence[str] | None = None,
        max_abs_weight: float | None = None,
        drop_nan: bool = True,
        as_frame: bool | None = None,
    ) -> Zoo:
        """Some of this zoo's rows, or other properties as the target.

        Parameters
        ----------
        subset : {"train", "val", "test", "all"}, default="all"
            Part of the split, by model.
        epochs : int, sequence of int, "last" or None, default=None
            States to take; None takes all, ``"last"`` each model's last.
        properties : str or sequence of str, optional
            The new target; by default the target stays.
        max_abs_weight : float, optional
            Leave out states with a weight beyond this bound; the paper's benchmark uses 5.
        drop_nan : bool, default=True
            Leave out states with NaN or infinite weights, and states of which nothing was measured.
        as_frame : bool, optional
            ``data`` and ``target`` as pandas objects; by default as in this zoo.

        Returns
        -------
        Zoo
            Neighbouring rows are a view, others a copy.

        Raises
        ------
        ValueError
            For an unknown subset, epoch or property, and where nothing is left.

        Examples
        --------
        >>> from zoobench import fetch_zoo
        >>> zoo = fetch_zoo("digits_cnn_s")
        >>> zoo.select(epochs=[5, 50], properties=["test_acc", "epoch"]).target.shape
        (400, 2)
        """
        before, framed = self._target
        properties, as_frame = before if properties is None else properties, framed if as_frame is None else as_frame
        return self._chosen(subset, epochs, properties, max_abs_weight, drop_nan, as_frame)

    def _chosen(
        self,
        subset: str,
        epochs: Epochs,
        properties: str | Sequence[str],
        max_abs_weight: float | None,
        drop_nan: bool,
        as_frame: bool,
        read: ZooContents | None = None,
    ) -> Zoo:
        """The zoo of the rows that the arguments ask for; says once, of what was just read, what is wrong with it."""
        check_bound(max_abs_weight)
        keep: np.ndarray | None = None
        unusable: dict[str, int] = {}
        if max_abs_weight is not None or drop_nan or read is not None:
            if self._peaks is None:
                self._set(_peaks=largest_weights(self._matrix(), self.layout))
            keep, unusable = usable_states(self.properties, self._peaks, max_abs_weight, drop_nan)
        said = what_to_say(unusable, drop_nan, read)
        if said:
            warn_user(f"zoo {self._name!r}: {said}")
        rows = select_rows(self.properties, name=self._name, subset=subset, epochs=normalise_epochs(epochs), keep=keep)
        return self._at(rows, properties, as_frame)

    def _at(self, rows: np.ndarray, properties: str | Sequence[str], as_frame: bool) -> Zoo:
        """The zoo of these rows, in ascending order, with that target."""
        matrix, table, whole = self._matrix(), self.properties, len(rows) == len(self.properties)
        if not whole:
            table = table.iloc[rows].reset_index(drop=True)
            contiguous = rows[-1] - rows[0] + 1 == len(rows)
            matrix = matrix[rows[0] : rows[-1] + 1] if contiguous else matrix[rows]
        zoo = Zoo(**self)
        zoo.update(data=matrix, properties=table, frame=None)
        if not whole:
            zoo.update(groups=self.groups[rows], split=self.split[rows])
        zoo._set(**vars(self))
        zoo._set(
            _rows=self._rows if whole else rows if self._rows is None else self._rows[rows],
            _peaks=None if self._peaks is None else self._peaks[rows],
            _target=(properties, as_frame),
        )
        zoo._set_target(properties, as_frame)
        return zoo

    def _set_target(self, properties: str | Sequence[str], as_frame: bool) -> None:
        names = property_columns(self.properties, properties, name=self._name, numeric=not as_frame)
        target = target_of(self.properties, names, properties, as_frame)
        if as_frame:
            check_frame(self.layout.n_weights, self._name)
            data = pd.DataFrame(self._matrix(), columns=self.feature_names)
            self.update(data=data, frame=pd.concat([data, target], axis=1))
        self.update(target=target, target_names=names)

    # -- looking -------------------------------------------------------------------------------------------------------

    def __missing__(self, key: str) -> Any:
        if key != "feature_names":
            raise KeyError(key)
        self["feature_names"] = self.layout.feature_names()
        return self["feature_names"]

    def _matrix(self) -> np.ndarray:
        return self.data.to_numpy() if isinstance(self.data, pd.DataFrame) else self.data

    def state_dict(self, i: int) -> dict[str, torch.Tensor]:
        """The tensors of one state, ready for ``module.load_state_dict``.

        Parameters
        ----------
        i : int
            Number of the row.

        Returns
        -------
        dict of str to torch.Tensor
            Copies: changing them does not change the zoo.

        Examples
        --------
        >>> from zoobench import fetch_zoo
        >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
        >>> list(zoo.state_dict(0))[:2]
        ['module_list.0.weight', 'module_list.0.bias']
        """
        from zoobench.network import state_tensors

        return state_tensors(self.layout, np.asarray(self._matrix()[i], dtype=np.float32))

    def module(self, i: int) -> torch.nn.Module:
        """The network of one state, in evaluation mode.

        Parameters
        ----------
        i : int
            Number of the row.

        Returns
        -------
        torch.nn.Module

        Raises
        ------
        ValueError
            If the zoo's architecture is neither a named nor a registered one, its activation is not known, or the
            running statistics of batch normalisation are missing.

        Examples
        --------
        >>> import torch
        >>> from zoobench import fetch_zoo
        >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
        >>> with torch.no_grad():
        ...     zoo.module(0)(torch.zeros(1, 1, 28, 28)).shape
        torch.Size([1, 10])
        """
        from zoobench.network import build_network, origin_of

        origin = origin_of(self._recipe, self._provenance)
        return build_network(self._name, self.layout, self.properties.iloc[i], self.state_dict(i), origin)

    def to_contents(self) -> ZooContents:
        """The rows as a writer takes them."""
        return ZooContents(
            name=self._name,
            weights=self._matrix(),
            properties=self.properties.drop(columns="split"),
            layout=self.layout,
            filenames=list(self.filenames),
            provenance=dict(self._provenance),
            card=self.card or None,
            recipe=self._recipe,
            peaks=self._peaks,
        )

    def __repr__(self) -> str:
        epochs = np.unique(self.properties["epoch"])
        shown = ", ".join(map(str, epochs)) if len(epochs) <= 5 else f"{epochs[0]}..{epochs[-1]} ({len(epochs)})"
        return (
            f"Zoo({self._name}: {len(self.properties)} states of {self.properties['model'].nunique()} models, "
            f"{self.layout.n_weights} weights, epoch{'s' if len(epochs) > 1 else ''} {shown}, "
            f"target {', '.join(self.target_names)})"
        )

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self.keys(), "feature_names"})

    # -- pickling ------------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            return _restored, (self.to_contents(), None, self._split_kind, *self._target)
        return _restored, (self._source, self._rows, self._split_kind, *self._target)


def _restored(
    origin: ZooSource | ZooContents,
    rows: np.ndarray | None,
    split: str,
    properties: str | Sequence[str],
    as_frame: bool,
) -> Zoo:
    """A zoo from its pickle."""
    source = origin if isinstance(origin, ZooSource) else None
    contents = origin.reopen(*origin.arguments) if isinstance(origin, ZooSource) else origin
    whole = Zoo._whole(contents, split, source)
    return whole._at(np.arange(len(whole.properties)) if rows is None else rows, properties, as_frame)
