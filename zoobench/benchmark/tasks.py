"""Tasks: which property of which zoo is predicted, and how a prediction is judged."""

from __future__ import annotations

import builtins  # because a task's property hides Python's
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from zoobench.benchmark.metrics import CLASSIFICATION, REGRESSION
from zoobench.benchmark.protocols import DEFAULT_PROTOCOL, check_protocol, selection, transferred_from
from zoobench.datasets_registry.cards import find_card, read_cards
from zoobench.properties import CATEGORICAL, PAPER_PROPERTIES


@dataclass(frozen=True, order=True)
class Task:
    """One property of one zoo, predicted and judged by one protocol.

    Parameters
    ----------
    zoo : str
        A zoo's name, such as ``"digits_cnn_s_seed"``; kept in full.
    property : str
        A property of its states, such as ``"test_acc"``.
    protocol : str, default="cv-5x1"
        See :mod:`zoobench.benchmark.protocols`; kept in full.

    Raises
    ------
    ValueError
        If one of them is unknown.

    Attributes
    ----------
    id : str
        ``zoo/property/protocol``. It stays what it is: records are stored under it.
    kind : {"regression", "classification"}
        By the property: names are classified, numbers regressed.
    metrics : tuple of str
        All that is reported, the one that ranks first.

    Examples
    --------
    >>> from zoobench.benchmark.tasks import Task
    >>> task = Task.parse("digits_cnn_s_seed/test_acc")
    >>> task.id, task.kind, task.metric
    ('digits_cnn_s_seed/test_acc/cv-5x1', 'regression', 'r2')
    """

    zoo: str
    property: str
    protocol: str = DEFAULT_PROTOCOL

    def __post_init__(self) -> None:
        name, known = self.property, PAPER_PROPERTIES
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{name!r} is no property that can be predicted; there are {', '.join(known)}{hint}")
        object.__setattr__(self, "zoo", find_card(self.zoo).name)
        object.__setattr__(self, "protocol", check_protocol(self.protocol))
        if transferred_from(self.protocol) == self.zoo:
            raise ValueError(f"{self.protocol} would judge {self.zoo} on what it was fitted on; name another zoo")

    @classmethod
    def parse(cls, text: str, *, protocol: str = DEFAULT_PROTOCOL) -> Task:
        """The task that a text such as ``"digits_cnn_s_seed/test_acc"`` names.

        Parameters
        ----------
        text : str
            ``zoo/property`` or ``zoo/property/protocol``; the zoo as in ``fetch_zoo``.
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
        zoo, *rest = text.split("/")
        if not 1 <= len(rest) <= 2 or not all(rest):
            raise ValueError(f"a task is written zoo/property or zoo/property/protocol, not {text!r}")
        return cls(zoo, rest[0], rest[1] if len(rest) == 2 else protocol)

    @builtins.property
    def id(self) -> str:
        """What the task is called, for ever."""
        return f"{self.zoo}/{self.property}/{self.protocol}"

    @builtins.property
    def kind(self) -> str:
        """Whether numbers or names are predicted."""
        return "classification" if self.property in CATEGORICAL else "regression"

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


def tasks_of(zoos: Iterable[str], *, protocol: str = DEFAULT_PROTOCOL) -> list[Task]:
    """Every task of some zoos: the properties of the paper's benchmark that vary within the zoo.

    Parameters
    ----------
    zoos : iterable of str
        Names of zoos, which are fetched where they are not there yet.
    protocol : str, default="cv-5x1"
        How predictions are judged.

    Returns
    -------
    list of Task

    Examples
    --------
    >>> from zoobench.benchmark.tasks import tasks_of
    >>> [task.property for task in tasks_of(["digits_cnn_s_seed"])]
    ['test_acc', 'epoch', 'ggap']
    """
    from zoobench.fetch import fetch_zoo

    protocol = check_protocol(protocol)
    tasks = []
    for name in zoos:
        card = find_card(name)
        # One state a model has one epoch, and so no epoch to predict.
        table = fetch_zoo(card.name, properties="epoch", **selection(protocol)).properties
        varying = [p for p in PAPER_PROPERTIES if p in table and table[p].nunique() > 1]
        tasks += [Task(card.name, name, protocol) for name in varying]
    return tasks


def default_zoos() -> list[str]:
    """The bundled zoos, sparsified twins apart: twins are for studies of their own."""
    return [card.name for card in read_cards().values() if card.bundled and card.twin_of is None]
