"""Preprocessed zoos: the ``.pt`` files that the Model Zoos' authors publish, with their split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.properties import CANONICAL, MEASURED, canonical_name
from zoobench.readers.admitted import Attributes, Record, unpacked
from zoobench.readers.blocks import Block, StateBlocks
from zoobench.readers.checkpoint import Structure
from zoobench.readers.choice import EpochChoice, choose_rows
from zoobench.readers.frame import column, property_frame
from zoobench.readers.results import measurement, number
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.samples import Sample, read_samples, shapes_of
from zoobench.readers.tensors import Tensor
from zoobench.readers.torchfile import TorchFile
from zoobench.readers.zipdir import ZipDirectory

#: In the order of the published split.
_PARTS = ("trainset", "valset", "testset")
_NEEDED_PARTS = {"trainset", "testset"}
_NEEDED = ("data_in", "paths", "properties")
_ARCHITECTURES = ("cnn_s", "cnn_l")
_LAST_EPOCH = np.iinfo(np.int32).max


def read_dataset(
    directory: ZipDirectory,
    name: str,
    *,
    choice: EpochChoice,
    keep_model: Callable[[str], bool] | None = None,
    room: Room = MEMORY,
) -> ZooContents:
    """A preprocessed zoo.

    Parameters
    ----------
    directory : ZipDirectory
        Of the file.
    name : str
        What to call the zoo.
    choice : EpochChoice
        Which epochs to read.
    keep_model : callable, optional
        Says by a model's name whether to read it; by default all are.
    room : Room
        Where the weights go.

    Returns
    -------
    ZooContents
        With the published split as ``split_published``.

    Raises
    ------
    ZooFormatError
        If the file is damaged, lacks parts, or their lengths contradict each other.
    UnsafeFileError
        If its pickle asks for more than such files need.
    ValueError
        If an epoch is asked for that no model has, or ``keep_model`` keeps none.
    """
    file = TorchFile(directory)
    content = file.load(StateBlocks())
    names = [part for part in _PARTS if isinstance(content, Record) and part in content]
    if not set(names) >= _NEEDED_PARTS or not all(isinstance(content[part], Attributes) for part in names):
        raise ZooFormatError(
            "is a torch file, but no preprocessed zoo: it does not hold the datasets trainset, valset and testset"
        )
    parts = [_Part(content[part], part) for part in names]
    models = list(dict.fromkeys(model for part in parts for model in part.models))
    code_of = {model: code for code, model in enumerate(models)}
    codes = np.array([code_of[model] for part in parts for model in part.models], np.int64)
    epochs = np.array([epoch for part in parts for epoch in part.epochs], np.int64)
    splits = np.repeat([_PARTS.index(part) for part in names], [len(part.models) for part in parts])
    rows = choose_rows(models, codes, epochs, choice, keep_model)
    samples = [sample for part in parts for sample in part.samples]
    chosen = [samples[row] for row in rows.tolist()]
    columns = _columns(parts, rows)
    return ZooContents(
        name=name,
        weights=read_samples(file, chosen, room),
        properties=property_frame(models, codes[rows], epochs[rows], columns, splits[rows]),
        layout=_layout(chosen[0], parts[0]),
        provenance={"source": "preprocessed .pt", "left_out": {}},
    )


class _Part:
    """One of the three datasets: a sample a state."""

    def __init__(self, attributes: Attributes, part: str) -> None:
        missing = [name for name in _NEEDED if name not in attributes]
        if missing:
            raise ZooFormatError(f"its {part} lacks {', '.join(missing)}")
        # None is what the class holds where it was told to read none.
        properties = Record() if attributes["properties"] is None else attributes["properties"]
        if not isinstance(properties, dict):
            raise ZooFormatError(f"the properties of its {part} are no dictionary")
        self.layers = attributes.get("layer_lst")
        self.example = attributes.get("checkpoint_base")
        self.with_biases = bool(attributes.get("use_bias", True))
        self.samples = _samples(attributes["data_in"])
        self.properties = {canonical_name(str(key)): values for key, values in properties.items()}
        # path_list, too, names models, but also those of which every state was dropped.
        lists = {
            "paths": attributes["paths"],
            "data_in": self.samples,
            "epochs": attributes.get("epochs", self.properties.get("epoch")),
            **self.properties,
        }
        for name, values in lists.items():
            if not isinstance(values, list):
                raise ZooFormatError(f"{name} of its {part} is missing or no list")
            values[:] = unpacked(values)
            if len(values) != len(lists["paths"]):
                raise ZooFormatError(f"its {part} has {len(lists['paths'])} paths, but {len(values)} of {name}")
        self.models = [_model_name(path) for path in lists["paths"]]
        self.epochs = [_epoch(value) for value in lists["epochs"]]


def _samples(data: Any) -> Any:
    """The samples as a list; of one tensor, its rows."""
    if not isinstance(data, Tensor):
        return data
    if len(data.shape) != 2:
        raise ZooFormatError(f"data_in is a tensor of shape {data.shape}; expected one vector a state")
    (n_rows, length), (step, stride) = data.shape, data.stride
    return [Tensor(data.storage, data.offset + row * step, (length,), (stride,)) for row in range(n_rows)]


def _model_name(path: Any) -> str:
    name = path.rstrip("/").rpartition("/")[2] if isinstance(path, str) else ""
    if not name:
        raise ZooFormatError("is damaged: a sample's path does not name its model")
    return name


def _epoch(value: Any) -> int:
    epoch = number(value)
    if not epoch.is_integer() or not 0 <= epoch <= _LAST_EPOCH:
        raise ZooFormatError("is damaged: a sample's epoch is no whole number")
    return int(epoch)


def _columns(parts: list[_Part], rows: np.ndarray) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in CANONICAL:
        if name == "epoch" or not any(name in part.properties for part in parts):
            continue
        values = [value for part in parts for value in part.properties.get(name, [None] * len(part.models))]
        chosen = [values[row] for row in rows.tolist()]
        if name in MEASURED:
            columns[name] = np.array([measurement(name, value) for value in chosen], np.float64)
        else:
            columns[name] = column(name, chosen)
    return columns


def _layout(sample: Sample, part: _Part) -> WeightLayout:
    """Layout of the samples: a state_dict says it, a vector has one beside it or is told by its length."""
    if not isinstance(sample, Tensor):
        return Structure(_tensors(sample)).layout()
    ((n_weights,),) = shapes_of(sample)
    if isinstance(part.example, Block | Record):
        return _vector_layout(n_weights, part)
    for architecture in _ARCHITECTURES:
        try:
            layout = WeightLayout.from_architecture(architecture, n_weights=n_weights)
        except ValueError:
            continue
        if not isinstance(part.layers, list) or len(part.layers) == len(layout.layers):
            return layout
    return WeightLayout([("all.weight", (n_weights,), "other")])


def _vector_layout(n_weights: int, part: _Part) -> WeightLayout:
    """Layout of vectors made of state_dicts, of which one is kept: the layers that are named, in their order."""
    shapes = dict(_tensors(part.example))
    layers = part.layers if isinstance(part.layers, list) else []
    numbers = [layer[0] for layer in layers if isinstance(layer, tuple | list) and layer]
    roles = ("weight", "bias") if part.with_biases else ("weight",)
    names = [f"module_list.{number}.{role}" for number in numbers for role in roles]
    # Layers may have no bias, and those without weights are not named.
    structure = Structure([(name, shapes[name]) for name in names if name in shapes])
    if structure.n_weights != n_weights:
        raise ZooFormatError(
            f"holds vectors of {n_weights} weights, but the layers that it names have {structure.n_weights}: how the "
            "vectors are made up is not known, so zoobench cannot read them"
        )
    return structure.layout()


def _tensors(state: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a state_dict."""
    if isinstance(state, Block):
        return state.template.tensors
    return [(str(name), tensor.shape) for name, tensor in state.items() if type(tensor) is Tensor]
