"""A zoo of one's own networks: from state_dicts, modules or arrays, with a table; and what is wrong is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from zoobench import WeightLayout, Zoo, load_zoo, save_zoo
from zoobench.split import split_of

RUNS = {
    "model": ["b", "b", "a"],
    "epoch": [1, 2, 2],
    "test_acc": [0.5, 0.6, None],
    "test_loss": [1.5, 1.2, 1.3],
    "optimizer": ["adam", None, "sgd"],
}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.fixture
def states() -> list[dict[str, torch.Tensor]]:
    with torch.random.fork_rng():
        return [network(seed).state_dict() for seed in range(3)]


def test_rows_are_the_states_in_the_given_order(states: list[dict[str, torch.Tensor]]) -> None:
    """Row i holds state i, buffers included, and its properties, of the types that every zoo has."""
    zoo = Zoo.from_states(states, RUNS, name="mine", target="epoch")
    for i, state in enumerate(states):
        assert all(torch.equal(zoo.state_dict(i)[name], value) for name, value in state.items())
    assert zoo.properties["model"].tolist() == ["b", "b", "a"]
    assert zoo.groups.tolist() == [0, 0, 1]
    assert zoo.split.tolist() == [split_of(name) for name in "bba"]
    assert zoo.target.tolist() == [1, 2, 2]
    assert [layer.kind for layer in zoo.layout.layers] == ["conv2d", "batch_norm", "linear"]
    assert np.isnan(zoo.properties["test_acc"].iloc[2])
    assert zoo.properties["optimizer"].isna().tolist() == [False, True, False]
    assert repr(zoo) == "Zoo(mine: 3 states of 2 models, 56 weights, epochs 1, 2, target epoch)"


def test_modules_and_generators_give_the_same_zoo(states: list[dict[str, torch.Tensor]]) -> None:
    """Modules stand for their state_dicts, and states may come one by one, in any type of number."""

    def later() -> Iterator[Any]:
        yield network(0).bfloat16()
        yield {f"module.{name}": value.double() for name, value in states[1].items()}
        yield {name: value.numpy() for name, value in states[2].items()}

    with torch.random.fork_rng():
        zoo = Zoo.from_states(later(), RUNS)
    expected = Zoo.from_states(states, RUNS).data
    np.testing.assert_array_equal(zoo.data[1:], expected[1:])
    np.testing.assert_allclose(zoo.data[0], expected[0], rtol=0.01)


def test_arrays_take_a_layout(states: list[dict[str, torch.Tensor]]) -> None:
    """Weight vectors are rows as they are; a layout says what they mean, and must be as long."""
    X = Zoo.from_states(states, RUNS).data
    assert len(Zoo.from_states(X, pd.DataFrame(RUNS)).layout.layers) == 1
    np.testing.assert_array_equal(Zoo.from_states(torch.from_numpy(X).double(), RUNS).data, X)
    layout = WeightLayout.from_state_dict(states[0])
    assert Zoo.from_states(X, RUNS, layout=layout).layout == layout
    with pytest.raises(ValueError, match="the layout has 56 weights, but X has 40 features"):
        Zoo.from_states(X[:, :40], RUNS, layout=layout)
    with pytest.raises(ValueError, match=r"shape \(2, 56\), but \(3, n_weights\) was expected"):
        Zoo.from_states(X[:2], RUNS)


def test_a_named_architecture_is_recognised() -> None:
    """Tensors of the shapes of CNN-s under other names get its names, so that the network can be built again."""
    layout = WeightLayout.from_architecture("cnn_s")
    state = {f"net.{i}": np.full(t.shape, i, np.float32) for i, t in enumerate(layout.tensors)}
    zoo = Zoo.from_states([state], {"model": ["a"], "epoch": [1], "activation": ["tanh"]}, target="epoch")
    assert zoo.layout == layout
    assert float(zoo.module(0).state_dict()["module_list.0.bias"][0]) == 1


def test_it_is_written_and_read_again(states: list[dict[str, torch.Tensor]], tmp_path: Path) -> None:
    """A folder holds the same states, in the format's order, with the card."""
    card = {"title": "Mine", "description": "Three.", "licence": "CC0-1.0", "citation": "none"}
    zoo = Zoo.from_states(states, RUNS | {"split_published": ["train", "train", "test"]}, name="mine", card=card)
    again = load_zoo(save_zoo(zoo, tmp_path / "mine"), verify=True)
    for i in range(3):
        model, epoch = again.properties[["model", "epoch"]].iloc[i]
        (j,) = np.flatnonzero((zoo.properties["model"] == model) & (zoo.properties["epoch"] == epoch))
        np.testing.assert_array_equal(again.data[i], zoo.data[j])
    assert again.DESCR == zoo.DESCR == "mine: Mine\n\nThree.\n\nLicence: CC0-1.0\nCitation: none"
    assert set(again.properties["split_published"]) == {"train", "test"}


def test_diverged_states_are_left_out_and_counted(states: list[dict[str, torch.Tensor]]) -> None:
    """As in every zoo: NaN weights are no rows, and a warning says how many there were."""
    states[1]["3.bias"][0] = float("nan")
    with pytest.warns(UserWarning, match="1 with NaN or infinite weights .the first is b at epoch 2."):
        assert len(Zoo.from_states(states, RUNS, target="epoch").data) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "the properties lack 'model': each row says which model it is"),
        ({"epoch": None}, "the properties lack 'epoch'"),
        ({"epoch": [1, 1.5, 2]}, "epochs must be whole numbers"),
        ({"epoch": [1, 2, 2**40]}, "epochs must be whole numbers of at most 2147483647, but one is 1099511627776"),
        ({"test_acc": [1 + 2j, 0, 1]}, "the property 'test_acc' holds complex numbers"),
        ({"epoch": [1, None, 2]}, "row 1 of the properties lacks a model or an epoch"),
        ({"epoch": [1, 1, 2]}, "there are two states of model 'b' at epoch 1"),
        ({"split": ["train"] * 3}, "call a split of your own 'split_published'"),
        ({"split_published": ["train", "dev", "test"]}, "split_published holds 'dev', not one of train, val, test"),
        ({"_hidden": [1, 2, 3]}, "no property can be called '_hidden'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_table_that_does_not_fit_is_refused(
    change: dict[str, Any], message: str, states: list[dict[str, torch.Tensor]]
) -> None:
    """The message says what is wrong with the properties, and what to do."""
    table = {name: values for name, values in (RUNS | change).items() if values is not None}
    with pytest.raises(ValueError, match=message):
        Zoo.from_states(states, table)


def test_doubled_columns_are_refused(states: list[dict[str, torch.Tensor]]) -> None:
    """Which of the two is meant cannot be known."""
    table = pd.DataFrame(RUNS)
    with pytest.raises(ValueError, match="the properties have two columns 'test_acc'"):
        Zoo.from_states(states, pd.concat([table, table[["test_acc"]]], axis=1))


def test_complex_weights_are_refused(states: list[dict[str, torch.Tensor]]) -> None:
    """Their imaginary parts would be lost."""
    with pytest.raises(ValueError, match="the array of states is complex, and weights are real numbers"):
        Zoo.from_states(np.ones((3, 5), complex), RUNS)
    for odd in (states[1]["3.bias"] * 1j, states[1]["3.bias"].numpy() * 1j):
        with pytest.raises(ValueError, match=r"'3.bias' of state 1 \(b at epoch 2\) is complex"):
            Zoo.from_states([states[0], {**states[1], "3.bias": odd}, states[2]], RUNS)


def test_a_part_of_a_network_may_be_called_module() -> None:
    """The prefix of wrapped networks is left out where every tensor has it, and nowhere else."""
    state = {"module.a": np.ones((2, 2)), "a": np.zeros((2, 2))}
    zoo = Zoo.from_states([state], {"model": ["m"], "epoch": [1]}, target="epoch")
    assert sorted(zoo.data[0].tolist()) == [0] * 4 + [1] * 4
    wrapped = {f"module.{name}": value for name, value in state.items()}
    again = Zoo.from_states([wrapped], {"model": ["m"], "epoch": [1]}, target="epoch")
    assert [tensor.name for tensor in again.layout.tensors] == [tensor.name for tensor in zoo.layout.tensors]


def test_states_that_do_not_fit_are_named(states: list[dict[str, torch.Tensor]]) -> None:
    """The first state that is none, or another network's, is named with its model and epoch."""
    fine = states[0]
    for state, error, message in (
        ({"weights": fine}, TypeError, r"state 1 \(b at epoch 2\) holds OrderedDict under 'weights', not a tensor"),
        (np.zeros(56), TypeError, r"state 1 \(b at epoch 2\) is ndarray, not a state_dict"),
        ({}, ValueError, r"state 1 \(b at epoch 2\) is empty"),
        ({"0.weight": fine["0.weight"]}, ValueError, "the first that differs is '0.bias'"),
        ({**fine, "3.bias": torch.zeros(4)}, ValueError, r"state 1 \(b at epoch 2\) does not fit: the tensors"),
    ):
        with pytest.raises(error, match=message):
            Zoo.from_states([fine, state, fine], RUNS)
    for count, message in ((2, "there are only 2 states, but 3 rows"), (4, "there are more than 3 states, but 3 rows")):
        with pytest.raises(ValueError, match=message):
            Zoo.from_states([fine] * count, RUNS)
    with pytest.raises(ValueError, match="the card lacks licence, citation"):
        Zoo.from_states([fine] * 3, RUNS, card={"title": "Mine", "description": "Three."})
    with pytest.raises(ValueError, match="no property 'test_accuracy'; did you mean 'test_acc'"):
        Zoo.from_states([fine] * 3, RUNS, target="test_accuracy")
