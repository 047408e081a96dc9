"""Raw experiments: every form of archive, every quirk of the published zoos, bit for bit what torch reads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo_files
from zoo_files import Members
from zoobench.errors import UnsafeFileError, ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers import detect, read_foreign

FORMS: dict[str, Callable[[Path, Members], Path]] = {
    "zip": lambda path, members: zoo_files.write_zip(path / "zoo.zip", members),
    "stored zip": lambda path, members: zoo_files.write_zip(path / "zoo.zip", members, zipfile.ZIP_STORED),
    "tar": lambda path, members: zoo_files.write_tar(path / "zoo.tar", members),
    "gnu tar": lambda path, members: zoo_files.write_tar(path / "zoo.tar", members, format=1),
    "tar.gz": lambda path, members: zoo_files.write_tar(path / "zoo.tar.gz", members, "w:gz"),
    "tar.xz": lambda path, members: zoo_files.write_tar(path / "zoo.tar.xz", members, "w:xz", preset=0),
    "tar.bz2": lambda path, members: zoo_files.write_tar(path / "zoo.tar.bz2", members, "w:bz2"),
    "folder": lambda path, members: zoo_files.write_folder(path, members),
}


def read(tmp_path: Path, members: Members, form: str = "zip", **options: Any) -> Any:
    return read_foreign(FORMS[form](tmp_path, members), **options)


def without(members: Members, *parts: str) -> Members:
    """The members that do not have all of the parts in their names."""
    return {name: content for name, content in members.items() if not all(part in name for part in parts)}


@pytest.mark.parametrize("path", [zoo_files.SEED_ZIP, zoo_files.HYPER_ZIP], ids=["seed", "hyper"])
def test_real_files_are_read_bit_for_bit(path: Path) -> None:
    """The real zips give what torch.load gives of each member: both key layouts, nothing left out."""
    contents = read_foreign(path)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(zoo_files.real_members(path)))
    assert contents.layout == WeightLayout.from_architecture("cnn_s")
    assert contents.name == path.stem
    assert contents.filenames == [str(path)]
    assert contents.left_out == {}
    assert detect(path) == "experiment"


@pytest.mark.parametrize("path", [zoo_files.SEED_ZIP, zoo_files.HYPER_ZIP], ids=["seed", "hyper"])
def test_properties_are_those_of_the_notes(path: Path) -> None:
    """Each row has the measurements of the result line of its epoch and the params of its trial."""
    members = zoo_files.real_members(path)
    contents = read_foreign(path)
    table = contents.properties
    for row in table.to_dict("records"):
        trial = f"{path.stem}/{row['model']}"
        params = json.loads(members[f"{trial}/params.json"])
        lines = [json.loads(line) for line in members[f"{trial}/result.json"].splitlines()]
        result = next(line for line in lines if line["training_iteration"] == row["epoch"])
        for key in ("test_acc", "train_acc", "val_acc", "test_loss", "train_loss", "val_loss"):
            assert row[key] == result[key]
        assert row["ggap"] == result["train_acc"] - result["test_acc"]
        assert row["activation"] == params["model::nlin"]
        assert row["init"] == params["model::init_type"]
        assert row["optimizer"] == params["optim::optimizer"]
        assert row["dropout"] == params["model::dropout"]
        assert row["lr"] == params["optim::lr"]
        assert row["weight_decay"] == params["optim::wd"]
        assert row["seed"] == params["seed"]
    kinds = {name: str(dtype) for name, dtype in table.dtypes.items()}
    assert kinds["epoch"] == "int32"
    assert kinds["seed"] == "int64"
    assert kinds["dropout"] == kinds["lr"] == kinds["ggap"] == "float64"
    assert kinds["model"] == kinds["activation"] == kinds["init"] == kinds["optimizer"] == "category"
    assert "sparsity" not in table


def test_rows_are_sorted_by_epoch_and_then_model() -> None:
    """Rows come by epoch, models by the name of their trial directory, whatever the order in the file."""
    contents = read_foreign(zoo_files.HYPER_ZIP)
    states = zoo_files.states_of(contents)
    assert states == sorted(states, key=lambda state: (state[1], state[0]))
    assert list(contents.properties["model"].cat.categories) == sorted({model for model, _ in states})


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(tmp_path: Path, form: str) -> None:
    """Zip, tar, compressed tar and folder of one experiment give the same rows; the form is told by content."""
    members = zoo_files.experiment(zoo_files.HYPER_ZIP, n_models=3)
    contents = read(tmp_path, members, form)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    reference = read(tmp_path, members, "zip")
    assert contents.properties.equals(reference.properties)
    assert contents.name == reference.name == zoo_files.HYPER_ZIP.stem
    path = FORMS[form](tmp_path, members)
    if path.is_file():
        other = path.rename(tmp_path / "download")
        assert read_foreign(other).properties.equals(reference.properties)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
@pytest.mark.parametrize("prefix", ["", "down/", "down/deeper/"])
def test_experiments_may_lie_anywhere(tmp_path: Path, form: str, prefix: str) -> None:
    """Trials may lie at the top of an archive or folders down, beside files that are of no interest."""
    members = zoo_files.experiment(n_models=2)
    root = zoo_files.SEED_ZIP.stem
    moved = zoo_files.renamed(members, lambda name: prefix + (name if prefix else name.removeprefix(f"{root}/")))
    moved |= {"index_dict.json": b"{}", "__MACOSX/x/._checkpoints": b"apple", f"{prefix}notes/dataset.pt": b"images"}
    contents = read(tmp_path, moved, form)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))


def test_a_single_trial_is_an_experiment(tmp_path: Path) -> None:
    """A folder that is itself a trial gives one model."""
    members = zoo_files.experiment(n_models=1)
    (trial,) = zoo_files.trial_names(members)
    zoo_files.write_folder(tmp_path, members)
    contents = read_foreign(tmp_path / zoo_files.SEED_ZIP.stem / trial)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_short_checkpoint_names(tmp_path: Path, form: str) -> None:
    """Checkpoint folders may be called checkpoint_5 as well as checkpoint_000005."""
    members = zoo_files.experiment(n_models=2)
    short = zoo_files.renamed(members, _shortened)
    contents = read(tmp_path, short, form)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))


def _shortened(name: str) -> str:
    parts = name.split("/")
    return "/".join(f"checkpoint_{int(part[11:])}" if part.startswith("checkpoint_") else part for part in parts)


def test_a_trial_name_that_was_cut_does_not_matter(tmp_path: Path) -> None:
    """Hyper-parameters come from params.json: a name that says something else changes nothing."""
    members = zoo_files.experiment(zoo_files.HYPER_ZIP, n_models=1)
    (trial,) = zoo_files.trial_names(members)
    cut = trial[:60]
    contents = read(tmp_path, zoo_files.renamed(members, lambda name: name.replace(trial, cut)))
    original = read(tmp_path, members)
    assert zoo_files.states_of(contents) == [(cut, epoch) for _, epoch in zoo_files.states_of(original)]
    assert contents.properties.drop(columns="model").equals(original.properties.drop(columns="model"))


# -- what is asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_epochs_and_models_can_be_chosen(tmp_path: Path, form: str) -> None:
    """Asked for are epochs, each model's last, and models by name; the rows are the same as without the choice."""
    members = zoo_files.experiment(n_models=3)
    first, second, third = zoo_files.trial_names(members)
    members = without(members, second, "checkpoint_000010")
    everything = zoo_files.expected_vectors(members)
    path = FORMS[form](tmp_path, members)
    some = read_foreign(path, epochs=[5, np.int64(0)])
    zoo_files.assert_weights(some, {state: row for state, row in everything.items() if state[1] in (0, 5)})
    last = read_foreign(path, epochs="last")
    assert set(zoo_files.states_of(last)) == {(first, 10), (second, 5), (third, 10)}
    zoo_files.assert_weights(last, everything, all_of_them=False)
    assert last.left_out == {}
    one = read_foreign(path, epochs=(10,), keep_model=lambda name: name == third)
    zoo_files.assert_weights(one, {(third, 10): everything[third, 10]})
    assert list(one.properties["model"].cat.categories) == [third]


@pytest.mark.parametrize("form", FORMS)
def test_unknown_choices_are_explained(tmp_path: Path, form: str) -> None:
    """An epoch that no model has, and a test that keeps no model, are errors that say what there is."""
    path = FORMS[form](tmp_path, zoo_files.experiment(n_models=2))
    with pytest.raises(ValueError, match=r"no epoch 7; the available epochs are 0, 1, 5, 10"):
        read_foreign(path, epochs=[5, 7])
    with pytest.raises(ValueError, match=r"none of its 2 models is kept"):
        read_foreign(path, keep_model=lambda name: False)
    with pytest.raises(ValueError, match="epochs must be"):
        read_foreign(path, epochs="first")


@pytest.mark.parametrize("form", ["zip", "tar", "folder"])
def test_what_is_not_asked_for_is_not_read(tmp_path: Path, form: str) -> None:
    """Damage, even a hostile pickle, in checkpoints that are not asked for is never met."""
    members = zoo_files.experiment(n_models=2)
    first, second = zoo_files.trial_names(members)
    evil = b"\x80\x02cos\nsystem\n."
    for name in members:
        if name.endswith("/checkpoints") and ("checkpoint_000005" not in name or second in name):
            members[name] = evil
    path = FORMS[form](tmp_path, members)
    assert zoo_files.states_of(read_foreign(path, epochs=[5], keep_model=lambda name: name == first)) == [(first, 5)]
    with pytest.raises(UnsafeFileError):
        read_foreign(path, epochs=[5])


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_damage_before_the_last_state_does_not_matter(tmp_path: Path, form: str) -> None:
    """Whether or not a form lets earlier checkpoints be passed over, they are not counted as left out."""
    members = zoo_files.experiment(n_models=2)
    for name in members:
        if name.endswith(("checkpoint_000000/checkpoints", "checkpoint_000005/checkpoints")):
            members[name] = b"PK broken"
    contents = read(tmp_path, members, form, epochs="last")
    assert [epoch for _, epoch in zoo_files.states_of(contents)] == [10, 10]
    assert contents.left_out == {}


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_the_last_state_is_the_last_that_can_be_read(tmp_path: Path, form: str) -> None:
    """Where a killed run left half a checkpoint, the one before is the last, and the half one is counted."""
    members = zoo_files.experiment(n_models=2)
    first, second = zoo_files.trial_names(members)
    expected = zoo_files.expected_vectors(members)
    name = next(name for name in members if first in name and name.endswith("checkpoint_000010/checkpoints"))
    members[name] = members[name][:7000]
    contents = read(tmp_path, members, form, epochs="last")
    zoo_files.assert_weights(contents, {state: expected[state] for state in [(first, 5), (second, 10)]})
    assert sum(contents.left_out.values()) == 1


# -- killed runs and gaps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_broken_checkpoints_are_left_out_and_counted(tmp_path: Path, form: str) -> None:
    """A truncated, an empty and a flipped checkpoint are left out; the reason names the first."""
    members = zoo_files.experiment(n_models=3)
    names = sorted(name for name in members if name.endswith("/checkpoints"))
    expected = zoo_files.expected_vectors(members)
    changed = dict(members)
    changed[names[1]] = members[names[1]][:5000]
    changed[names[2]] = b""
    flipped = bytearray(members[names[4]])
    flipped[3000] ^= 1
    changed[names[4]] = bytes(flipped)
    contents = read(tmp_path, changed, form)
    assert len(contents.weights) == len(expected) - 3
    zoo_files.assert_weights(contents, expected, all_of_them=False)
    assert sum(contents.left_out.values()) == 3
    assert contents.left_out == contents.provenance["left_out"]
    assert any("checksum" in reason and names[4][:40] in reason for reason in contents.left_out)


def test_a_member_that_fails_the_zips_checksum_is_left_out(tmp_path: Path) -> None:
    """The checksum of the outer zip is checked too."""
    members = zoo_files.experiment(n_models=2)
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    name = next(name for name in members if name.endswith("/checkpoints"))
    path.write_bytes(zoo_files.flipped_in_zip(path.read_bytes(), name))
    contents = read_foreign(path)
    assert sum(contents.left_out.values()) == 1
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members), all_of_them=False)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_missing_checkpoints_are_counted(tmp_path: Path, form: str) -> None:
    """A model that lacks an epoch that most have is counted; result lines between two checkpoints are not missed."""
    members = zoo_files.experiment(n_models=3)
    first, second, _ = zoo_files.trial_names(members)
    killed = without(members, second, "checkpoint_000010")
    for epoch in (1, 5, 10):
        killed = without(killed, first, f"checkpoint_{epoch:06d}")
    contents = read(tmp_path, killed, form)
    assert contents.left_out == {"whose checkpoint is missing": 4}
    assert len(contents.weights) == 8
    asked = read(tmp_path, killed, form, epochs=[10])
    assert asked.left_out == {"whose checkpoint is missing": 2}


def test_an_empty_checkpoint_folder_is_a_missing_checkpoint(tmp_path: Path) -> None:
    """What a killed run leaves in a folder counts like what it leaves in an archive."""
    members = zoo_files.experiment(n_models=2)
    zoo_files.write_folder(tmp_path, members)
    next((tmp_path / zoo_files.SEED_ZIP.stem).glob("*/checkpoint_000010/checkpoints")).unlink()
    contents = read_foreign(tmp_path)
    assert contents.left_out == {"whose checkpoint is missing": 1}
    assert len(contents.weights) == 7


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_results_of_a_killed_run(tmp_path: Path, form: str) -> None:
    """Half lines are counted and skipped; a checkpoint without a result line is kept, its measurements missing."""
    members = zoo_files.experiment(n_models=2, epochs=(0, 5, 10))
    first = zoo_files.trial_names(members)[0]
    name = f"{zoo_files.SEED_ZIP.stem}/{first}/result.json"
    lines = members[name].split(b"\n")
    members[name] = b"\n".join([lines[0], b"\x00\x00\xff garbage", lines[5], lines[10][:200]])
    contents = read(tmp_path, members, form)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    assert contents.provenance["garbled_result_lines"] == 2
    table = contents.properties.set_index(["model", "epoch"])
    missing = table.loc[[(first, 10)]]
    assert missing[["test_acc", "train_acc", "ggap", "val_loss"]].isna().all(axis=None)
    assert missing["activation"].tolist() == ["tanh"]
    present = table.drop(index=[(first, 10)])
    assert present[["test_acc", "train_acc", "ggap", "val_loss"]].notna().all(axis=None)


def test_result_lines_are_matched_by_their_field(tmp_path: Path) -> None:
    """Neither the order nor the number of the lines matters; of two for one epoch the later counts."""
    members = zoo_files.experiment(n_models=1)
    reference = read(tmp_path, members)
    (trial,) = zoo_files.trial_names(members)
    name = f"{zoo_files.SEED_ZIP.stem}/{trial}/result.json"
    lines = [line for line in members[name].split(b"\n") if line]
    stale = json.dumps(json.loads(lines[5]) | {"test_acc": 0.123}).encode()
    members[name] = b"\n".join([stale, *reversed(lines[1:])])
    contents = read(tmp_path, members)
    assert contents.properties[1:].equals(reference.properties[1:])
    assert contents.properties["test_acc"].isna().tolist() == [True, False, False, False]


def test_minus_999_is_missing(tmp_path: Path) -> None:
    """Where nothing was measured at epoch 0, train_loss, train_acc and the ggap made of it are missing."""
    members = zoo_files.experiment(n_models=2)
    for name in [name for name in members if name.endswith("result.json")]:
        lines = [json.loads(line) for line in members[name].splitlines()]
        lines[0] |= {"train_loss": -999, "train_acc": -999.0}
        members[name] = "\n".join(map(json.dumps, lines)).encode()
    table = read(tmp_path, members).properties
    untrained = table["epoch"] == 0
    for key in ("train_loss", "train_acc", "ggap"):
        assert table[key].isna().equals(untrained)
    assert table["test_acc"].notna().all()


def test_sparsity_and_strange_values(tmp_path: Path) -> None:
    """sparsity_ratio is sparsity; NaN, null, text and numbers beyond measure are missing, not errors."""
    members = zoo_files.experiment(n_models=1)
    (trial,) = zoo_files.trial_names(members)
    name = f"{zoo_files.SEED_ZIP.stem}/{trial}/result.json"
    lines = [json.loads(line) for line in members[name].splitlines()]
    for sparsity, line in enumerate(lines):
        line |= {"sparsity_ratio": sparsity / 100, "test_loss": float("nan"), "val_loss": None, "val_acc": "high"}
        line["train_loss"] = 10**400
    members[name] = "\n".join(map(json.dumps, lines)).encode()
    table = read(tmp_path, members).properties
    assert table["sparsity"].tolist() == [0.0, 0.01, 0.05, 0.10]
    assert not {"test_loss", "val_loss", "val_acc", "train_loss"} & set(table.columns)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_hyperparameters_without_params_json(tmp_path: Path, form: str) -> None:
    """The configuration that every result line repeats stands in for a params.json that is missing or garbled."""
    members = zoo_files.experiment(zoo_files.HYPER_ZIP, n_models=2)
    first, second = zoo_files.trial_names(members)
    reference = read(tmp_path, members)
    root = zoo_files.HYPER_ZIP.stem
    del members[f"{root}/{first}/params.json"]
    members[f"{root}/{second}/params.json"] = b'{"model::nlin": '
    (tmp_path / "second").mkdir()
    assert read(tmp_path / "second", members, form).properties.equals(reference.properties)


def test_a_trial_without_notes_has_missing_properties(tmp_path: Path) -> None:
    """Neither params nor results: the weights are still there, the properties of that model missing."""
    members = zoo_files.experiment(zoo_files.HYPER_ZIP, n_models=2)
    first, _ = zoo_files.trial_names(members)
    bare = without(members, first, ".json")
    contents = read(tmp_path, bare)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    of_first = contents.properties[contents.properties["model"] == first]
    columns = [name for name in of_first.columns if name not in ("model", "epoch")]
    assert of_first[columns].isna().all(axis=None)
    assert str(contents.properties["seed"].dtype) == "float64"


# -- networks ------------------------------------------------------------------------------------------------------


def remade(members: Members, change: Callable[[dict[str, torch.Tensor]], dict[str, Any]], **options: Any) -> Members:
    """The same experiment with other state_dicts."""
    return {
        name: zoo_files.torch_bytes(change(zoo_files.state_dict(content)), **options)
        if name.endswith("/checkpoints")
        else content
        for name, content in members.items()
    }


def test_data_parallel_prefixes(tmp_path: Path) -> None:
    """A module. prefix on some models changes neither weights nor layout."""
    members = zoo_files.experiment(n_models=2)
    first = zoo_files.trial_names(members)[0]
    parallel = remade(members, lambda state: {f"module.{key}": tensor for key, tensor in state.items()})
    mixed = {name: (parallel if first in name else members)[name] for name in members}
    for variant in (parallel, mixed):
        contents = read(tmp_path, variant)
        zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
        assert contents.layout == WeightLayout.from_architecture("cnn_s")


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_cnn_l(tmp_path: Path, form: str) -> None:
    """A zoo of the large CNN is read with its own layout."""
    layout = WeightLayout.from_architecture("cnn_l")
    generator = torch.Generator().manual_seed(0)

    def large(_: object) -> dict[str, torch.Tensor]:
        return {tensor.name: torch.randn(tensor.shape, generator=generator) for tensor in layout.tensors}

    members = remade(zoo_files.experiment(n_models=3), large)
    contents = read(tmp_path, members, form)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    assert contents.layout == layout
    assert contents.weights.shape == (12, 10853)


def test_an_unknown_architecture_keeps_its_names(tmp_path: Path) -> None:
    """Batch norm buffers, whole numbers and truth values become float32, under the names that the file gives."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(4, 2))
    state = network.state_dict() | {"2.mask": torch.tensor([True, False]), "2.step": torch.tensor(7, dtype=torch.int16)}
    members = remade(zoo_files.experiment(n_models=2), lambda _: state)
    contents = read(tmp_path, members)
    assert [(t.name, t.shape) for t in contents.layout.tensors] == [(k, tuple(v.shape)) for k, v in state.items()]
    assert zoo_files.same_bits(contents.weights[0], zoo_files.vector(state))
    parallel = remade(members, lambda state: {f"module.{key}": tensor for key, tensor in state.items()})
    assert read(tmp_path, parallel).layout == contents.layout


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.float64, torch.bfloat16, torch.int8, torch.uint8, torch.int32, torch.int64]
)
def test_other_number_types_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    """Half, double, brain floats and whole numbers are what torch makes of them as float32."""
    members = remade(
        zoo_files.experiment(n_models=1), lambda state: {key: (9 * tensor).to(dtype) for key, tensor in state.items()}
    )
    zoo_files.assert_weights(read(tmp_path, members), zoo_files.expected_vectors(members))


@pytest.mark.parametrize("kind", ["transposed", "views", "tied", "parameters", "whole storages with more in them"])
def test_tensors_that_are_no_whole_storages(tmp_path: Path, kind: str) -> None:
    """Transposed tensors, parts of one storage, tied weights and parameters are read as torch reads them."""

    def tangled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        layout = WeightLayout.from_architecture("cnn_s")
        if kind == "transposed":
            return {key: tensor.transpose(0, -1).contiguous().transpose(0, -1) for key, tensor in state.items()}
        if kind == "parameters":
            return {key: torch.nn.Parameter(tensor) for key, tensor in state.items()}
        if kind == "views":
            whole = torch.cat([tensor.reshape(-1) for tensor in state.values()])
            return {tensor.name: whole[tensor.slice].reshape(tensor.shape) for tensor in layout.tensors}
        if kind == "tied":
            return state | {"module_list.11.weight": state["module_list.9.weight"][:10, :20]}
        return {key: torch.cat([tensor, tensor])[: len(tensor)] for key, tensor in state.items()}

    members = remade(zoo_files.experiment(n_models=2), tangled)
    contents = read(tmp_path, members)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    assert contents.layout == WeightLayout.from_architecture("cnn_s")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_of_torch(tmp_path: Path, protocol: int) -> None:
    """Checkpoints saved with a newer pickle protocol are read as well."""
    members = zoo_files.experiment(n_models=1)
    newer = remade(members, dict, pickle_protocol=protocol)
    zoo_files.assert_weights(read(tmp_path, newer), zoo_files.expected_vectors(members))


def test_storages_named_by_their_address(tmp_path: Path) -> None:
    """Older versions of torch named storages by where they lay in memory: other names, in another order, each time."""
    members = zoo_files.experiment(n_models=1)
    expected = zoo_files.expected_vectors(members)
    rng = np.random.default_rng(0)
    for name in [name for name in members if name.endswith("/checkpoints")]:
        keys = {f"{key}".encode(): b"%d" % rng.integers(10**13, 10**14) for key in range(10)}
        with zipfile.ZipFile(io.BytesIO(members[name])) as archive:
            records = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
        pickle = records.pop("data.pkl")
        for old, new in keys.items():
            pickle = pickle.replace(b"X\x01\0\0\0" + old, b"X\x0e\0\0\0" + new)
            records[f"data/{new.decode()}"] = records.pop(f"data/{old.decode()}")
        content = {f"archive/{key}": records[key] for key in sorted(records)} | {"archive/data.pkl": pickle}
        members[name] = zoo_files.write_zip(tmp_path / "checkpoint", content, zipfile.ZIP_STORED).read_bytes()
    zoo_files.assert_weights(read(tmp_path, members), expected)


def test_packed_records_inside_a_checkpoint(tmp_path: Path) -> None:
    """A checkpoint that somebody packed anew, deflated, is read too."""
    members = zoo_files.experiment(n_models=1)
    packed = {
        name: zoo_files.repacked(content, {}, zipfile.ZIP_DEFLATED) if name.endswith("/checkpoints") else content
        for name, content in members.items()
    }
    zoo_files.assert_weights(read(tmp_path, packed), zoo_files.expected_vectors(members))


def test_nan_and_infinite_weights_are_kept(tmp_path: Path) -> None:
    """States with NaN or infinite weights are rows like others, bit for bit: selection drops them later."""

    def diverged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state["module_list.0.weight"][0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
        return state

    members = remade(zoo_files.experiment(n_models=1), diverged)
    contents = read(tmp_path, members)
    zoo_files.assert_weights(contents, zoo_files.expected_vectors(members))
    assert np.isnan(contents.weights[:, 0]).all()


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_one_architecture_a_zoo(tmp_path: Path, form: str) -> None:
    """A checkpoint of another shape is an error that names it."""
    members = zoo_files.experiment(n_models=2)
    name = sorted(name for name in members if name.endswith("/checkpoints"))[5]
    members[name] = zoo_files.torch_bytes({"weight": torch.zeros(3, 4)})
    with pytest.raises(ZooFormatError, match="one architecture") as caught:
        read(tmp_path, members, form)
    assert name.split("/")[1] in str(caught.value)


@pytest.mark.parametrize("form", ["zip", "tar.gz", "folder"])
def test_one_experiment_an_archive(tmp_path: Path, form: str) -> None:
    """Two experiments in one archive are an error that names both."""
    members = zoo_files.experiment(n_models=1)
    both = zoo_files.renamed(members, lambda name: f"a/{name}") | zoo_files.renamed(members, lambda name: f"b/{name}")
    with pytest.raises(ZooFormatError, match="one by one"):
        read(tmp_path, both, form)


def test_two_checkpoints_of_one_epoch(tmp_path: Path) -> None:
    """checkpoint_5 beside checkpoint_000005 is an error: nobody can tell which counts."""
    members = zoo_files.experiment(n_models=1)
    name = next(name for name in members if name.endswith("checkpoint_000005/checkpoints"))
    members[name.replace("checkpoint_000005", "checkpoint_5")] = members[name]
    with pytest.raises(ZooFormatError, match="second checkpoint of epoch 5"):
        read(tmp_path, members)


def test_all_checkpoints_broken(tmp_path: Path) -> None:
    """If no checkpoint can be read, the error says why."""
    members = zoo_files.experiment(n_models=1)
    broken = {name: content[:1000] if name.endswith("/checkpoints") else content for name, content in members.items()}
    with pytest.raises(ZooFormatError, match="no checkpoint can be read"):
        read(tmp_path, broken)


@pytest.mark.parametrize("form", FORMS)
def test_archives_without_checkpoints(tmp_path: Path, form: str) -> None:
    """An archive of something else is told what was expected."""
    with pytest.raises(ZooFormatError, match="holds no checkpoints; expected a raw experiment"):
        read(tmp_path, {"a/readme.md": b"hello", "a/b/params.json": b"{}"}, form)


def test_a_big_endian_checkpoint_is_refused(tmp_path: Path) -> None:
    """Numbers in another byte order are not taken for what they are not."""
    members = zoo_files.experiment(n_models=1)
    big = {
        name: zoo_files.repacked(content, {"byteorder": b"big"}) if name.endswith("/checkpoints") else content
        for name, content in members.items()
    }
    with pytest.raises(ZooFormatError, match="byte order 'big'"):
        read(tmp_path, big)


# -- large archives ------------------------------------------------------------------------------------------------


def test_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives above 4 GB keep sizes and places elsewhere in their directory; those are found."""
    members = zoo_files.experiment(n_models=2)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 2000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = zoo_files.write_zip(tmp_path / "zoo.zip", members)
    assert b"PK\x06\x06" in path.read_bytes()
    zoo_files.assert_weights(read_foreign(path), zoo_files.expected_vectors(members))


def test_zip_with_a_comment_and_folder_entries(tmp_path: Path) -> None:
    """A comment at the end and entries for folders, as most tools write them, do not matter."""
    members = zoo_files.experiment(n_models=1)
    path = tmp_path / "zoo.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"PK\x05\x06" * 20
        archive.mkdir(zoo_files.SEED_ZIP.stem)
        for name, content in members.items():
            archive.writestr(name, content)
    zoo_files.assert_weights(read_foreign(path), zoo_files.expected_vectors(members))
