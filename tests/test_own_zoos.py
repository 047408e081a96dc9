"""A zoo of one's own is a task by its folder's path: its name is in the records, and its path in the command alone."""

from __future__ import annotations

import pickle
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zoobench import ZooFormatError, fetch_zoo, load_zoo, save_zoo
from zoobench.benchmark import Leaderboard, Task, load_results, run_benchmark, tasks_of
from zoobench.benchmark.data import load
from zoobench.cli import main

CHEAP = ["dummy", "statistics_ridge"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two zoos of one layout; the first has properties of its own."""
    place = tmp_path_factory.mktemp("zoos")
    zoo = fetch_zoo("digits_cnn_s", epochs=[25, 50])
    accuracy = zoo.properties["test_acc"]
    zoo.properties["robustness"] = accuracy / 2
    zoo.properties["family"] = pd.Categorical(np.where(accuracy > accuracy.median(), "good", "bad"))
    zoo.properties["run"] = pd.Categorical(zoo.properties["model"].astype(str))
    zoo.properties["a/b"] = np.arange(len(zoo.properties), dtype=float)
    save_zoo(zoo, place / "my_zoo")
    save_zoo(fetch_zoo("digits_cnn_s", epochs=[5]), place / "other.zoo-2")
    return place


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the zoos as the current one, so that paths are short."""
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("here")
def test_a_path_is_a_task_by_its_folders_name(folder: Path) -> None:
    """Whatever way the path is written, the id is the same, and says nothing of it; the task stays usable elsewhere."""
    written = ["my_zoo", "./my_zoo", f"../{folder.name}/my_zoo", str(folder / "my_zoo")]
    tasks = [Task(path, "test_acc") for path in (*written, folder / "my_zoo")]
    assert {task.id for task in tasks} == {"my_zoo/test_acc/cv-5x1"}
    assert len(set(tasks)) == 1
    assert [Task.parse(f"{path}/test_acc/cv") for path in written] == tasks[:4]
    assert [task.text for task in tasks] == [f"{path}/test_acc/cv-5x1" for path in (*written, folder / "my_zoo")]
    again = pickle.loads(pickle.dumps(tasks[0]))
    assert (again, again.place, again.kind) == (tasks[0], tasks[0].place, "regression")
    assert replace(tasks[3], property="ggap").place.stored == folder / "my_zoo"


@pytest.mark.usefixtures("here")
def test_own_properties_are_tasks() -> None:
    """Any number or name that a zoo has can be predicted; "all" leaves out what tells nothing."""
    found = {task.property: task.kind for task in tasks_of(["./my_zoo"])}
    assert list(found) == ["test_acc", "epoch", "ggap", "robustness", "family"]
    assert found["family"] == "classification"
    assert found["robustness"] == "regression"
    assert Task("my_zoo", "run").kind == "classification"
    assert Task("my_zoo", "train_loss").kind == "regression"
    assert Task("digits_cnn_s", "val_acc").id == "digits_cnn_s_seed/val_acc/cv-5x1"


@pytest.mark.usefixtures("here")
def test_records_are_those_of_the_same_states_by_name(tmp_path: Path) -> None:
    """One worker or two, by whatever path: equal records. The command computes them again, from where it was typed."""
    tasks = ["./my_zoo/robustness/cv-2x1", "my_zoo/ggap/cv-2x1"]
    here = run_benchmark(tasks, methods=CHEAP, out=tmp_path / "one")
    there = run_benchmark([str(Path(task).absolute()) for task in tasks], methods=CHEAP, out=tmp_path / "two", n_jobs=2)
    assert [record.result() for record in here] == [record.result() for record in there]
    assert [record.error for record in here] == [None] * 4
    assert here[1].score > 0.5 > here[0].score
    words = shlex.split(here[0].command)
    assert words[:4] == ["zoobench", "run", "--tasks", "./my_zoo/robustness/cv-2x1"]
    assert main([*words[1:], "--out", str(tmp_path / "three")]) == 0
    stored = tmp_path / "three/my_zoo/robustness/cv-2x1/dummy.json"
    assert stored.read_text().count(str(Path.cwd())) == 0


def test_the_authors_own_parts_are_a_protocol_of_their_own(data_dir: Path, tmp_path: Path, here: Path) -> None:
    """A zoo that keeps its published split can be judged by it, under another id; one that does not says so."""
    zoo = load_zoo(data_dir / "dataset_digits_seed.pt")
    save_zoo(zoo, tmp_path / "authors")
    tasks = [f"{tmp_path / 'authors'}/test_acc/{protocol}" for protocol in ("paper", "paper-published")]
    ours, theirs = run_benchmark(tasks, methods=["dummy"], out=tmp_path / "store")
    assert theirs.task == "authors/test_acc/paper-published"
    judged = zoo.properties[zoo.properties["split_published"] == "test"]
    assert (theirs.n_models, theirs.n_states) == (judged["model"].nunique(), len(judged))
    assert theirs.scores["mae"] != ours.scores["mae"]
    lacking = run_benchmark(f"{here / 'my_zoo'}/test_acc/paper-published", methods=["dummy"], out=tmp_path / "store")
    assert "my_zoo does not keep the parts that its authors dealt out" in str(lacking[0].error)


@pytest.mark.usefixtures("here")
def test_records_outlive_the_zoo(tmp_path: Path) -> None:
    """Without the zoo, its records are read and ranked; with another zoo of that name, they are computed anew."""
    shutil.copytree("my_zoo", tmp_path / "my_zoo")
    run = {"methods": CHEAP, "protocol": "cv-2x1", "out": tmp_path / "store"}
    first = run_benchmark([tmp_path / "my_zoo/test_acc"], **run)
    told: list[str] = []
    assert run_benchmark([tmp_path / "my_zoo/test_acc"], progress=lambda *said: told.append(said), **run) == first
    assert not told
    save_zoo(fetch_zoo("digits_cnn_s", epochs=[25]), tmp_path / "my_zoo")
    second = run_benchmark([tmp_path / "my_zoo/test_acc"], **run)
    assert second[0].data_sha256 != first[0].data_sha256
    assert second[0].n_states == first[0].n_states / 2
    shutil.rmtree(tmp_path / "my_zoo")
    assert load_results(tmp_path / "store")["zoo"].tolist() == ["my_zoo"] * 2
    assert Leaderboard.from_folder(tmp_path / "store").methods == CHEAP[::-1]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "id"),
    [
        ("./my_zoo/test_acc/transfer-from-./other.zoo-2", "my_zoo/test_acc/transfer-from-other.zoo-2"),
        ("digits_cnn_s/ggap/transfer-from-./my_zoo", "digits_cnn_s_seed/ggap/transfer-from-my_zoo"),
        ("./my_zoo/ggap/transfer-from-digits_cnn_s_hyp_rand", "my_zoo/ggap/transfer-from-digits_cnn_s_hyp_rand"),
    ],
)
def test_zoos_transfer_whoever_made_them(text: str, id: str, tmp_path: Path) -> None:
    """From one of your own to another, and to and from those of the registry; each digest is there."""
    (record,) = run_benchmark([text], methods=["statistics_ridge"], out=tmp_path)
    assert record.error is None
    assert len(record.data_sha256.split()) == 4
    assert record.task == id
    assert f"--tasks {text.replace('cnn_s/', 'cnn_s_seed/')} " in record.command


@pytest.mark.usefixtures("here")
def test_a_zoo_without_hyperparameters_is_not_asked_about_them(tmp_path: Path) -> None:
    """A method that sees nothing else has no record of it, which is no failure; alone, that is said."""
    zoo = fetch_zoo("digits_cnn_s", epochs=[50])
    told = ["activation", "init", "optimizer", "dropout", "lr", "weight_decay"]
    zoo.properties = zoo.properties.drop(columns=told)
    save_zoo(zoo, tmp_path / "bare")
    methods = ["dummy", "hyperparameters_boosting"]
    found = run_benchmark([tmp_path / "bare/test_acc"], methods=methods, out=tmp_path / "store")
    assert [(record.method, record.error) for record in found] == [("dummy", None)]
    with pytest.raises(ValueError, match="hyperparameters_boosting can be asked of none of these tasks"):
        run_benchmark([tmp_path / "bare/test_acc"], methods=methods[1:], out=tmp_path / "store")


REPLACES = """
from pathlib import Path
from sklearn.dummy import DummyRegressor
from zoobench import load_zoo, save_zoo

class Replaces(DummyRegressor):
    def predict(self, X):
        if Path({new!r}).exists():
            save_zoo(load_zoo({new!r}), {old!r})
        return super().predict(X)
"""


def test_a_zoo_that_is_replaced_meanwhile_gives_no_score(here: Path, tmp_path: Path) -> None:
    """What was predicted of one zoo is not judged by another; run again, the record is that of the new zoo."""
    old, new, path = tmp_path / "a_zoo", tmp_path / "new", tmp_path / "own.py"
    shutil.copytree(here / "my_zoo", old)
    zoo = load_zoo(here / "my_zoo", epochs=[50])
    zoo.properties["test_acc"] = zoo.properties["test_acc"].to_numpy()[::-1].copy()
    save_zoo(zoo, new)
    path.write_text(REPLACES.format(old=str(old), new=str(new)))
    run = {"methods": [f"{path}:Replaces"], "out": tmp_path / "store"}
    (record,) = run_benchmark(f"{old}/test_acc/cv-2x1", **run)
    assert record.error == "the zoo changed while it was benchmarked; run again"
    assert not record.scores
    shutil.rmtree(new)
    (again,) = run_benchmark(f"{old}/test_acc/cv-2x1", **run)
    assert again.error is None
    assert again.n_states == len(zoo.data)


BOTH = """
from sklearn.dummy import DummyRegressor

class Both(DummyRegressor):
    zoobench_inputs = "both"
    def fit(self, X, y):
        self.seen = list(X)[-5:]
        return super().fit(X, y)
    def predict(self, X):
        assert list(X)[-5:] == self.seen == ["activation", "init", "optimizer", "lr", "weight_decay"]
        return super().predict(X)
"""


def test_a_transfer_uses_the_hyperparameters_that_both_zoos_tell(tmp_path: Path) -> None:
    """What one of them does not tell is left out of both, so that each column stays the same thing."""
    zoo = fetch_zoo("digits_cnn_s_hyp_rand", epochs=[50], max_abs_weight=5)
    zoo.properties = zoo.properties.drop(columns=["dropout"])
    zoo.properties["model"] = pd.Categorical([f"other {name}" for name in zoo.properties["model"]])
    save_zoo(zoo, tmp_path / "other")
    (tmp_path / "own.py").write_text(BOTH)
    methods = ["hyperparameters_boosting", f"{tmp_path}/own.py:Both"]
    ways = [(f"{tmp_path}/other", "digits_cnn_s_hyp_rand"), ("digits_cnn_s_hyp_rand", f"{tmp_path}/other")]
    tasks = [f"{judge}/test_acc/transfer-from-{fit}" for judge, fit in ways]
    found = run_benchmark(tasks, methods=methods, out=tmp_path / "store")
    assert [record.error for record in found] == [None] * 4


def test_infinite_properties_are_unknown(here: Path, tmp_path: Path) -> None:
    """They are neither learnt nor judged by, like missing ones; where nothing is left, one sentence says so."""
    zoo = load_zoo(here / "my_zoo", epochs=[50])
    some = zoo.properties["test_acc"].to_numpy().copy()
    some[::4] = np.inf
    zoo.properties["some"] = some
    zoo.properties["none"] = np.where(np.arange(len(some)) % 2, -np.inf, np.nan)
    save_zoo(zoo, tmp_path / "a_zoo")
    assert [task.property for task in tasks_of(tmp_path / "a_zoo") if task.property in ("some", "none")] == ["some"]
    tasks = [tmp_path / "a_zoo/some/cv-2x1", tmp_path / "a_zoo/none/cv-2x1"]
    found = run_benchmark(tasks, methods=CHEAP, out=tmp_path / "store")
    assert [record.error for record in found[:2]] == [None, None]
    assert found[0].n_states == len(some) - len(some[::4])
    assert {record.error for record in found[2:]} == {
        "ValueError: in fold 1, 'none' of every state to fit on is unknown or infinite"
    }


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("nowhere", ValueError, "unknown zoo 'nowhere'"),
        ("./nowhere/test_acc", FileNotFoundError, "./nowhere/test_acc leads to no folder with a zoo; check the path"),
        ("./no/where/test_acc", FileNotFoundError, "leads to no folder with a zoo; check the path"),
        ("{folder}/nowhere", ZooFormatError, "nowhere nor {folder} is the folder of a zoo; check the path"),
        ("empty/test_acc", ZooFormatError, "neither empty/test_acc nor empty is the folder of a zoo"),
        ("empty", ZooFormatError, "empty is a folder without a zoo.json, and the folder of a zoo was expected"),
        ("file", ZooFormatError, "file is a file, and the folder of a zoo was expected"),
        ("my_zoo/test_ac", ValueError, "of my_zoo; there are test_acc, "),
        ("my_zoo/test_ac", ValueError, "did you mean 'test_acc'?"),
        ("my_zoo/seed", ValueError, "'seed' is no property that can be predicted of my_zoo"),
        ("my_zoo/test_acc/cv-1x1", ValueError, "unknown protocol 'cv-1x1'"),
        ("my_zoo/test_acc/transfer-from-./nowhere", FileNotFoundError, "there is no folder ./nowhere with a zoo"),
        ("my_zoo/test_acc/transfer-from-./my_zoo", ValueError, "would judge my_zoo on what it was fitted on"),
        (
            "my_zoo/family/transfer-from-digits_cnn_s",
            ValueError,
            "'family' is no property that can be predicted of dig",
        ),
        ("./digits_cnn_s/test_acc", ValueError, "would be called 'digits_cnn_s', as digits_cnn_s_seed of the registry"),
        ("a,b/test_acc", ValueError, "cannot be part of a task's id; rename the folder"),
        ("mnist_cnn_s/robustness", ValueError, "`zoobench fetch mnist_cnn_s_seed`"),
    ],
)
def test_what_is_no_zoo_is_said(text: str, kind: type[Exception], said: str, here: Path, tmp_path: Path) -> None:
    """What is wrong with the path, the property or the protocol, and what to do."""
    for name in ("digits_cnn_s", "a,b"):
        if not (here / name).exists():
            shutil.copytree(here / "my_zoo", here / name)
    (here / "empty").mkdir(exist_ok=True)
    (here / "file").touch()
    with pytest.raises(kind, match=re.escape(said.format(folder=here))):
        run_benchmark([text.format(folder=here)], methods=["dummy"], out=tmp_path)


def test_columns_that_cannot_be_named_are_said(here: Path) -> None:
    """A property is part of a path: it has no slash."""
    with pytest.raises(ValueError, match="property 'a/b' of my_zoo cannot be part of a task's id; rename the column"):
        Task("my_zoo", "a/b")


def test_two_zoos_of_one_name_are_refused(here: Path, tmp_path: Path) -> None:
    """Their records would overwrite each other; the same zoo by two paths is one."""
    shutil.copytree(here / "my_zoo", tmp_path / "my_zoo")
    with pytest.raises(ValueError, match="two zoos are called 'my_zoo': .*; rename one of the folders"):
        run_benchmark(["my_zoo/ggap", tmp_path / "my_zoo/test_acc"], methods=["dummy"], out=tmp_path / "store")
    both = ["my_zoo/test_acc/nfn", here / "my_zoo/test_acc/nfn"]
    assert len(run_benchmark(both, methods=["dummy"], out=tmp_path / "store")) == 1


@pytest.mark.usefixtures("here")
def test_no_weights_are_read_before_they_are_asked_for() -> None:
    """What a task looks at holds the map of the file, not a copy of the states that are used."""
    data = load(Task("my_zoo", "test_acc", "nfn"))
    assert isinstance(data.fit.weights.base, np.memmap) or not data.fit.weights.flags.owndata
    assert len(data.fit.weights) == 2 * len(data.fit.rows)
    assert data.fit.properties["epoch"].unique().tolist() == [50]
