"""Networks with batch normalisation: running statistics and counts in the rows, bit for bit, and back into modules."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch import nn

import zoo_files
from zoo_files import Members
from zoobench import WeightLayout, Zoo, load_zoo, save_zoo
from zoobench.errors import ZooFormatError
from zoobench.estimators import LinearProbeRegressor, WeightStatistics
from zoobench.generators.architectures import build_module
from zoobench.readers import read_foreign
from zoobench.readers.checkpoint import CheckpointReader
from zoobench.store import check_zoo

FORMS: dict[str, Callable[[Path, Members], Path]] = {
    "zip": lambda path, members: zoo_files.write_zip(path / "zoo.zip", members),
    "tar": lambda path, members: zoo_files.write_tar(path / "zoo.tar", members),
    "folder": lambda path, members: zoo_files.write_folder(path / "folder", members),
}
MODELS = ("NN_tune_trainable_a0000_00000_0_seed=1", "NN_tune_trainable_a0000_00001_1_seed=2")
EPOCHS = (0, 2, 3)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class Residual(nn.Module):
    """A small network with what ResNet-18 has: convolutions without bias, a shortcut, batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.downsample = nn.Sequential(nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.fc = nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = torch.relu(self.bn1(self.conv1(images)))
        values = torch.relu(self.bn2(self.conv2(values)) + self.downsample(values))
        logits: torch.Tensor = self.fc(values.mean((2, 3)))
        return logits


def images(seed: int) -> torch.Tensor:
    return torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(seed))


def trained(model: int, epoch: int) -> Residual:
    """A network whose statistics have seen some batches, one more each epoch."""
    network = Residual()
    generator = torch.Generator().manual_seed(100 * model + epoch)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        for batch in range(epoch):
            network(images(batch))
    return network.eval()


def experiment(change: Callable[[dict[str, torch.Tensor]], Any] = dict) -> Members:
    """An experiment of small residual networks."""
    members: Members = {}
    for model, name in enumerate(MODELS):
        members[f"resnets/{name}/params.json"] = json.dumps({"model::type": "Resnet18", "seed": model + 1}).encode()
        lines = [{"training_iteration": epoch, "test_acc": (model + epoch) / 10} for epoch in EPOCHS]
        members[f"resnets/{name}/result.json"] = "\n".join(map(json.dumps, lines)).encode()
        for epoch in EPOCHS:
            content = zoo_files.torch_bytes(change(trained(model, epoch).state_dict()))
            members[f"resnets/{name}/checkpoint_{epoch:06d}/checkpoints"] = content
    return members


@pytest.fixture(scope="module")
def members() -> Members:
    return experiment()


@pytest.fixture(scope="module")
def zoo(members: Members, tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return load_zoo(zoo_files.write_zip(tmp_path_factory.mktemp("zoo") / "zoo.zip", members))


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_rows_are_whole_state_dicts(tmp_path: Path, members: Members, form: str) -> None:
    """Parameters, running statistics and counts stand in the rows in the order of the state_dict, as float32."""
    contents = read_foreign(FORMS[form](tmp_path, members))
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    state = trained(0, 0).state_dict()
    assert [tensor.name for tensor in contents.layout.tensors] == list(state)
    assert [tensor.shape for tensor in contents.layout.tensors] == [tuple(tensor.shape) for tensor in state.values()]


def test_layout_tells_buffers_from_parameters(zoo: Zoo) -> None:
    """Kinds and roles say which columns are what, so that buffers can be left out."""
    network = Residual()
    kinds = {layer.name: layer.kind for layer in zoo.layout.layers}
    assert kinds == {
        "conv1": "conv2d", "bn1": "batch_norm", "conv2": "conv2d", "bn2": "batch_norm",
        "downsample.0": "conv2d", "downsample.1": "batch_norm", "fc": "linear",
    }  # fmt: skip
    assert {tensor.name for tensor in zoo.layout.tensors if tensor.is_buffer} == set(dict(network.named_buffers()))
    chosen = zoo.layout.mask(roles=["weight", "bias"])
    without = zoo.layout.restricted(roles=["weight", "bias"])
    assert chosen.sum() == without.n_weights == zoo.layout.n_parameters == sum(p.numel() for p in network.parameters())
    expected = [zoo_files.vector(dict(trained(0, epoch).named_parameters())) for epoch in EPOCHS]
    rows = zoo.data[zoo.groups == 0][:, chosen]
    assert zoo_files.same_bits(rows, np.array(expected))


def test_counts_are_numbers_not_bytes(zoo: Zoo) -> None:
    """num_batches_tracked is an integer of eight bytes in the file, and one column of the row."""
    columns = zoo.layout.mask(roles=["num_batches_tracked"])
    assert columns.sum() == 3
    assert zoo.data[:, columns].tolist() == [[float(epoch)] * 3 for epoch in zoo.properties["epoch"]]


def test_other_types_become_float32(tmp_path: Path) -> None:
    """float16, bfloat16 and float64 checkpoints, integers among them left as they are."""
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        changed = experiment(lambda s, to=dtype: {n: t.to(to) if t.is_floating_point() else t for n, t in s.items()})
        contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", changed))
        zoo_files.assert_weights(contents, zoo_files.expected_vectors(changed))


def test_checkpoints_from_a_gpu(tmp_path: Path, members: Members) -> None:
    """Where a tensor lay when it was saved does not matter."""
    moved = {}
    for name, content in members.items():
        if name.endswith("/checkpoints"):
            with zipfile.ZipFile(io.BytesIO(content)) as file:
                pickled = file.read(next(entry for entry in file.namelist() if entry.endswith("data.pkl")))
            assert b"X\x03\0\0\0cpu" in pickled
            content = zoo_files.repacked(
                content, {"data.pkl": pickled.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")}
            )
        moved[name] = content
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", moved))
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))


_DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(_DTYPES), st.lists(st.integers(0, 4), max_size=4)), min_size=1, max_size=8),
    st.integers(0, 1000),
)
def test_any_types_and_shapes(tensors: list[tuple[str, list[int]]], seed: int) -> None:
    """What is read by what was learnt from the first checkpoint is what torch makes of it, tensor for tensor."""
    generator = torch.Generator().manual_seed(seed)

    def state() -> dict[str, torch.Tensor]:
        return {
            f"layer.{place}": (300 * torch.randn(shape, generator=generator)).to(getattr(torch, dtype))
            for place, (dtype, shape) in enumerate(tensors)
        }

    reader = CheckpointReader()
    for _ in range(3):
        made = state()
        expected = zoo_files.vector(made)
        if not len(expected):
            with pytest.raises(ZooFormatError, match="no weights"):
                reader.read(zoo_files.torch_bytes(made))
            continue
        found = np.frombuffer(b"".join(reader.read(zoo_files.torch_bytes(made)).pieces), np.float32)
        assert zoo_files.same_bits(found, expected)


def test_damaged_counts_fail_their_checksum(members: Members) -> None:
    """A wrong bit in what is converted is noticed like any other."""
    first, second, *_ = (content for name, content in members.items() if name.endswith("/checkpoints"))
    name, place = None, 0
    with zipfile.ZipFile(io.BytesIO(second)) as file:
        name = next(i for i in file.infolist() if "/data/" in i.filename and i.file_size == 8)
        place = name.header_offset + 30 + len(name.filename)
    place = second.index((2).to_bytes(8, "little"), place)
    damaged = second[:place] + b"\x03" + second[place + 1 :]
    reader = CheckpointReader()
    reader.read(first)
    with pytest.raises(ZooFormatError, match="checksum"):
        reader.read(damaged)


# -- what becomes of them ----------------------------------------------------------------------------------------------


def test_states_go_back_into_modules(zoo: Zoo) -> None:
    """Zoo.state_dict loads strictly, counts as integers, and the network computes what the original computes."""
    for row in range(len(zoo.data)):
        original = trained(int(zoo.groups[row]), int(zoo.properties["epoch"][row]))
        network = Residual()
        state = zoo.state_dict(row)
        for assign in (False, True):
            network.load_state_dict(state, assign=assign)
            found = network.eval().state_dict()
            for name, tensor in original.state_dict().items():
                assert found[name].dtype == tensor.dtype
                assert torch.equal(found[name], tensor)
            assert torch.equal(network(images(9)), original(images(9)))


def test_stored_and_read_again(zoo: Zoo, tmp_path: Path) -> None:
    """The zoo format keeps rows and layout, buffers included, and its check finds nothing wrong."""
    save_zoo(zoo, tmp_path / "stored")
    check_zoo(tmp_path / "stored")
    again = load_zoo(tmp_path / "stored")
    assert zoo_files.same_bits(np.asarray(again.data), np.asarray(zoo.data))
    assert again.layout == zoo.layout


def test_bounds_are_on_weights_not_on_buffers(zoo: Zoo, tmp_path: Path) -> None:
    """A count of batches or a large variance does not make a state one with large weights; a NaN in them does."""
    network = trained(0, 0)
    network.bn1.running_var.fill_(1e6)
    network.bn1.num_batches_tracked.fill_(20_000)
    largest = max(float(parameter.detach().abs().max()) for parameter in network.parameters())
    state = network.state_dict()
    diverged = state | {"bn2.running_var": torch.full((6,), torch.nan)}
    members = {
        f"zoo/{MODELS[0]}/checkpoint_{epoch}/checkpoints": zoo_files.torch_bytes(content)
        for epoch, content in enumerate((state, diverged))
    }
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    with pytest.warns(UserWarning, match="NaN or infinite"):
        found = load_zoo(path, properties="epoch", max_abs_weight=largest)
    assert found.properties["epoch"].tolist() == [0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_zoo(load_zoo(path, properties="epoch", drop_nan=False), tmp_path / "stored")
        check_zoo(tmp_path / "stored")
        stored = load_zoo(tmp_path / "stored", properties="epoch", max_abs_weight=largest)
        assert stored.properties["epoch"].tolist() == [0]
        with pytest.raises(ValueError, match="no state"):
            load_zoo(path, properties="epoch", max_abs_weight=np.nextafter(largest, 0))


def test_statistics_leave_buffers_out(zoo: Zoo) -> None:
    """Statistics of each layer are those of the rows without buffers."""
    chosen, without = (f(roles=["weight", "bias"]) for f in (zoo.layout.mask, zoo.layout.restricted))
    whole = WeightStatistics(zoo.layout).fit(zoo.data)
    rows = np.ascontiguousarray(zoo.data[:, chosen])
    restricted = WeightStatistics(without).fit(rows)
    assert whole.get_feature_names_out().tolist() == restricted.get_feature_names_out().tolist()
    assert not any(role in name for name in whole.get_feature_names_out() for role in BUFFERS)
    np.testing.assert_allclose(whole.transform(zoo.data), restricted.transform(rows), rtol=1e-6)


def test_probes_see_what_they_are_given(zoo: Zoo) -> None:
    """A probe of the rows without buffers has as many coefficients as there are parameters."""
    rows = zoo.data[:, zoo.layout.mask(roles=["weight", "bias"])]
    probe = LinearProbeRegressor().fit(rows, zoo.target, groups=zoo.groups)
    assert probe.n_features_in_ == zoo.layout.n_parameters


def test_checkpoints_without_buffers(tmp_path: Path) -> None:
    """A zoo whose checkpoints lack the statistics has rows of parameters alone."""
    bare = experiment(lambda s: {n: t for n, t in s.items() if n.rpartition(".")[2] not in BUFFERS})
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", bare))
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(bare))
    assert contents.layout.n_weights == contents.layout.n_parameters


def test_published_layers_have_no_index_dict_with_buffers(zoo: Zoo) -> None:
    """index_dict.json cannot say where buffers lie, and the error says so rather than write nonsense."""
    with pytest.raises(ValueError, match="conv1|bn1"):
        zoo.layout.to_index_dict()


# -- the published architecture ----------------------------------------------------------------------------------------


def test_resnet18_of_the_published_size(tmp_path: Path) -> None:
    """A checkpoint of 45 MB: recognised by its shapes, as large as the card says, and the same network again."""
    network = build_module("resnet18", channels=3, n_classes=100, activation="relu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        network(torch.randn(4, 3, 32, 32, generator=generator))
    state = {f"module.{name}": tensor for name, tensor in network.eval().state_dict().items()}
    members = {
        f"zoo/{model}/{name}": content
        for model in MODELS
        for name, content in {
            "params.json": json.dumps({"model::nlin": "relu", "model::dropout": 0}).encode(),
            "checkpoint_000060/checkpoints": zoo_files.torch_bytes(state),
        }.items()
    }
    zoo = load_zoo(zoo_files.write_folder(tmp_path, members), properties="epoch")
    assert zoo.layout == WeightLayout.from_architecture("resnet18", n_classes=100)
    assert zoo.layout.n_parameters == 11_220_132
    for row in zoo.data:
        assert zoo_files.same_bits(np.asarray(row), zoo_files.vector(state))
    with torch.no_grad():
        batch = torch.randn(2, 3, 32, 32, generator=generator)
        assert torch.equal(zoo.module(1)(batch), network(batch))
    columns = zoo.layout.mask(roles=["weight", "bias"])
    contents = zoo.to_contents()
    contents.weights = np.ascontiguousarray(zoo.data[:1, columns])
    contents.properties = contents.properties.iloc[:1]
    contents.layout, contents.peaks = zoo.layout.restricted(roles=["weight", "bias"]), None
    with pytest.raises(ValueError, match=r"lack 40 tensors, the first of them bn1.running_mean"):
        Zoo.from_contents(contents, properties="epoch").module(0)
