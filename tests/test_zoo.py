"""A zoo in memory: what users select, look at and pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoo_samples import sample_contents
from zoobench import Zoo, ZooFormatError, load_zoo
from zoobench.contents import ZooContents
from zoobench.layout import WeightLayout
from zoobench.split import split_of
from zoobench.store import write_zoo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_zoo(tmp_path / "zoo", sample_contents())


@pytest.fixture
def zoo(folder: Path) -> Zoo:
    return load_zoo(folder)


def test_is_a_bunch_in_the_style_of_sklearn_datasets(zoo: Zoo) -> None:
    """Keys and attributes are the same, and the documented ones are all there."""
    for key in ("data", "target", "properties", "frame", "target_names", "feature_names", "layout", "groups", "split",
                "card", "DESCR", "filenames"):  # fmt: skip
        assert zoo[key] is getattr(zoo, key)
        assert key in dir(zoo)
    assert zoo.frame is None
    assert zoo.target_names == ["test_acc"]
    assert zoo.target.shape == (60,)
    assert list(zoo.properties.columns) == ["model", "epoch", "split", "test_acc", "ggap", "activation", "seed"]
    assert repr(zoo) == "Zoo(sample: 60 states of 20 models, 2464 weights, epochs 0, 5, 10, target test_acc)"
    with pytest.raises(AttributeError):
        _ = zoo.nonsense
    with pytest.raises(KeyError):
        _ = zoo["nonsense"]


def test_feature_names_are_made_only_when_asked_for(zoo: Zoo) -> None:
    """Millions of names would cost seconds; they come on demand and are kept."""
    assert "feature_names" not in zoo.keys()  # noqa: SIM118 - `in` would ask for them
    assert zoo.feature_names[0] == "module_list.0.weight[0,0,0,0]"
    assert zoo.feature_names is zoo.feature_names


def test_split_is_by_model_and_from_its_name_alone(zoo: Zoo) -> None:
    """All states of a model are on one side, and the side is a fixed function of the model's name."""
    for model, rows in zoo.properties.groupby("model", observed=True):
        assert set(rows["split"]) == {split_of(str(model))}
    assert [split_of(f"seed={i}") for i in (1, 2, 3, 6)] == ["train", "test", "train", "train"]
    parts = [split_of(f"model {i}") for i in range(20_000)]
    for part, share in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
        assert abs(parts.count(part) / len(parts) - share) < 0.01


def test_selection_composes(zoo: Zoo) -> None:
    """Selecting twice is selecting by both, and groups keep naming the same models."""
    once = zoo.select(subset="train", epochs=[5, 10])
    twice = zoo.select(subset="train").select(epochs=[5, 10])
    assert np.array_equal(once.data, twice.data)
    pd.testing.assert_frame_equal(once.properties, twice.properties)
    names = np.asarray(zoo.properties["model"].cat.categories)
    assert list(names[once.groups]) == list(once.properties["model"])
    assert set(once.split) == {"train"}


def test_selected_rows_are_the_rows_of_the_whole(zoo: Zoo) -> None:
    """Data, target, properties, groups and split of a selection belong together."""
    chosen = zoo.select(epochs=5, subset="test", properties=["ggap", "epoch"])
    mask = ((zoo.properties["epoch"] == 5) & (zoo.properties["split"] == "test")).to_numpy()
    assert np.array_equal(chosen.data, zoo.data[mask])
    assert np.array_equal(chosen.groups, zoo.groups[mask])
    assert np.array_equal(chosen.target, zoo.properties.loc[mask, ["ggap", "epoch"]].to_numpy())


def test_last_epoch_is_each_models_own() -> None:
    """A model whose run was cut short gives its last state, too."""
    contents = sample_contents(4, (1, 2))
    keep = np.ones(8, dtype=bool)
    keep[5] = False
    contents.weights, contents.properties = contents.weights[keep], contents.properties[keep].reset_index(drop=True)
    zoo = Zoo.from_contents(contents, epochs="last")
    assert dict(zip(zoo.properties["model"], zoo.properties["epoch"], strict=True)) == {
        "seed=1": 2, "seed=2": 1, "seed=3": 2, "seed=4": 2,
    }  # fmt: skip


def test_targets(zoo: Zoo) -> None:
    """One property is 1-D, several are 2-D, names are strings, "all" leaves the seed out."""
    assert zoo.select(properties="activation").target.dtype.kind == "U"
    assert zoo.select(properties=["test_acc"]).target.shape == (60, 1)
    everything = zoo.select(properties="all")
    assert everything.target_names == ["test_acc", "ggap", "epoch"]
    assert everything.target.dtype == np.float64
    framed = zoo.select(properties="all", as_frame=True)
    assert list(framed.target.columns) == ["test_acc", "ggap", "epoch", "activation"]
    assert list(framed.frame.columns) == [*zoo.feature_names, *framed.target.columns]
    assert framed.select(epochs=5).frame.shape == (20, 2468)


def test_weight_bound_and_results(folder: Path) -> None:
    """The bound leaves states out silently; states that were never measured are left out loudly."""
    peaks = np.abs(sample_contents().weights).max(axis=1)
    bound = float(np.median(peaks))
    assert len(load_zoo(folder, max_abs_weight=bound).data) == (peaks <= bound).sum()
    contents = sample_contents()
    contents.properties.loc[[0, 4], ["test_acc", "ggap"]] = np.nan
    with pytest.warns(UserWarning, match="2 without a result"):
        assert len(Zoo.from_contents(contents).data) == 58
    with pytest.warns(UserWarning, match="kept, as asked: 2 without a result .the first is seed=1 at epoch 0"):
        assert len(Zoo.from_contents(contents, drop_nan=False).data) == 60


@pytest.mark.parametrize(
    "selection", [{}, {"epochs": 5}, {"subset": "val", "properties": ["ggap", "epoch"]}, {"as_frame": True}]
)
def test_pickle_holds_the_path_not_the_weights(folder: Path, selection: dict) -> None:
    """A stored zoo travels as path and selection, and comes back the same."""
    zoo = load_zoo(folder, **selection)
    pickled = pickle.dumps(zoo)
    assert len(pickled) < 5_000
    back = pickle.loads(pickled)
    assert np.array_equal(back.data, zoo.data)
    assert np.array_equal(back.target, zoo.target)
    pd.testing.assert_frame_equal(back.properties, zoo.properties)
    assert back.select(epochs=5).data.shape == zoo.select(epochs=5).data.shape


def test_pickle_of_a_replaced_zoo_is_refused(folder: Path) -> None:
    """A pickle that would come back with other numbers is an error, not a surprise."""
    pickled = pickle.dumps(load_zoo(folder))
    write_zoo(folder, sample_contents(seed=1))
    with pytest.raises(ZooFormatError, match="replaced"):
        pickle.loads(pickled)


def test_pickle_of_a_zoo_without_a_file_holds_everything() -> None:
    """A zoo that was never stored is pickled whole."""
    zoo = Zoo.from_contents(sample_contents(3), epochs=5)
    back = pickle.loads(pickle.dumps(zoo))
    assert np.array_equal(back.data, zoo.data)
    assert back.target_names == zoo.target_names


def test_module_has_the_states_weights() -> None:
    """state_dict and module give the network that the row stands for, with its own activation."""
    import torch

    zoo = Zoo.from_contents(sample_contents(3))
    module = zoo.module(1)
    assert not module.training
    vector = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    assert np.array_equal(vector, zoo.data[1])
    images = torch.randn(2, 1, 28, 28)
    assert module(images).shape == (2, 10)
    assert not torch.allclose(module(images), zoo.module(0)(images))
    before = zoo.data[1].copy()
    with torch.no_grad():
        next(module.parameters()).zero_()
    assert np.array_equal(zoo.data[1], before)


def test_module_of_an_unknown_network_says_what_to_do() -> None:
    """Where the architecture or the activation is not known, the remedy is the state_dict."""
    contents = sample_contents(3)
    contents.properties = contents.properties.drop(columns="activation")
    with pytest.raises(ValueError, match=r"does not say which activation.*state_dict\(i\)"):
        Zoo.from_contents(contents).module(0)
    table = pd.DataFrame({"model": pd.Categorical(["a"]), "epoch": [1], "test_acc": [0.5]})
    layout = WeightLayout([("fc.weight", (3, 1), "linear")])
    zoo = Zoo.from_contents(ZooContents("mine", np.ones((1, 3), dtype=np.float32), table, layout))
    with pytest.raises(ValueError, match="no named architecture"):
        zoo.module(0)
    assert list(zoo.state_dict(0)) == ["fc.weight"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 3}, r"no epoch 3; it has epochs 0, 5, 10"),
        ({"epochs": []}, r"not \[\]"),
        ({"epochs": "first"}, "'last' or None"),
        ({"epochs": True}, "must be an int"),
        ({"epochs": [1.5]}, "must be an int"),
        ({"subset": "training"}, "'train', 'val', 'test' or 'all', not 'training'"),
        ({"properties": "tst_acc"}, r"no property 'tst_acc'; did you mean 'test_acc'\?"),
        ({"properties": []}, "at least one property"),
        ({"properties": ["ggap", "ggap"]}, "none twice"),
        ({"properties": 3}, "not 3"),
        ({"max_abs_weight": "5"}, "not '5'"),
        ({"properties": "model"}, "no property 'model'"),
        ({"max_abs_weight": 0}, "positive number"),
        ({"max_abs_weight": 1e-9}, "has no state that the arguments ask for"),
    ],
)
def test_wrong_arguments_are_named(zoo: Zoo, folder: Path, arguments: dict, message: str) -> None:
    """select and load_zoo refuse the same things in the same words."""
    with pytest.raises(ValueError, match=message):
        zoo.select(**arguments)
    with pytest.raises(ValueError, match=message):
        load_zoo(folder, **arguments)


def test_an_empty_part_is_an_error_where_it_is_asked_for() -> None:
    """A zoo too small to have test models says so."""
    zoo = Zoo.from_contents(sample_contents(1))
    with pytest.raises(ValueError, match=r"sample.*3 states of 1 models.*no usable state in its 'test' part"):
        zoo.select(subset="test")


def test_as_frame_of_a_huge_network_is_refused() -> None:
    """A DataFrame of more than 100,000 columns is not made."""
    layout = WeightLayout([("fc.weight", (100_001,), "linear")])
    table = pd.DataFrame({"model": pd.Categorical(["a"]), "epoch": [1], "test_acc": [0.5]})
    contents = ZooContents("wide", np.ones((1, 100_001), dtype=np.float32), table, layout)
    with pytest.raises(ValueError, match="100001 columns"):
        Zoo.from_contents(contents, as_frame=True)
