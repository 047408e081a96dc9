"""Files in the published formats, built from the real ones and changed in one respect."""

from __future__ import annotations

import functools
import io
import struct
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoobench.contents import ZooContents

DATA = Path(__file__).parent / "data"
SEED_ZIP = DATA / "tune_zoo_digits_uniform.zip"
HYPER_ZIP = DATA / "tune_zoo_digits_hyperparameter_10_random_seeds.zip"
SEED_PT = DATA / "dataset_digits_seed.pt"

Members = dict[str, bytes]
State = tuple[str, int]


@functools.cache
def _members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def real_members(path: Path) -> Members:
    """Name -> content of every file of a real experiment."""
    return dict(_members(path))


def experiment(path: Path = SEED_ZIP, *, n_models: int = 3, epochs: Iterable[int] | None = None) -> Members:
    """The first trials of a real experiment, images and optimizers left out."""
    members = {
        name: content for name, content in _members(path).items() if not name.endswith(("optimizer", "dataset.pt"))
    }
    trials = sorted({name.split("/")[1] for name in members if name.count("/") > 1})[:n_models]
    wanted = None if epochs is None else {f"checkpoint_{epoch:06d}" for epoch in epochs}
    return {
        name: content
        for name, content in members.items()
        if name.count("/") == 1
        or (name.split("/")[1] in trials and (wanted is None or name.count("/") == 2 or name.split("/")[2] in wanted))
    }


def small_experiment() -> Members:
    """Two trials and two epochs of the real hyper-parameter experiment, cut to the networks' last layers."""
    members = experiment(HYPER_ZIP, n_models=2, epochs=(0, 10))
    for name, content in members.items():
        if name.endswith("/checkpoints"):
            state = list(state_dict(content).items())[-2:]
            members[name] = torch_bytes(OrderedDict((key, tensor[:4].clone()) for key, tensor in state))
    return members


def trial_names(members: Mapping[str, bytes]) -> list[str]:
    """The models of an experiment, sorted."""
    return sorted({name.split("/")[-3] for name in members if name.endswith("/checkpoints")})


def renamed(members: Mapping[str, bytes], change: Callable[[str], str]) -> Members:
    return {change(name): content for name, content in members.items()}


# -- torch ---------------------------------------------------------------------------------------------------------


def torch_bytes(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def state_dict(content: bytes) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(content), weights_only=True)


def vector(state: Mapping[str, torch.Tensor]) -> np.ndarray:
    """The weight vector, computed by torch."""
    return torch.cat([tensor.detach().reshape(-1).float() for tensor in state.values()]).numpy()


def expected_vectors(members: Mapping[str, bytes]) -> dict[State, np.ndarray]:
    """(model, epoch) -> weight vector of every checkpoint, by torch.load."""
    found = {}
    for name, content in members.items():
        if name.endswith("/checkpoints"):
            trial, checkpoint = name.split("/")[-3:-1]
            found[trial, int(checkpoint.removeprefix("checkpoint_"))] = vector(state_dict(content))
    return found


def repacked(content: bytes, changes: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A torch file with other records, all checksums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(name.split("/", 1)[1], old.read(name)))
    return buffer.getvalue()


# -- archives ------------------------------------------------------------------------------------------------------


def write_zip(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w", **options: Any) -> Path:
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def write_folder(path: Path, members: Mapping[str, bytes]) -> Path:
    for name, content in members.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def flipped_in_zip(content: bytes, name: str) -> bytes:
    """A zip in which one bit of a member's packed content is wrong."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        info = archive.getinfo(name)
    lengths = struct.unpack_from("<HH", content, info.header_offset + 26)
    place = info.header_offset + 30 + sum(lengths) + info.compress_size // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


def tar_header(name: str, size: int, kind: bytes = b"0") -> bytes:
    """A tar header with a right checksum, whatever it says."""
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


# -- preprocessed files --------------------------------------------------------------------------------------------


@contextmanager
def dataset_class() -> Any:
    """A stand-in for the class of the authors' that their files are pickles of, importable for a while."""
    package = types.ModuleType("checkpoints_to_datasets")
    module = types.ModuleType("checkpoints_to_datasets.dataset_base")
    stand_in = type("ModelDatasetBase", (), {"__module__": module.__name__})
    module.ModelDatasetBase = stand_in  # type: ignore[attr-defined]
    added = {package.__name__: package, module.__name__: module}
    sys.modules.update(added)
    try:
        yield stand_in
    finally:
        for name in added:
            del sys.modules[name]


def load_preprocessed(file: Any = SEED_PT) -> dict[str, dict[str, Any]]:
    """Part -> attributes, by an unrestricted torch.load of one of our own files."""
    with dataset_class():
        return {part: vars(dataset) for part, dataset in torch.load(file, weights_only=False).items()}


def write_preprocessed(file: Any, parts: Mapping[str, Mapping[str, Any]], **options: Any) -> Any:
    with dataset_class() as stand_in:
        content = {}
        for part, attributes in parts.items():
            content[part] = stand_in()
            vars(content[part]).update(attributes)
        torch.save(content, file, **options)
    return file


def small_parts(n_samples: int) -> dict[str, dict[str, Any]]:
    """The first samples of each part of the real preprocessed file."""
    return load_preprocessed(io.BytesIO(_small_file(n_samples)))


@functools.cache
def _small_file(n_samples: int) -> bytes:
    parts = load_preprocessed()
    for attributes in parts.values():
        for name in ("data_in", "data_out", "labels_in", "labels_out", "paths", "epochs"):
            attributes[name] = attributes[name][:n_samples]
        attributes["properties"] = {key: values[:n_samples] for key, values in attributes["properties"].items()}
    buffer = io.BytesIO()
    write_preprocessed(buffer, parts)
    return buffer.getvalue()


# -- comparisons ---------------------------------------------------------------------------------------------------


def states_of(contents: ZooContents) -> list[State]:
    table = contents.properties
    return list(zip(table["model"].astype(str), table["epoch"].tolist(), strict=True))


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def assert_weights(contents: ZooContents, expected: Mapping[State, np.ndarray], *, all_of_them: bool = True) -> None:
    """Every row is, bit for bit, what torch reads of its checkpoint; and by default there is a row for each."""
    found = states_of(contents)
    assert len(set(found)) == len(found) == len(contents.weights)
    assert contents.weights.dtype == np.float32
    assert set(found) == set(expected) if all_of_them else set(found) <= set(expected)
    for state, row in zip(found, contents.weights, strict=True):
        assert same_bits(row, expected[state]), state
