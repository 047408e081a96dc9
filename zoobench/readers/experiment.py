"""Raw zoos: experiment folders of Ray Tune, as a folder, a zip or a tar."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from zoobench.contents import ZooContents
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.properties import HYPERPARAMETERS
from zoobench.readers.archive import Archive, Member
from zoobench.readers.checkpoint import CheckpointReader
from zoobench.readers.choice import EpochChoice
from zoobench.readers.frame import column, property_frame
from zoobench.readers.journal import State
from zoobench.readers.naming import naming, shortened
from zoobench.readers.results import RESULT_KEYS, TrialNotes
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.sparsified import with_sparsity
from zoobench.readers.states import States

#: What makes sense, in bytes: a result line has about 1.3 kB, and the largest published networks 45 MB.
_LARGEST_PARAMS, _LARGEST_RESULTS, _LARGEST_CHECKPOINT = 1 << 20, 1 << 26, 1 << 33

#: How the members are called that a raw experiment consists of.
PLACE = re.compile(
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
    """A checkpoint that cannot be read."""

    epoch: int
    trial: str
    reason: str
    name: str


def read_experiment(
    archive: Archive,
    name: str,
    *,
    choice: EpochChoice,
    keep_model: KeepModel | None = None,
    room: Room = MEMORY,
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
        Says by a model's name whether to read it; by default all are.
    room : Room
        Where the weights go.

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
    experiment = _Experiment(choice, keep_model, room)
    places = experiment.places(archive.members())
    if not archive.streamed:
        places = iter(experiment.plan(list(places)))
    for place in places:
        with naming(place.member.name):
            experiment.take(place)
    return experiment.contents(name, archive.form)


class _Experiment:
    """An experiment as far as its members have been seen."""

    def __init__(self, choice: EpochChoice, keep_model: KeepModel | None, room: Room) -> None:
        self._choice = choice
        self._keep_model = keep_model
        self._kept: dict[str, bool] = {}
        self._root: str | None = None
        self._notes: dict[tuple[str, str], TrialNotes] = defaultdict(TrialNotes)
        self._found: dict[str, set[int]] = defaultdict(set)
        self._broken: list[_Broken] = []
        self._reader = CheckpointReader()
        self._room = room
        self._states = States(last_only=choice.last, room=room)

    def places(self, members: Iterable[Member]) -> Iterator[_Place]:
        """Those members that say something about a model that is kept."""
        for member in members:
            match = PLACE.fullmatch(member.name)
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
        self._choice.check(place.epoch for place in checkpoints)
        if not self._choice.last:
            self._states.expected = sum(self._choice.wants(place.epoch) for place in checkpoints)
            if not self._room.sorted:
                return places
            checkpoints.sort(key=lambda place: (place.epoch, place.trial))
            return [place for place in places if place.notes] + checkpoints
        # The last ones first: a model's others are read only where its last are damaged.
        self._states.expected = len({place.trial for place in checkpoints})
        checkpoints.sort(key=lambda place: (place.trial, -place.epoch))
        return [place for place in places if place.notes] + checkpoints

    def take(self, place: _Place) -> None:
        """Read a member, if it is wanted."""
        member, root, trial, epoch, notes = place
        if notes == "params":
            self._notes[root, trial].add_params(member.read(_LARGEST_PARAMS))
        elif notes == "result":
            self._notes[root, trial].add_results(member.read(_LARGEST_RESULTS))
        elif self._root not in (None, root):
            raise ZooFormatError(
                f"belongs to experiment {shortened(root)!r}, but others to {shortened(self._root)!r}; "
                "read them one by one"
            )
        elif epoch in self._found[trial]:
            raise ZooFormatError(f"is a second checkpoint of epoch {epoch}")
        else:
            self._root = root
            self._found[trial].add(epoch)
            if self._choice.wants(epoch) and self._states.last_epoch(trial) < epoch:
                self._read(place)

    def contents(self, name: str, form: str) -> ZooContents:
        """The zoo, when all members have been seen."""
        available = {epoch for epochs in self._found.values() for epoch in epochs}
        if not available:
            raise self._nothing_found()
        self._choice.check(available)
        if not len(self._states):
            first = min(self._broken)
            raise ZooFormatError(f"no checkpoint can be read; {shortened(first.name)} {first.reason}")
        root = self._root or ""
        models = self._states.models()
        weights, codes, epochs, layout = self._states.finish()
        notes = [self._notes.get((root, model), TrialNotes()) for model in models]
        left_out = self._left_out({trial for other, trial in self._notes if other == root} | set(self._found))
        contents = ZooContents(
            name=root.rpartition("/")[2] or name,
            weights=weights,
            properties=property_frame(models, codes, epochs, _columns(notes, codes, epochs)),
            layout=layout,
            provenance={
                "source": f"raw experiment ({form})",
                "garbled_result_lines": sum(note.n_garbled for note in notes),
                "left_out": left_out,
            },
            left_out=left_out,
            noticed={
                "truncated or garbled result lines": sum(note.n_garbled for note in notes),
                "models without params.json": sum(note.hyperparameters is None for note in notes),
            },
        )
        return with_sparsity(contents) if self._reader.sparsified else contents

    def _keeps(self, trial: str) -> bool:
        if trial not in self._kept:
            self._kept[trial] = self._keep_model is None or bool(self._keep_model(trial))
        return self._kept[trial]

    def _read(self, place: _Place) -> None:
        state = State(place.trial, place.epoch, place.member.stamp() if self._room.sorted else "")
        if self._states.resume(state):
            return
        try:
            checkpoint = self._reader.read(place.member.read(_LARGEST_CHECKPOINT))
        except UnsafeFileError:
            raise
        except FileNotFoundError:
            self._found[place.trial].remove(place.epoch)
        except ZooFormatError as error:
            self._broken.append(_Broken(place.epoch, place.trial, str(error), place.member.name))
        else:
            self._states.add(state, checkpoint)

    def _left_out(self, models: set[str]) -> dict[str, int]:
        """Reason -> number of states."""
        counts: Counter[str] = Counter()
        # Damaged checkpoints before the last readable one were not asked for, and may not even have been tried.
        broken = [item for item in sorted(self._broken) if self._states.last_epoch(item.trial) < item.epoch]
        first = {item.reason: item.name for item in reversed(broken)}
        for item in broken:
            counts[f"whose checkpoint {item.reason} (the first is {shortened(first[item.reason])})"] += 1
        if self._choice.last:
            missing = sum(not self._found[model] for model in models)
        else:
            # A checkpoint is missing where another model has one: most zoos note more epochs than they keep.
            expected = self._choice.asked or frozenset[int]().union(*self._found.values())
            missing = sum(len(expected - self._found[model]) for model in models)
        if missing:
            counts["whose checkpoint is missing"] = missing
        return dict(counts)

    def _nothing_found(self) -> ValueError:
        if self._kept and not any(self._kept.values()):
            return ValueError(f"none of its {len(self._kept)} models is kept; the first is {min(self._kept)!r}")
        return ZooFormatError(
            "holds no checkpoints; expected a raw experiment, <experiment>/<trial>/checkpoint_<epoch>/checkpoints, or "
            "a preprocessed .pt file"
        )


def _columns(notes: list[TrialNotes], codes: np.ndarray, epochs: np.ndarray) -> dict[str, Any]:
    """Property columns of the states: the measurements of their epochs, the hyper-parameters of their models."""
    missing = (np.nan,) * (len(RESULT_KEYS) + 1)
    measured = [
        notes[code].measured.get(epoch, missing) for code, epoch in zip(codes.tolist(), epochs.tolist(), strict=True)
    ]
    columns: dict[str, Any] = dict(zip((*RESULT_KEYS, "ggap"), np.array(measured, np.float64).T, strict=True))
    for name in (*HYPERPARAMETERS, "seed"):
        known = [note.hyperparameters or {} for note in notes]
        if any(name in parameters for parameters in known):
            columns[name] = column(name, [parameters.get(name) for parameters in known])[codes]
    return columns
