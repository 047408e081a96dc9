"""Reading checkpoints of sparsified twins and of ResNet-18, against ``torch.load`` of the same bytes in the same run.

Of twins, both come to the weights of the evaluated network, and five times the checkpoints per second are promised. Of
networks of 45 MB, both do little but compare checksums, so nothing is promised but that it is not slower by half.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from conftest import Beside
from zoobench.generators.architectures import build_module
from zoobench.readers.checkpoint import CheckpointReader

REAL = Path(__file__).parent.parent / "tests" / "data" / "tune_zoo_digits_uniform.zip"

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def saved(state: State) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def loaded(content: bytes) -> State:
    state: State = torch.load(io.BytesIO(content), weights_only=True)
    return state


def with_variances(state: State) -> State:
    changed: State = {}
    for name, tensor in state.items():
        changed[name] = tensor
        if name.endswith("weight"):
            changed[name.replace("weight", "log_sigma2")] = 4 * torch.randn_like(tensor) - 3
    return changed


def with_masks(state: State) -> State:
    changed: State = {}
    for name, tensor in state.items():
        if name.endswith("weight"):
            changed[f"{name}_orig"], changed[f"{name}_mask"] = tensor, (tensor.abs() > 0.5).float()
        else:
            changed[name] = tensor
    return changed


def variational(content: bytes) -> State:
    state = loaded(content)
    for name in [name for name in state if name.endswith(".weight")]:
        log_alpha = state[name.replace("weight", "log_sigma2")] - 2 * torch.log(torch.abs(state[name]) + 1e-15)
        state[name] = torch.where(log_alpha >= 3, 0, state[name])
    return state


def masked(content: bytes) -> State:
    state = loaded(content)
    for name in [name for name in state if name.endswith("_mask")]:
        state[name.removesuffix("_mask")] = state[name.replace("_mask", "_orig")] * state[name]
    return state


def small(change: Callable[[State], State]) -> list[bytes]:
    with zipfile.ZipFile(REAL) as archive:
        names = [name for name in archive.namelist() if name.endswith("/checkpoints")]
        return [saved(change(loaded(archive.read(name)))) for name in names]


def resnets() -> list[bytes]:
    network = build_module("resnet18", channels=3, activation="relu")
    contents = []
    for _ in range(4):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_()
        contents.append(saved(network.state_dict()))
    return contents


@pytest.mark.parametrize(
    ("make", "baseline", "promised"),
    [
        (lambda: small(with_variances), variational, 5),
        (lambda: small(with_masks), masked, 5),
        (resnets, loaded, 2 / 3),
    ],
    ids=["variational dropout", "masks", "resnet18"],
)
def test_checkpoints_per_second(
    make: Callable[[], list[bytes]],
    baseline: Callable[[bytes], State],
    promised: float,
    benchmark,
    beside: Beside,
    request: pytest.FixtureRequest,
) -> None:
    contents = make()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        for content in contents:
            baseline(content)
        times.append(time.perf_counter() - start)
    reader = CheckpointReader()
    benchmark.pedantic(lambda: [reader.read(content) for content in contents], rounds=5, warmup_rounds=1)
    ratio = min(times) / benchmark.stats.stats.min
    what = f"read {len(contents)} checkpoints, {request.node.callspec.id}"
    beside(what, benchmark.stats.stats.min, "torch.load", min(times))
    benchmark.extra_info.update(
        checkpoints_per_second=round(len(contents) / benchmark.stats.stats.min),
        torch_per_second=round(len(contents) / min(times)),
        ratio=round(ratio, 2),
    )
    print(f"\n{benchmark.extra_info}")
    assert ratio >= promised
