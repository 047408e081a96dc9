"""Raw zoos: experiment folders of Ray Tune, as a folder, a zip or a tar."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from zoobench.contents import ZooContents
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.properties import HYPERPARAMETERS
from zoobench.readers.archive import Archive, Member
from zoobench.readers.checkpoint import CheckpointReader, Structure
from zoobench.readers.frame import column, property_frame
from zoobench.readers.naming import naming, shortened
from zoobench.readers.results import RESULT_KEYS, TrialNotes
from zoobench.readers.rows import WeightRows
from zoobench.readers.selection import EpochChoice

#: What makes sense, in bytes: a result line has about 1.3 kB, and the largest published networks 45 MB.
_LARGEST_PARAMS, _LARGEST_RESULTS, _LARGEST_CHECKPOINT = 1 << 20, 1 << 26, 1 << 33

_PLACE = re.compile(
    r"(?:(?P<root>.*)/)?(?P<trial>[^/]+)/(?:checkpoint_(?P<epoch>[0-9]{1,9})/checkpoints|(?P<notes>params|result)\.json)"
)
#: Files of a trial that are not needed. Of any other the archive's second copy of the name is checked, because
#: one wrong letter makes a checkpoint seem to be something else.
_NOT_NEEDED = ("optimizer", ".is_checkpoint", ".tune_metadata", "params.pkl", "progress.csv")

KeepModel = Callable[[str], bool]


class _Place(NamedTuple):
    """What a member is: a checkpoint, or a trial's params or result file."""

    member: Member
    root: str
    trial: str
    epoch: int
    notes: str | None


class _Broken(NamedTuple):
    trial: str
    epoch: int
    reason: str


def read_experiment(
    archive: Archive, name: str, *, choice: EpochChoice, keep_model: KeepModel | None
) -> ZooContents:
    """A raw zoo.

    Parameters
    ----------
    archive : Archive
        Where its files are.
    name : str
        What to call it if its trials lie in no folder of their own.
    choice : EpochChoice
        Which epochs to read.
    keep_model : callable, optional
        Says by a model's name whether to read it.

    Returns
    -------
    ZooContents
        Checkpoints without a result line have NaN measurements. Missing and damaged checkpoints are counted in
        ``left_out``.

    Raises
    ------
    ZooFormatError
        If there are no trials or several experiments, no checkpoint can be read, or their shapes differ.
    UnsafeFileError
        If anything in it asks for more than data.
    ValueError
        If an epoch is asked for that no model has, or ``keep_model`` keeps none.
    """
    experiment = _Experiment(choice, keep_model)
    places = experiment.places(archive.members())
    if not archive.streamed:
        places = iter(experiment.plan(list(places)))
    for place in places:
        with naming(place.member.name):
            experiment.take(place)
    return experiment.contents(name, archive.form)


class _Experiment:
    """An experiment as far as its members have been seen."""

    def __init__(self, choice: EpochChoice, keep_model: KeepModel | None) -> None:
        self._choice = choice
        self._keep_model = keep_model
        self._kept: dict[str, bool] = {}
        self._notes: dict[tuple[str, str], TrialNotes] = defaultdict(TrialNotes)
        self._names: dict[tuple[str, str, int], str] = {}
        self._rows: dict[tuple[str, int], int] = {}
        self._last: dict[str, int] = {}
        self._broken: list[_Broken] = []
        self._reader = CheckpointReader()
        self._structures: list[Structure] = []
        self._weights: WeightRows | None = None
        self._expected = 0

    def places(self, members: Iterable[Member]) -> Iterator[_Place]:
        """The members that belong to models that are kept."""
        for member in members:
            match = _PLACE.fullmatch(member.name)
            if match is None:
                if not member.name.endswith(_NOT_NEEDED):
                    with naming(member.name):
                        member.check()
                continue
            root, trial, epoch, notes = match.groups()
            if self._keeps(trial):
                yield _Place(member, root or "", trial, int(epoch or -1), notes)

    def plan(self, places: list[_Place]) -> list[_Place]:
        """The order in which to read what need not be read as it comes."""
        checkpoints = [place for place in places if place.notes is None]
        self._choice.check({place.epoch for place in checkpoints})
        if self._choice.last:
            # The last ones first: then a model's others are read only where these are damaged.
            checkpoints.sort(key=lambda place: (place.trial, -place.epoch))
            self._expected = len({place.trial for place in checkpoints})
            return [place for place in places if place.notes] + checkpoints
        self._expected = sum(self._choice.wants(place.epoch) for place in checkpoints)
        return places

    def take(self, place: _Place) -> None:
        """Read a member, if it is wanted."""
        member, root, trial, epoch, notes = place
        if notes == "params":
            self._notes[root, trial].add_params(member.read(_LARGEST_PARAMS))
        elif notes == "result":
            self._notes[root, trial].add_results(member.read(_LARGEST_RESULTS))
        else:
            if (root, trial, epoch) in self._names:
                raise ZooFormatError(f"is a second checkpoint of epoch {epoch}, beside that in another folder")
            self._names[root, trial, epoch] = member.name
            if self._choice.wants(epoch) and self._last.get(trial, -1) < epoch:
                self._read_checkpoint(place)

    def _read_checkpoint(self, place: _Place) -> None:
        try:
            structure, pieces = self._reader.read(place.member.read(_LARGEST_CHECKPOINT))
        except UnsafeFileError:
            raise
        except FileNotFoundError:
            del self._names[place.root, place.trial, place.epoch]
            return
        except ZooFormatError as error:
            self._broken.append(_Broken(place.trial, place.epoch, str(error)))
            return
        if self._weights is None:
            self._weights = WeightRows(structure.n_weights, self._expected)
            self._structures = [structure]
    """
    """
