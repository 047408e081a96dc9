"""Running the benchmark: each thing once, the same by whatever way, and a failure harms nobody else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from zoobench import fetch_zoo
from zoobench.benchmark.entries import DEFAULT_METHODS, find_entries, find_entry
from zoobench.benchmark.evaluation import evaluate, in_one_line
from zoobench.benchmark.protocols import folds
from zoobench.benchmark.records import iterate_records, save_record
from zoobench.benchmark.runner import run_benchmark
from zoobench.benchmark.tasks import Task
from zoobench.datahome import get_data_home
from zoobench.estimators import LinearProbeRegressor, WeightStatistics, make_method
from zoobench.estimators.known_rows import DummyRegressor

TASK = "digits_cnn_s_seed/test_acc"
CHEAP = ["dummy", "statistics_ridge"]

OWN_METHODS = '''
import os, time
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from zoobench.estimators import LinearProbeRegressor, WeightStatistics

class Norm(RegressorMixin, BaseEstimator):
    """The mean target of training states whose norm is alike."""
    def __init__(self, random_state=None, layout=None):
        self.random_state, self.layout = random_state, layout
    def fit(self, X, y):
        assert self.layout.n_weights == X.shape[1] and self.random_state is not None
        self.norms_, self.y_ = np.linalg.norm(X, axis=1), y
        return self
    def predict(self, X):
        norms = np.linalg.norm(X, axis=1)
        return self.y_[np.abs(norms[:, None] - self.norms_).argmin(axis=1)]

def probed():
    return make_pipeline(WeightStatistics(), LinearProbeRegressor(penalize_intercept=True))

def pipeline():
    return make_pipeline(WeightStatistics(), Ridge())

class Broken(Norm):
    def predict(self, X):
        raise RuntimeError("no such layer")

class Lost(Norm):
    def fit(self, X, y):
        raise FileNotFoundError(f"no file {os.environ['ZOOBENCH_DATA']}/a, {os.path.expanduser('~')}/b, {os.sep}c")

class Short(Norm):
    def predict(self, X):
        return np.zeros(3)

class NotANumber(Norm):
    def predict(self, X):
        return np.full(len(X), np.nan)

class Slow(Norm):
    def fit(self, X, y):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return super().fit(X, y)

class Exits(Norm):
    def fit(self, X, y):
        raise SystemExit(3)

def transformed():
    return make_pipeline(FunctionTransformer(lambda X: X[:, :50]), SelectKBest(f_regression, k=9), Ridge())

def searched():
    return GridSearchCV(Ridge(), {"alpha": [1.0, 10.0]}, cv=GroupKFold(3))

def either(task):
    return DummyClassifier() if task == "classification" else DummyRegressor()

class SeesAll(RegressorMixin, BaseEstimator):
    zoobench_inputs = "both"
    def fit(self, X, y):
        assert {"activation", "lr"} < set(X) and not {"seed", "epoch", "test_acc"} & set(X)
        return self
    def predict(self, X):
        return X["w0"].to_numpy()
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of methods that a user wrote."""
    path = tmp_path / "own.py"
    path.write_text(OWN_METHODS)
    return path


def test_a_record_holds_what_cross_validation_by_hand_gives(tmp_path: Path) -> None:
    """Each fold's score is that of the method fitted and judged by hand; the command names task and method."""
    (record,) = run_benchmark([TASK], methods=["statistics_ridge"], out=tmp_path)
    zoo = fetch_zoo("digits_cnn_s", max_abs_weight=5)
    found = []
    for fold in folds("cv-5x1", "digits_cnn_s_seed", zoo.properties):
        model = make_method("statistics_ridge", layout=zoo.layout)
        F = WeightStatistics(zoo.layout).fit_transform(zoo.data)
        probe = clone(model[-1]).fit(F[fold.train], zoo.target[fold.train], groups=zoo.groups[fold.train])
        found.append(probe.score(F[fold.test], zoo.target[fold.test]))
    np.testing.assert_allclose(record.scores["r2"], found, rtol=0, atol=1e-6)
    assert record.interval[0] < record.score < record.interval[1]
    assert record.command == f"zoobench run --tasks {TASK}/cv-5x1 --methods statistics_ridge"
    assert (record.n_models, record.n_states, record.n_train, record.n_test) == (200, 600, 160, 40)
    assert [len(digest) for digest in record.data_sha256.split()] == [64, 64]
    assert {"zoobench", "numpy", "torch"} <= record.versions.keys()


def test_what_holds_out_models_is_told_which_states_belong_together(tmp_path: Path, own: Path) -> None:
    """A probe chooses its penalty by whole models: as a method of one step, of several, and in a user's pipeline."""
    task, zoo = "digits_cnn_s_seed/epoch", fetch_zoo("digits_cnn_s_seed", properties="epoch", max_abs_weight=5)
    methods = ["weights_ridge", "statistics_ridge", f"{own}:probed"]
    single, several, users = run_benchmark([task], methods=methods, out=tmp_path / "store")
    assert users.scores["r2"] == pytest.approx(several.scores["r2"], abs=1e-9)
    for features, record in ((zoo.data, single), (WeightStatistics(zoo.layout).fit_transform(zoo.data), several)):
        for fold, found in zip(folds("cv-5x1", "digits_cnn_s_seed", zoo.properties), record.scores["r2"], strict=True):
            probe = LinearProbeRegressor(penalize_intercept=True)
            probe.fit(features[fold.train], zoo.target[fold.train], groups=zoo.groups[fold.train])
            assert probe.score(features[fold.test], zoo.target[fold.test]) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("protocol", ["paper", "nfn", "transfer-from-digits_cnn_s_seed"])
def test_every_protocol_runs(protocol: str, tmp_path: Path) -> None:
    """Each gives one fold and its ranking metric."""
    zoo = "digits_cnn_s_seed_sparse" if protocol.startswith("transfer") else "digits_cnn_s_seed"
    (record,) = run_benchmark([f"{zoo}/test_acc"], protocol=protocol, methods=["statistics_ridge"], out=tmp_path)
    assert record.error is None
    assert len(record.scores[record.metric]) == 1


@pytest.mark.parametrize("protocol", ["paper", "cv-2x1"])
def test_every_step_is_told_what_to_stop_by(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds out networks, be it a transformer or the last step, gets them, or which rows belong together."""
    told = []

    def fit(self: object, X: object, y: object = None, *, groups: object = None, X_val: object = None) -> None:
        told.append((type(self).__name__, groups is not None, X_val is not None, len(groups) == len(X)))
        raise InterruptedError("seen")

    layout, names = fetch_zoo("digits_cnn_s").layout, ["hyper_representation_ridge", "statnn", "weights_ridge"]
    for kind in {type(step) for name in names for _, step in make_method(name, layout=layout).steps}:
        monkeypatch.setattr(kind, "fit", fit)
    found = evaluate((Task("digits_cnn_s", "test_acc", protocol),), 0, tuple(find_entries(names)))
    assert [outcome.error for outcome in found] == ["InterruptedError: seen"] * 3
    kinds = ("HyperRepresentation", "PropertyRegressor", "LinearProbeRegressor")
    assert told == [(kind, True, protocol == "paper", True) for kind in kinds]


def test_what_looks_at_nothing_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference that has learned nothing gets one column, of all rows, and not all weights of the zoo."""
    shapes, fit = [], DummyRegressor.fit
    monkeypatch.setattr(DummyRegressor, "fit", lambda self, X, y: shapes.append(X.shape) or fit(self, X, y))
    (outcome,) = evaluate((Task("digits_cnn_s", "test_acc"),), 0, (find_entry("dummy"),))
    assert outcome.error is None
    assert shapes == [(480, 1)]


def test_settings_are_the_same_in_every_process() -> None:
    """Where a function lies in memory is no setting, and makes no record stale."""
    one, other = (FunctionTransformer(lambda X: X) for _ in range(2))
    assert repr(one) != repr(other)
    assert in_one_line(one) == in_one_line(other)


def test_one_task_and_one_method_need_no_list(tmp_path: Path) -> None:
    """A text is not taken apart into letters; no task at all is said."""
    given = [TASK, Task.parse(TASK), Path(TASK)]
    found = [run_benchmark(task, methods="dummy", out=tmp_path / str(i)) for i, task in enumerate(given)]
    assert [record.result() for (record,) in found] == [found[0][0].result()] * 3
    with pytest.raises(ValueError, match="no tasks were given"):
        run_benchmark([], out=tmp_path)


def test_a_zoo_that_cannot_be_fetched_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the internet there is one error, and no record of a failure a method, after as many tries."""
    tries = []

    def offline(*_: object, **__: object) -> None:
        tries.append(1)
        raise ConnectionError("no route to zenodo.org")

    monkeypatch.setattr("zoobench.benchmark.data.fetch_zoo", offline)
    with pytest.raises(ConnectionError, match="no route"):
        run_benchmark(["mnist_cnn_s_seed/test_acc", "mnist_cnn_s_seed/ggap"], methods=CHEAP, out=tmp_path)
    assert len(tries) == 1
    assert not list(iterate_records(tmp_path))


def test_a_failure_tells_no_folder_of_this_machine(tmp_path: Path, own: Path) -> None:
    """Records are published: the data folder and the home of who made them have short names in it."""
    (record,) = run_benchmark([TASK], methods=[f"{own}:Lost"], out=tmp_path / "store")
    assert record.error == "FileNotFoundError: no file DATA_HOME/a, ~/b, /c"
    assert str(get_data_home()) not in record.error


def test_what_is_done_is_not_done_again(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run reads its records; `again` or another version of a user's method runs."""
    methods = ["dummy", f"{own}:Norm"]
    first = run_benchmark([TASK], methods=methods, out=tmp_path / "store")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.json")}
    told: list[int] = []
    second = run_benchmark([TASK], methods=methods, out=tmp_path / "store", progress=lambda *a: told.append(a[0]))
    assert second == first
    assert not told
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    own.write_text(OWN_METHODS.replace("abs(norms", "square(norms"))
    changed = run_benchmark([TASK], methods=methods, out=tmp_path / "store", progress=lambda *a: told.append(a[0]))
    assert told == [1, 2, 3, 4, 5]
    assert changed[0] == first[0]
    assert changed[1].digest != first[1].digest


def test_more_workers_and_more_methods_change_no_record(tmp_path: Path) -> None:
    """One worker or two, alone or among others, in another order: equal records."""
    alone = run_benchmark([TASK], methods=["statistics_ridge"], out=tmp_path / "alone")
    tasks = ["digits_cnn_s_seed/ggap", TASK]
    many = run_benchmark(tasks, methods=[*CHEAP, "pca_ridge"], out=tmp_path / "many", n_jobs=2)
    few = run_benchmark(tasks[::-1], methods=CHEAP[::-1], out=tmp_path / "few")
    by_key = {(r.task, r.method): r for r in many}
    for record in [*alone, *few]:
        assert by_key[record.task, record.method].result() == record.result()


def test_a_method_that_fails_harms_nobody_else(tmp_path: Path, own: Path) -> None:
    """Its record says why; the others' are as without it."""
    broken = [f"{own}:{name}" for name in ("Broken", "Short", "NotANumber", "Exits")]
    found = run_benchmark([TASK], methods=["dummy", *broken, f"{own}:pipeline"], out=tmp_path / "store")
    assert [record.error for record in found] == [
        None,
        "RuntimeError: no such layer",
        "ValueError: predictions have shape (3,), but (120,) was expected: one a state",
        "ValueError: 120 of 120 predictions are NaN or infinite",
        "SystemExit: 3",
        None,
    ]
    assert len(list(iterate_records(tmp_path / "store"))) == 6
    own.write_text(own.read_text().replace('raise RuntimeError("no such layer")', "return np.zeros(len(X))"))
    assert run_benchmark([TASK], methods=[broken[0]], out=tmp_path / "store")[0].error is None
    (alone,) = run_benchmark([TASK], methods=["dummy"], out=tmp_path / "alone")
    assert alone.result() == found[0].result()


def test_what_users_write_runs_in_other_processes(tmp_path: Path, own: Path) -> None:
    """Transformers that look at y, functions without a name, searches with folds by model: all of one file."""
    methods = [f"{own}:{name}" for name in ("transformed", "searched", "pipeline")]
    found = run_benchmark([TASK], methods=methods, out=tmp_path / "store", n_jobs=2)
    assert [record.error for record in found] == [None] * 3
    assert found[0].command == f"zoobench run --tasks {TASK}/cv-5x1 --methods {methods[0]}"


def test_a_method_for_numbers_is_not_asked_for_names(tmp_path: Path, own: Path) -> None:
    """It has no record of such a task, which is no failure; one that takes `task` gives what is asked for."""
    tasks = [TASK, "digits_cnn_s_hyp_rand/init/paper"]
    found = run_benchmark(tasks, methods=[f"{own}:Norm", f"{own}:either"], out=tmp_path / "store")
    assert [(r.task.split("/")[1], r.method, r.error) for r in found] == [
        ("test_acc", "Norm", None),
        ("test_acc", "either", None),
        ("init", "either", None),
    ]


def test_a_record_of_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """What another version of the library, other defaults or another zoo gave is computed anew; so is a failure."""
    (good,) = run_benchmark([TASK], methods=["statistics_ridge"], out=tmp_path)
    stale = {"settings": "Ridge()", "versions": {"zoobench": "0.0.1"}, "data_sha256": "0", "error": "MemoryError: "}
    for name, value in stale.items():
        save_record(replace(good, **{name: value, "scores": {"r2": [0.1] * 5}}), tmp_path)
        assert run_benchmark([TASK], methods=["statistics_ridge"], out=tmp_path)[0].result() == good.result()


def test_a_users_method_may_see_hyperparameters_too(tmp_path: Path, own: Path) -> None:
    """Weights and hyper-parameters as one frame; never the seed, the epoch or what is predicted."""
    (record,) = run_benchmark([TASK], methods=[f"{own}:SeesAll"], out=tmp_path / "store")
    assert record.error is None
    assert record.inputs == "both"


def test_hyperparameters_never_include_the_target(tmp_path: Path) -> None:
    """From the other hyper-parameters of a full grid nothing follows about one of them."""
    (record,) = run_benchmark(
        ["digits_cnn_s_hyp_rand/dropout/paper"], methods=["hyperparameters_boosting"], out=tmp_path
    )
    assert record.error is None
    assert record.score < 0.2


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, own: Path) -> None:
    """Interrupted in the second method, the first one's record is there, whole, and nothing half beside it."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from zoobench.benchmark.runner import run_benchmark\n"
        f"run_benchmark([{TASK!r}], methods=['dummy', {f'{own}:Slow'!r}], out={str(tmp_path / 'store')!r})"
    )
    environment = {**os.environ, "SLOW": "60"}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) as process:
        path = tmp_path / f"store/{TASK}/cv-5x1/dummy.json"
        deadline = time.monotonic() + 120
        while not path.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in said
    assert json.loads(path.read_text())["method"] == "dummy"
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == [path]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("statistics_rigde", "did you mean 'statistics_ridge'?"),
        ("nowhere.py:It", "there is no file 'nowhere.py'"),
        ("{own}:Other", "defines no 'Other'; it defines Norm, probed, pipeline"),
        ("{own}:OWN", "'OWN' of own.py is no method: not callable"),
        ("{own}:statnn", "'statnn' of {own} has the name of a method of zoobench; give it another one"),
    ],
)
def test_a_method_that_is_not_there_is_said(text: str, said: str, own: Path) -> None:
    """With what there is instead."""
    own.write_text(OWN_METHODS + "\nOWN = 3\nstatnn = Norm\n")
    with pytest.raises(ValueError, match=".") as error:
        find_entry(text.format(own=own))
    assert said.format(own=own) in str(error.value)


def test_a_file_that_cannot_be_imported_is_said(tmp_path: Path) -> None:
    """The user's own error, with the file's name."""
    path = tmp_path / "wrong.py"
    path.write_text("import no_such_module_at_all")
    with pytest.raises(ValueError, match="wrong.py cannot be imported: ModuleNotFoundError: No module named"):
        find_entry(f"{path}:It")


def test_two_methods_of_one_name_are_refused(own: Path, tmp_path: Path) -> None:
    """Their records would overwrite each other."""
    other = tmp_path / "other.py"
    other.write_text(OWN_METHODS + "\n")
    with pytest.raises(ValueError, match="two methods are called 'Norm'"):
        find_entries([f"{own}:Norm", f"{other}:Norm"])


def test_default_methods_are_known() -> None:
    """Each by its name, and there are at least eight."""
    assert len(find_entries(DEFAULT_METHODS)) >= 8
