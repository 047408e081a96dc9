"""fetch_zoo of sparsified twins and of ResNet-18 zoos, from servers that serve the published layouts."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import twin_files
import zoo_files
from loopback import Loopback
from zoo_files import Members
from zoobench import Zoo, acquire, fetch_zoo, load_zoo
from zoobench.generators.architectures import build_module
from zoobench.layout import WeightLayout
from zoobench.origins import Hosts
from zoobench.store import check_zoo, read_index

TWIN = "mnist_cnn_s_seed_sparse"
TWIN_TREE = "core-modelzoo/cnn-small_mnist_sparsified/cnn-small_mnist_ard_vd"
RECORD, CONCEPT = 7023336, 7023335
MAGNITUDE = "eurosat_cnn_s_seed_sparse_magnitude_50"
MAGNITUDE_TREE = "eurosat-modelzoo/cnn-small_eurosat_sparsified/cnn-small_eurosat_magn_50"
RESNET = "cifar10_resnet18"
RESNET_TREE = "core-modelzoo/resnet18_cifar10/tune_zoo_cifar10_resnet18_kaiming_uniform"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with Loopback() as server:
        monkeypatch.setattr(acquire, "HOSTS", Hosts(server.url("tree") + "/", server.url("api")))
        yield server


@pytest.fixture(scope="module")
def twins() -> Members:
    """Twins by variational dropout, whose results say the sparsity."""
    return twin_files.twins_of(
        zoo_files.experiment(n_models=5),
        lambda state, seed: twin_files.with_variances(state, seed=seed),
        sparsity=lambda epoch: 0.05 * epoch,
    )


def serve_tree(host: Loopback, tree: str, members: Members) -> None:
    for name, content in members.items():
        host.add(f"tree/{tree}/{name.partition('/')[2]}", content)


def fetch(name: str, **arguments: Any) -> Zoo:
    return fetch_zoo(name, n_retries=1, delay=0.01, **arguments)


def assert_evaluated(zoo: Zoo, twins: Members, epochs: set[int]) -> None:
    expected = {s: row for s, row in twin_files.evaluated_vectors(twins).items() if s[1] in epochs}
    zoo_files.assert_weights(zoo.to_contents(), expected)
    assert zoo.layout == WeightLayout.from_architecture("cnn_s")
    assert np.allclose(zoo.target, 0.05 * zoo.properties["epoch"])


# -- variational dropout -----------------------------------------------------------------------------------------------


def test_whole_twins_from_a_record(host: Loopback, twins: Members, tmp_path: Path, data_home: Path) -> None:
    """The zip comes once, and what stays are the networks that are evaluated, with their sparsity."""
    path = zoo_files.write_zip(tmp_path / "mnist_sparse.zip", twins)
    host.add_record(RECORD, {path.name: path}, concept=CONCEPT)
    assert_evaluated(fetch(TWIN, properties="sparsity"), twins, {0, 1, 5, 10})
    check_zoo(data_home / TWIN)
    before = len(host.log)
    assert_evaluated(fetch(TWIN, properties="sparsity", epochs=[5]), twins, {5})
    assert len(host.log) == before


def test_some_epochs_of_twins_from_a_record(host: Loopback, twins: Members, tmp_path: Path, data_home: Path) -> None:
    """Only the members of an epoch come; another epoch later adds itself."""
    path = zoo_files.write_zip(tmp_path / "mnist_sparse.zip", twins)
    host.add_record(RECORD, {path.name: path}, concept=CONCEPT)
    assert_evaluated(fetch(TWIN, properties="sparsity", epochs=5), twins, {5})
    assert read_index(data_home / TWIN)["provenance"]["epochs"] == [5]
    assert host.sent(f"api/records/{RECORD}/files/{path.name}/content") < path.stat().st_size / 2
    assert_evaluated(fetch(TWIN, properties="sparsity", epochs=[0, 5]), twins, {0, 5})


def test_whole_twins_from_a_tree(host: Loopback, twins: Members) -> None:
    """From the per-file host, where there is no record."""
    serve_tree(host, TWIN_TREE, twins)
    assert_evaluated(fetch(TWIN, properties="sparsity"), twins, {0, 1, 5, 10})


def test_some_epochs_of_twins_from_a_tree(host: Loopback, twins: Members) -> None:
    """The per-file host is asked for those checkpoints alone, and for nothing twice."""
    serve_tree(host, TWIN_TREE, twins)
    assert_evaluated(fetch(TWIN, properties="sparsity", epochs=[10]), twins, {10})
    assert_evaluated(fetch(TWIN, properties="sparsity", epochs=[1, 10]), twins, {1, 10})
    asked = [seen.path for seen in host.requests() if seen.path.endswith("/checkpoints")]
    assert len(asked) == len(set(asked)) == 10
    assert not any("checkpoint_000000/" in path for path in asked)


# -- pruning by magnitude ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["masks", "zeros"])
def test_twins_by_magnitude_have_their_sparsity(host: Loopback, form: str) -> None:
    """Whether checkpoints hold masks or plain zeros; where the results do not say the sparsity, zeros are counted."""

    def make(state: twin_files.TorchState, _: int) -> twin_files.TorchState:
        pruned = twin_files.with_masks(state)
        if form == "masks":
            return pruned
        return {
            name: pruned[f"{name}_orig"] * pruned[f"{name}_mask"] if name.endswith("weight") else tensor
            for name, tensor in state.items()
        }

    serve_tree(host, MAGNITUDE_TREE, twin_files.twins_of(zoo_files.experiment(n_models=2), make))
    zoo = fetch(MAGNITUDE, epochs=[0, 5], properties="sparsity")
    assert zoo.target == pytest.approx(np.full(4, 0.5), abs=0.01)
    assert zoo.target == pytest.approx((zoo.data[:, zoo.layout.mask(roles=["weight"])] == 0).mean(axis=1))


# -- ResNet-18 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet() -> torch.nn.Module:
    network = build_module("resnet18", channels=3, activation="relu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        network(torch.randn(2, 3, 32, 32, generator=generator))
    return network.eval()


def resnets(state: dict[str, torch.Tensor], epochs: tuple[int, ...]) -> Members:
    trial = "resnets/NN_tune_trainable_a0000_00000_0_seed=1_2022-08-01_12-00-00"
    lines = [{"training_iteration": epoch, "test_acc": 0.9} for epoch in range(61)]
    return {
        f"{trial}/params.json": json.dumps({"model::nlin": "relu", "seed": 1}).encode(),
        f"{trial}/result.json": "\n".join(map(json.dumps, lines)).encode(),
    } | {f"{trial}/checkpoint_{epoch:06d}/checkpoints": zoo_files.torch_bytes(state) for epoch in epochs}


def test_resnet18_with_its_buffers(host: Loopback, resnet: torch.nn.Module) -> None:
    """Cards count what is trained; rows hold the running statistics too, and networks come back whole."""
    serve_tree(host, RESNET_TREE, resnets(resnet.state_dict(), (0, 50)))
    zoo = fetch(RESNET, epochs="last")
    assert zoo.properties["epoch"].tolist() == [50]
    assert zoo.layout.n_parameters == zoo.card["n_weights"] < zoo.layout.n_weights
    assert zoo_files.same_bits(np.asarray(zoo.data[0]), zoo_files.vector(resnet.state_dict()))
    batch = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(zoo.module(0)(batch), resnet(batch))
    # The authors do not count the untrained networks; who asks for them gets them where they are.
    assert fetch(RESNET, epochs=0).properties["epoch"].tolist() == [0]
    assert fetch(RESNET, epochs=[0, 50]).properties["epoch"].tolist() == [0, 50]
    with pytest.raises(ValueError, match="has no epoch 51"):
        fetch(RESNET, epochs=51)


# Of this zoo, every source is one that the server stands for.
TINY = "tinyimagenet_resnet18"
TINY_TREE = "core-modelzoo/resnet18_tinyimagenet/tune_zoo_tinyimagenet_resnet18_kaiming_uniform"
TINY_RECORD, TINY_CONCEPT = 7023278, 7023277


@pytest.fixture(scope="module")
def tiny(resnet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The network's state with 200 outputs."""
    generator = torch.Generator().manual_seed(2)
    return resnet.state_dict() | {
        "fc.weight": torch.randn(200, 512, generator=generator),
        "fc.bias": torch.randn(200, generator=generator),
    }


def without_buffers(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[2] in ("weight", "bias")}


def test_epochs_that_nobody_counts_may_be_missing(host: Loopback, tiny: dict[str, torch.Tensor]) -> None:
    """Where no source has the untrained networks, the error names the source and what it has."""
    serve_tree(host, TINY_TREE, resnets(tiny, (59, 60)))
    with pytest.raises(OSError, match=r"could not be fetched.*has no checkpoint of epoch 0; it has epochs 59, 60"):
        fetch(TINY, epochs=0)


def test_epochs_with_other_tensors_are_not_added(host: Loopback, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """A source without buffers does not go into a zoo that has them: the reason is told, and the zoo stays."""
    serve_tree(host, TINY_TREE, resnets(tiny, (59,)))
    squeezed = zoo_files.write_zip(
        tmp_path / "resnet18_epoch60.zip", resnets(without_buffers(tiny), (60,)), zipfile.ZIP_STORED
    )
    host.add_record(TINY_RECORD, {squeezed.name: squeezed}, concept=TINY_CONCEPT)
    before = fetch(TINY, epochs=59)
    with pytest.raises(OSError, match="those that are here already have other tensors; delete"):
        fetch(TINY, epochs=60)
    assert zoo_files.same_bits(np.asarray(fetch(TINY, epochs=59).data), np.asarray(before.data))


def test_squeezed_zoos_without_buffers(host: Loopback, tiny: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Half-precision numbers without running statistics are a zoo of parameters, which match the card."""
    bare = {name: tensor.half() for name, tensor in without_buffers(tiny).items()}
    path = zoo_files.write_zip(tmp_path / "resnet18_epoch60.zip", resnets(bare, (60,)), zipfile.ZIP_STORED)
    host.add_record(TINY_RECORD, {path.name: path}, concept=TINY_CONCEPT)
    zoo = fetch(TINY, epochs=60)
    assert zoo.layout.n_weights == zoo.layout.n_parameters == zoo.card["n_weights"]
    assert zoo_files.same_bits(np.asarray(zoo.data[0]), zoo_files.vector(bare))
    assert load_zoo(path).layout == zoo.layout
