"""Tasks: which property of which zoo is predicted, and how a prediction is judged."""

from __future__ import annotations

import builtins  # because a task's property hides Python's
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches

import pandas as pd

from zoobench.benchmark.data import is_known, states_of
from zoobench.benchmark.metrics import CLASSIFICATION, REGRESSION
from zoobench.benchmark.places import Place, find_place, is_nameable, split_task
from zoobench.benchmark.protocols import DEFAULT_PROTOCOL, check_protocol, transferred_from
from zoobench.datasets_registry.cards import read_cards
from zoobench.properties import CANONICAL, CATEGORICAL, PAPER_PROPERTIES


@dataclass(frozen=True, order=True)
class Task:
    """One property of one zoo, predicted and judged by one protocol.

    Parameters
    ----------
    zoo : str or path-like
        A zoo's name, such as ``"digits_cnn_s_seed"``, kept in full; or the folder of a zoo of your own, in the zoo
        format, of which the folder's name is kept.
    property : str
        A property of its states, such as ``"test_acc"``: any number or name that the zoo has, but the seed.
    protocol : str, default="cv-5x1"
        See :mod:`zoobench.benchmark.protocols`; kept in full.
    path, source_path : str, optional
        Folder of the zoo, and of that which a transfer is from, as they were written; empty for zoos of the registry.

    Raises
    ------
    ValueError
        If one of them is unknown; if a folder has the name of another zoo.
    FileNotFoundError, ZooFormatError
        If there is no zoo in a folder.

    Attributes
    ----------
    id : str
        ``zoo/property/protocol``. It stays what it is: records are stored under it. It tells nothing of paths.
    text : str
        What names the task in a command: the id, with paths where there are some.
    kind : {"regression", "classification"}
        By the property: names are classified, numbers regressed.
    place, source : Place
        Where the zoo lies, and that which a transfer is from, else None.
    metrics : tuple of str
        All that is reported, the one that ranks first.

    Examples
    --------
    >>> from zoobench.benchmark import Task
    >>> task = Task.parse("digits_cnn_s_seed/test_acc")
    >>> task.id, task.kind, task.metric
    ('digits_cnn_s_seed/test_acc/cv-5x1', 'regression', 'r2')
    """

    zoo: str
    property: str
    protocol: str = DEFAULT_PROTOCOL
    path: str = field(default="", compare=False, kw_only=True)
    source_path: str = field(default="", compare=False, kw_only=True)
    kind: str = field(init=False, compare=False, repr=False)
    place: Place = field(init=False, compare=False, repr=False)
    source: Place | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        place, source = find_place(self.path or self.zoo), None
        found = {"place": place, "zoo": place.name, "path": place.written if place.folder else ""}
        if name := transferred_from(self.protocol):
            source = find_place(self.source_path or name)
            found |= {
                "protocol": f"transfer-from-{source.name}",
                "source_path": source.written if source.folder else "",
            }
            if source.name == place.name:
                if source.folder != place.folder:
                    raise two_of_one_name(place, source)
                raise ValueError(
                    f"{found['protocol']} would judge {place.name} on what it was fitted on; name another zoo"
                )
        else:
            found |= {"protocol": check_protocol(self.protocol), "source_path": ""}
        kind = _kind(place, self.property)
        if source and _kind(source, self.property) != kind:
            raise ValueError(
                f"{self.property!r} is a number in one of {place.name} and {source.name}, and a name in the other"
            )
        for key, value in {**found, "source": source, "kind": kind}.items():
            object.__setattr__(self, key, value)

    @classmethod
    def parse(cls, text: str, *, protocol: str = DEFAULT_PROTOCOL) -> Task:
        """The task that a text such as ``"digits_cnn_s_seed/test_acc"`` names.

        Parameters
        ----------
        text : str
            ``zoo/property`` or ``zoo/property/protocol``; the zoo as in ``fetch_zoo``, or the path of a folder.
        protocol : str, default="cv-5x1"
            What holds if the text names none.

        Returns
        -------
        Task

        Raises
        ------
        ValueError
            If it is not of that form, or names an unknown zoo, property or protocol.
        """
        zoo, name, rule = split_task(text)
        if name is None:
            raise ValueError(f"a task is written zoo/property or zoo/property/protocol, not {text!r}")
        return cls(zoo, name, rule or protocol)

    @builtins.property
    def id(self) -> str:
        """What the task is called, for ever."""
        return f"{self.zoo}/{self.property}/{self.protocol}"

    @builtins.property
    def text(self) -> str:
        """What names the task in a command."""
        source = transferred_from(self.protocol)
        rule = f"transfer-from-{self.source_path or source}" if source else self.protocol
        return f"{self.path or self.zoo}/{self.property}/{rule}"

    @builtins.property
    def metrics(self) -> tuple[str, ...]:
        """Every metric, the one that ranks first: R2 or accuracy, and Kendall's tau where the protocol says so."""
        if self.kind == "classification":
            return CLASSIFICATION
        # Across zoos the scale of a prediction is off more often than its order (Model Zoos and NFN both).
        by_order = self.protocol == "nfn" or self.protocol.startswith("transfer-from-")
        return ("kendall_tau", *(m for m in REGRESSION if m != "kendall_tau")) if by_order else REGRESSION

    @builtins.property
    def metric(self) -> str:
        """The metric that ranks."""
        return self.metrics[0]


def _kind(place: Place, name: str) -> str:
    """Whether a property is a number or a name, or a ValueError if the zoo does not have it."""
    dtypes = place.dtypes()
    known = [n for n in CANONICAL if n != "seed"] if dtypes is None else list(dtypes)
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        lack = (
            ""
            if dtypes is not None
            else f". What else {place.name} has is known once it is here: `zoobench fetch {place.name}`"
        )
        raise ValueError(
            f"{name!r} is no property that can be predicted of {place.name}; there are {', '.join(known)}{hint}{lack}"
        )
    if not is_nameable(name):
        raise ValueError(
            f"the property {name!r} of {place.name} cannot be part of a task's id; rename the column, with letters, "
            "digits and _ . + - only"
        )
    if dtypes is None or (not place.folder and name in CANONICAL):
        return "classification" if name in CATEGORICAL else "regression"
    return "classification" if dtypes[name] in _NAMES else "regression"


#: Types of columns whose values are names. A zoo in the zoo format has categories; the others are for completeness.
_NAMES = ("category", "bool", "object", "str", "string")


def two_of_one_name(first: Place, second: Place) -> ValueError:
    """The error for two zoos whose records would overwrite each other."""
    return ValueError(
        f"two zoos are called {first.name!r}: {first.folder} and {second.folder}; rename one of the folders"
    )


def tasks_of(
    zoos: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, protocol: str = DEFAULT_PROTOCOL
) -> list[Task]:
    """Every task of some zoos: the properties of the paper's benchmark that vary within the zoo.

    Of a zoo of your own also the properties that it has beyond those that every zoo may have.

    Parameters
    ----------
    zoos : str, path-like or iterable of these
        Names of zoos, which are fetched where they are not there yet, or folders of zoos; or a single one.
    protocol : str, default="cv-5x1"
        How predictions are judged.

    Returns
    -------
    list of Task

    Examples
    --------
    >>> from zoobench.benchmark import tasks_of
    >>> [task.property for task in tasks_of(["digits_cnn_s_seed"])]
    ['test_acc', 'epoch', 'ggap']
    """
    rule = check_protocol(protocol)
    tasks = []
    for zoo in [zoos] if isinstance(zoos, str | os.PathLike) else zoos:
        place = find_place(zoo)
        # One state a model has one epoch, and so no epoch to predict.
        table = states_of(place, rule, tell=True).properties
        varying = [name for name in PAPER_PROPERTIES if name in table and _n_values(table[name]) > 1]
        if place.folder:
            varying += [name for name in place.dtypes() or () if name not in CANONICAL and _tells(table, name)]
        if not varying:
            raise ValueError(f"zoo {place.name!r} has no property that varies, and so no task")
        tasks += [Task(place.written, name, protocol) for name in varying]
    return tasks


def _tells(table: pd.DataFrame, name: str) -> bool:
    """Whether something can be learnt of a property: numbers that vary, or names that models have in common."""
    if not is_nameable(name) or _n_values(table[name]) < 2:
        return False
    return table[name].dtype.kind in "iuf" or 2 * _n_values(table[name]) <= table["model"].nunique()


def _n_values(values: pd.Series) -> int:
    return int(values[is_known(values)].nunique())


def default_zoos() -> list[str]:
    """Names of the bundled zoos, sparsified twins apart: twins are for studies of their own.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from zoobench.benchmark import default_zoos
    >>> default_zoos()
    ['digits_cnn_s_hyp_rand', 'digits_cnn_s_seed']
    """
    return [card.name for card in read_cards().values() if card.bundled and card.twin_of is None]
