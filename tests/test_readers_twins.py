"""Sparsified twins: whatever their checkpoints hold, rows are the networks that torch would evaluate, bit for bit."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

import twin_files
import zoo_files
from twin_files import TorchState
from zoo_files import Members
from zoobench import load_zoo
from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers import read_foreign
from zoobench.readers.checkpoint import CheckpointReader
from zoobench.readers.sparsified import find_twin

FORMS: dict[str, Callable[[Path, Members], Path]] = {
    "zip": lambda path, members: zoo_files.write_zip(path / "zoo.zip", members),
    "stored zip": lambda path, members: zoo_files.write_zip(path / "zoo.zip", members, zipfile.ZIP_STORED),
    "tar": lambda path, members: zoo_files.write_tar(path / "zoo.tar", members),
    "tar.gz": lambda path, members: zoo_files.write_tar(path / "zoo.tar.gz", members, "w:gz"),
    "folder": lambda path, members: zoo_files.write_folder(path / "folder", members),
}
CNN_S = WeightLayout.from_architecture("cnn_s")


def real_state() -> TorchState:
    members = zoo_files.experiment(n_models=1, epochs=(10,))
    return zoo_files.state_dict(next(content for name, content in members.items() if name.endswith("/checkpoints")))


def read_twice(state: Any) -> tuple[np.ndarray, WeightLayout]:
    """The vector of a checkpoint, read with care and again by what was learnt: both have to be the same."""
    reader, content = CheckpointReader(), zoo_files.torch_bytes(state)
    vectors = []
    for _ in range(2):
        structure, pieces = reader.read(content)
        vectors.append(np.frombuffer(b"".join(pieces), np.float32))
    assert zoo_files.same_bits(*vectors)
    return vectors[0], structure.layout()


# -- variational dropout -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("biases", [True, False], ids=["with-bias-variances", "without"])
def test_twins_are_the_evaluated_networks(tmp_path: Path, form: str, biases: bool) -> None:
    """Dropped weights are zero, others as they were; vector and layout are those of the plain architecture."""
    members = zoo_files.experiment(n_models=3)
    twins = twin_files.twins_of(members, lambda state, seed: twin_files.with_variances(state, seed=seed, biases=biases))
    contents = read_foreign(FORMS[form](tmp_path, twins))
    expected = twin_files.evaluated_vectors(twins)
    zoo_files.assert_weights(contents, expected)
    assert contents.layout == CNN_S
    shares = [(row == 0).mean() for row in expected.values()]
    assert 0.05 < min(shares) < max(shares) < 0.95


@pytest.mark.parametrize("order", ["variances first", "reversed", "data parallel", "variances behind all"])
def test_variances_are_matched_by_module_and_role(order: str) -> None:
    """Where in the file a variance stands does not matter, nor does the prefix of data parallel training."""
    state = twin_files.with_variances(real_state())
    if order == "variances first":
        moved = dict(sorted(state.items(), key=lambda item: (item[0].split(".")[1], "log_sigma2" not in item[0])))
        moved = {name: moved[name] for module in range(12) for name in moved if name.split(".")[1] == str(module)}
    elif order == "reversed":
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
        moved = {
            name: state[name] for module in modules for name in reversed(state) if name.rpartition(".")[0] == module
        }
    elif order == "data parallel":
        moved = {f"module.{name}": tensor for name, tensor in state.items()}
    else:
        moved = dict(sorted(state.items(), key=lambda item: "log_sigma2" in item[0]))
    vector, layout = read_twice(moved)
    assert zoo_files.same_bits(vector, zoo_files.vector(twin_files.evaluated(state)))
    assert layout == CNN_S


def test_logarithms_of_standard_deviations_count_twice() -> None:
    """log_sigma without the 2 is half of log_sigma2."""
    state = twin_files.with_variances(real_state())
    halved = {name.replace("sigma2", "sigma"): t / 2 if "sigma2" in name else t for name, t in state.items()}
    vector, _ = read_twice(halved)
    assert zoo_files.same_bits(vector, zoo_files.vector(twin_files.evaluated(state)))


@st.composite
def twin_states(draw: st.DrawFn) -> TorchState:
    """Modules of any shapes, of which some tensors have variances, which lie anywhere in their modules."""
    state: TorchState = {}
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    for number in range(draw(st.integers(1, 4))):
        shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
        tensors = {"weight": shape} | ({"bias": shape[:1]} if draw(st.booleans()) else {})
        roles = [role for role in tensors if draw(st.booleans())]
        names = [*tensors, *(f"log_sigma2{'_bias' * (role == 'bias')}" for role in roles)]
        for name in draw(st.permutations(names)):
            sides = tensors.get(name, tensors.get("bias" if name.endswith("bias") else "weight"))
            state[f"{number}.{name}"] = 3 * torch.randn(sides, generator=generator)
    return state


@hypothesis.settings(max_examples=60)
@hypothesis.given(twin_states())
def test_any_modules(state: TorchState) -> None:
    """Whatever the shapes, and whichever tensors have variances: torch's network, weights before biases."""
    hypothesis.assume(sum(tensor.numel() for name, tensor in state.items() if "sigma" not in name))
    expected = twin_files.evaluated(state)
    if any("sigma" in name for name in state):
        modules = dict.fromkeys(name.partition(".")[0] for name in state)
        touched = {name.partition(".")[0] for name in state if "sigma" in name}
        expected = {
            name: expected[name]
            for module in modules
            for name in sorted(
                (name for name in expected if name.partition(".")[0] == module),
                key=lambda name: name.endswith("bias") and module in touched,
            )
        }
    vector, layout = read_twice(state)
    assert zoo_files.same_bits(vector, zoo_files.vector(expected))
    assert [tensor.name for tensor in layout.tensors] == list(expected)


@hypothesis.given(
    arrays.arrays(np.float32, (4, 6), elements=st.floats(width=32)),
    arrays.arrays(np.float32, (4, 6), elements=st.one_of(st.floats(-20, 20, width=32), st.floats(width=32))),
)
def test_arithmetic_is_that_of_torch(weights: np.ndarray, variances: np.ndarray) -> None:
    """For any numbers, NaN and infinities among them: what torch drops is dropped, and nothing else is touched."""
    state = {"fc.weight": torch.from_numpy(weights), "fc.log_sigma2": torch.from_numpy(variances)}
    twin = find_twin([(name, tuple(tensor.shape)) for name, tensor in state.items()])
    assert twin is not None
    found = twin.evaluated([memoryview(tensor.numpy().tobytes()) for tensor in state.values()])
    expected = twin_files.evaluated(state)["fc.weight"].numpy().reshape(-1)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(np.signbit(found), np.signbit(expected))


def test_weights_on_the_edge() -> None:
    """Even where the logarithm of alpha is 3 up to the last digit, it is nearly always rounded as torch rounds it."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(100_000, 1, generator=generator) * 10 ** (-3 * torch.rand(100_000, 1, generator=generator))
    edge = 3 + 2 * torch.log(torch.abs(weight) + 1e-15)
    towards = torch.where(torch.rand(edge.shape, generator=generator) < 0.5, -torch.inf, torch.inf)
    state = {"fc.weight": weight, "fc.log_sigma2": torch.nextafter(edge, towards)}
    found, _ = read_twice(state)
    expected = zoo_files.vector(twin_files.evaluated(state))
    assert 0.1 < (expected == 0).mean() < 0.9
    assert (found != expected).mean() < 1e-3


def test_nan_variances_drop_nothing() -> None:
    """A diverged variance compares with nothing, so torch keeps the weight; a NaN weight stays NaN."""
    state = twin_files.with_variances(real_state(), biases=False)
    state["module_list.0.log_sigma2"].fill_(torch.nan)
    state["module_list.3.weight"][0, 0, 0, 0] = torch.nan
    vector, _ = read_twice(state)
    assert zoo_files.same_bits(vector[:200], state["module_list.0.weight"].numpy().reshape(-1))
    assert np.isnan(vector[208])
    assert np.isnan(vector).sum() == 1


def test_nan_states_of_a_twin_are_left_out(tmp_path: Path) -> None:
    """As of any zoo: counted, and said once."""
    members = zoo_files.experiment(n_models=2, epochs=(0, 5))

    def make(state: TorchState, seed: int) -> TorchState:
        twin = twin_files.with_variances(state, seed=seed)
        if seed == first:
            twin["module_list.0.bias"][0] = torch.nan
        return twin

    first = next(number for number, name in enumerate(members) if name.endswith("/checkpoints"))
    path = zoo_files.write_zip(tmp_path / "zoo.zip", twin_files.twins_of(members, make))
    with pytest.warns(UserWarning, match="1 with NaN or infinite weights"):
        zoo = load_zoo(path)
    assert len(zoo.data) == 3


def test_half_precision_twins() -> None:
    """Numbers of half precision become float32 first, and then the arithmetic is done."""
    state = {name: tensor.half() for name, tensor in twin_files.with_variances(real_state()).items()}
    vector, _ = read_twice(state)
    expected = twin_files.evaluated({name: tensor.float() for name, tensor in state.items()})
    assert zoo_files.same_bits(vector, zoo_files.vector(expected))


def test_packed_twins_are_read_the_same(tmp_path: Path) -> None:
    """A checkpoint whose records are deflated takes the careful way each time."""
    twins = twin_files.twins_of(
        zoo_files.experiment(n_models=1), lambda s, seed: twin_files.with_variances(s, seed=seed)
    )
    packed = {
        name: zoo_files.repacked(content, {}, zipfile.ZIP_DEFLATED) if name.endswith("/checkpoints") else content
        for name, content in twins.items()
    }
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", packed))
    zoo_files.assert_weights(contents, twin_files.evaluated_vectors(twins))


def test_damaged_twins_fail_their_checksum() -> None:
    """A wrong bit in weights or variances is noticed, whichever way the checkpoint is read."""
    state = twin_files.with_variances(real_state())
    content = zoo_files.torch_bytes(state)
    for name in ("module_list.0.weight", "module_list.9.log_sigma2"):
        place = content.index(state[name].numpy().tobytes())
        damaged = content[: place + 1] + bytes([content[place + 1] ^ 1]) + content[place + 2 :]
        reader = CheckpointReader()
        for _ in range(2):
            with pytest.raises(ZooFormatError, match="checksum"):
                reader.read(damaged)
            reader.read(content)


def test_networks_before_and_after_are_one_zoo(tmp_path: Path) -> None:
    """Where epoch 0 is the plain network and later ones hold variances, all are rows of one matrix."""
    members = zoo_files.experiment(n_models=2, epochs=(0, 5))
    twins = {
        name: zoo_files.torch_bytes(twin_files.with_variances(zoo_files.state_dict(content)))
        if name.endswith("checkpoint_000005/checkpoints")
        else content
        for name, content in members.items()
    }
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", twins))
    zoo_files.assert_weights(contents, twin_files.evaluated_vectors(twins))
    assert contents.layout == CNN_S


def test_module_of_a_twin_is_the_evaluated_network(tmp_path: Path) -> None:
    """Zoo.module gives the network with its zeros in place."""
    twins = twin_files.twins_of(
        zoo_files.experiment(n_models=1, epochs=(10,)), lambda s, seed: twin_files.with_variances(s, seed=seed)
    )
    (expected,) = twin_files.evaluated_vectors(twins).values()
    module = load_zoo(zoo_files.write_zip(tmp_path / "zoo.zip", twins)).module(0)
    assert zoo_files.same_bits(zoo_files.vector(module.state_dict()), expected)


# -- pruning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_masks_are_applied(tmp_path: Path, form: str) -> None:
    """weight_orig times weight_mask is the weight, in the place where the plain network has it."""
    members = zoo_files.experiment(n_models=2)
    twins = twin_files.twins_of(members, lambda state, _: twin_files.with_masks(state))
    expected = {}
    for name, content in members.items():
        if name.endswith("/checkpoints"):
            pruned = twin_files.with_masks(zoo_files.state_dict(content))
            state = {
                key: pruned[f"{key}_orig"] * pruned[f"{key}_mask"] if key.endswith("weight") else pruned[key]
                for key in zoo_files.state_dict(content)
            }
            trial, checkpoint = name.split("/")[-3:-1]
            expected[trial, int(checkpoint.removeprefix("checkpoint_"))] = zoo_files.vector(state)
    contents = read_foreign(FORMS[form](tmp_path, twins))
    zoo_files.assert_weights(contents, expected)
    assert contents.layout == CNN_S


@pytest.mark.parametrize("roles", [("weight",), ("bias",), ("weight", "bias"), ("bias", "weight")])
def test_checkpoints_of_torchs_own_pruning(roles: tuple[str, ...]) -> None:
    """Whatever torch.nn.utils.prune has pruned, in whatever order: the vector is that of the network made permanent."""
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Flatten(), torch.nn.Linear(12, 5))
    plain = WeightLayout.from_state_dict(module.state_dict())
    for layer in (module[0], module[2]):
        for role in roles:
            prune.l1_unstructured(layer, role, 0.4)
    vector, layout = read_twice(module.state_dict())
    for layer in (module[0], module[2]):
        for role in roles:
            prune.remove(layer, role)
    expected = {tensor.name: module.state_dict()[tensor.name] for tensor in plain.tensors}
    assert zoo_files.same_bits(vector, zoo_files.vector(expected))
    assert layout == plain


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16])
def test_masks_of_any_type(dtype: torch.dtype) -> None:
    """A mask is numbers of any type."""
    pruned = twin_files.with_masks(real_state())
    expected, _ = read_twice(pruned)
    vector, _ = read_twice({n: t.to(dtype) if n.endswith("_mask") else t for n, t in pruned.items()})
    assert zoo_files.same_bits(vector, expected)


def test_what_only_looks_like_a_twin_is_left_as_it_is() -> None:
    """A tensor called _orig, _mask or log_sigma2 without its partner is a tensor like others, and keeps its place."""
    state = {
        "a.bias": torch.ones(3),
        "a.weight_orig": torch.ones(3, 2),
        "b.attn_mask": torch.zeros(4),
        "c.log_sigma2": torch.zeros(3),
    }
    vector, layout = read_twice(state)
    assert [tensor.name for tensor in layout.tensors] == list(state)
    assert zoo_files.same_bits(vector, zoo_files.vector(state))


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"fc.weight": (3, 2), "fc.bias": (3,), "fc.log_sigma2": (2, 3)},
            r"variances fc.log_sigma2 of shape \(2, 3\), but its module has weight of shape \(3, 2\) and bias",
        ),
        (
            {"fc.weight": (3, 2), "fc.log_sigma2": (3, 2), "fc.log_sigma2_again": (3, 2)},
            "two tensors of variances for fc.weight",
        ),
        (
            {"fc.weight_orig": (3, 2), "fc.weight_mask": (3, 1)},
            r"mask fc.weight_mask of shape \(3, 1\) for a tensor of shape \(3, 2\)",
        ),
        (
            {"fc.weight": (3, 2), "fc.weight_orig": (3, 2), "fc.weight_mask": (3, 2)},
            "two tensors for fc.weight",
        ),
    ],
    ids=["shape", "twice", "mask", "weight-twice"],
)
def test_contradictions_are_explained(tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str) -> None:
    """Variances and masks that fit nothing make a checkpoint unreadable, and the reason names them."""
    content = zoo_files.torch_bytes({name: torch.ones(shape) for name, shape in tensors.items()})
    with pytest.raises(ZooFormatError, match=message):
        CheckpointReader().read(content)
    members = zoo_files.experiment(n_models=1, epochs=(0, 5))
    name = next(name for name in members if name.endswith("checkpoint_000005/checkpoints"))
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", members | {name: content}))
    assert len(contents.weights) == sum(contents.left_out.values()) == 1


# -- the property sparsity ---------------------------------------------------------------------------------------------


def read_twins(tmp_path: Path, **options: Any) -> ZooContents:
    members = zoo_files.experiment(n_models=2)
    twins = twin_files.twins_of(members, lambda s, seed: twin_files.with_variances(s, seed=seed), **options)
    return read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", twins))


def test_sparsity_of_the_results_counts(tmp_path: Path) -> None:
    """What the authors measured is not computed anew."""
    contents = read_twins(tmp_path, sparsity=lambda epoch: epoch / 100)
    assert (contents.properties["sparsity"] == contents.properties["epoch"] / 100).all()


def test_sparsity_is_computed_where_it_is_missing(tmp_path: Path) -> None:
    """It is the share of zeros among weights; only states that have none get it, and the columns keep their order."""
    contents = read_twins(tmp_path)
    shares = (contents.weights[:, contents.layout.mask(roles=["weight"])] == 0).mean(axis=1)
    assert contents.properties["sparsity"].tolist() == pytest.approx(shares.tolist())
    known = read_twins(tmp_path, sparsity=lambda epoch: 0.5 if epoch < 10 else -999)
    last = known.properties["epoch"] == 10
    assert known.properties["sparsity"][last].tolist() == pytest.approx(shares[last].tolist())
    assert (known.properties["sparsity"][~last] == 0.5).all()
    assert list(known.properties) == list(contents.properties)
    columns = list(contents.properties)
    assert columns[columns.index("sparsity") - 1 : columns.index("sparsity") + 2] == ["ggap", "sparsity", "activation"]


def test_plain_zoos_have_no_sparsity(tmp_path: Path) -> None:
    """A zoo that nobody sparsified gets no such property."""
    contents = read_foreign(zoo_files.write_zip(tmp_path / "zoo.zip", zoo_files.experiment(n_models=1)))
    assert "sparsity" not in contents.properties
