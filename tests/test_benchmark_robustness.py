"""What happens around a benchmark: killed workers, threads that overlap, helper modules, packages, many resamples."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from threadpoolctl import threadpool_info, threadpool_limits

from zoobench.benchmark import Task, find_entry, run_benchmark
from zoobench.benchmark.entries import find_entries
from zoobench.benchmark.kendall import resampled_tau
from zoobench.benchmark.runner import _calls
from zoobench.benchmark.threads import one_quiet_thread
from zoobench.benchmark.workers import surviving
from zoobench.layout import WeightLayout

TASK = "digits_cnn_s_seed/test_acc/cv-2x1"
ROOT = Path(__file__).parent.parent


def test_overlapping_fits_give_back_what_the_first_one_found() -> None:
    """Two threads, the first of which ends first, as joblib's do: numbers of threads and warnings are as before."""
    before, filters = torch.get_num_threads(), list(warnings.filters)
    entered, left = threading.Event(), threading.Event()

    def second() -> None:
        with one_quiet_thread():
            entered.set()
            left.wait(timeout=60)

    with threadpool_limits(2):
        torch.set_num_threads(2)
        expected = [library["num_threads"] for library in threadpool_info()]
        other = threading.Thread(target=second)
        with one_quiet_thread():
            assert {library["num_threads"] for library in threadpool_info()} == {1}
            other.start()
            assert entered.wait(timeout=60)
        left.set()
        other.join()
        assert torch.get_num_threads() == 2
        assert 2 in expected
        assert [library["num_threads"] for library in threadpool_info()] == expected
    torch.set_num_threads(before)
    assert list(warnings.filters) == filters


def test_calls_survive_what_one_of_them_does_to_its_worker() -> None:
    """Killed or never sent: that call alone comes to nothing, and says why."""
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    calls = [("1 + 1",), (kill,), ("2 + 2",), ((i for i in range(3)),), ("3 + 3",)]
    found = {number: (result, error) for number, (call, result, error) in sorted(numbered(calls))}
    assert [found[i] for i in (0, 2, 4)] == [(2, ""), (4, ""), (6, "")]
    assert found[1][0] is found[3][0] is None
    assert found[1][1].startswith("its worker process was killed, most likely because memory ran out")
    assert "cannot pickle 'generator' object" in found[3][1]


def numbered(calls: list[tuple]) -> Iterator[tuple[int, tuple]]:
    """What came of each call, with its number."""
    for found in surviving(eval, calls, 2):
        yield calls.index(found[0]), found


def test_a_killer_is_found_at_once_among_many(tmp_path: Path) -> None:
    """It runs twice, once beside others and once alone, also where those were fast and are not yet asked for."""
    note = "open({!r}, 'a').write('x')"
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    notes = [str(tmp_path / str(number)) for number in range(40)]
    calls = [(note.format(path) + (f" and {kill}" if path == notes[30] else ""),) for path in notes]
    found = {}
    for call, result, _ in surviving(eval, calls, 2):
        found[call] = result
        if len(found) == 1:
            time.sleep(0.5)  # a busy consumer
    assert [call for call in calls if found[call] is None] == [calls[30]]
    assert (tmp_path / "30").read_text() == "xx"
    assert {len(Path(path).read_text()) for path in notes} <= {1, 2}


def test_a_part_that_kills_does_not_take_the_rest_along() -> None:
    """A call that can be taken apart is, before anybody is blamed."""
    kill = "__import__('os').kill(__import__('os').getpid(), 9)"
    found = surviving(eval, [("1",), (f"2 + {kill} + 3",)], 2, lambda text: [(part,) for part in text.split(" + ")])
    assert {text: (result, bool(error)) for (text,), result, error in found} == {
        "1": (1, False), "2": (2, False), kill: (None, True), "3": (3, False),
    }  # fmt: skip


KILLER = """
import os, signal
from sklearn.dummy import DummyRegressor

class statistics_killer(DummyRegressor):
    def fit(self, X, y):
        y.max() > 1.5 and os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y)
"""


def test_a_killed_worker_is_its_methods_failure(tmp_path: Path) -> None:
    """As when memory runs out: the record says so, that of another task is whole, and a later run tries again."""
    path = tmp_path / "own.py"
    path.write_text(KILLER)
    tasks, methods = ["digits_cnn_s_seed/epoch/nfn", "digits_cnn_s_seed/test_acc/nfn"], [f"{path}:statistics_killer"]
    killed, other = run_benchmark(tasks, methods=methods, out=tmp_path / "store", n_jobs=2)
    assert "worker process was killed, most likely because memory ran out" in str(killed.error)
    assert other.error is None
    path.write_text(KILLER.replace("y.max() > 1.5 and os.kill(os.getpid(), signal.SIGKILL)", ""))
    (again,) = run_benchmark(tasks[:1], methods=methods, out=tmp_path / "store")
    assert again.error is None
    assert again.n_models == 100


def test_a_users_method_shares_a_worker_with_no_other(tmp_path: Path) -> None:
    """Whatever it is called: it might take the others along. This library's share what they have in common."""
    path = tmp_path / "own.py"
    path.write_text(KILLER)
    entries = find_entries([f"{path}:statistics_killer", "statistics_ridge", "statistics_boosting"])
    calls = _calls([(Task.parse(TASK), entry) for entry in entries])
    together = [[entry.name for entry in them] for _, fold, them in calls if fold == 0]
    assert together == [["statistics_killer"], ["statistics_ridge", "statistics_boosting"]]


HELPED = """
from sklearn.base import BaseEstimator, RegressorMixin
import helping.numbers
from helper import level

class Helped(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        return self
    def predict(self, X):
        return [level() + helping.numbers.MORE] * len(X)
"""


def write_helped(folder: Path, level: float, more: float = 0.0) -> str:
    """A method and the modules that it imports from its own folder."""
    (folder / "helping").mkdir(parents=True, exist_ok=True)
    (folder / "helping/__init__.py").touch()
    (folder / "helping/numbers.py").write_text(f"MORE = {more}\n")
    (folder / "helper.py").write_text(f"def level():\n    return {level}\n")
    (folder / "own.py").write_text(HELPED)
    return f"{folder / 'own.py'}:Helped"


def test_modules_beside_a_users_file_are_part_of_it(tmp_path: Path) -> None:
    """They are found, and told apart from those of other folders; a change in one is a new version."""
    first, second = write_helped(tmp_path / "a", 0.5), write_helped(tmp_path / "b", 0.75)
    one, other = find_entry(first), find_entry(second)
    assert one.digest != other.digest
    assert find_entry(first).digest == one.digest
    assert [entry.maker().fit(0, 0).predict([0]) for entry in (one, other, one)] == [[0.5], [0.75], [0.5]]
    (here,) = run_benchmark([TASK], methods=[first], out=tmp_path / "store")
    assert here.error is None
    write_helped(tmp_path / "a", 0.5, more=0.25)
    (changed,) = run_benchmark([TASK], methods=[first], out=tmp_path / "store")
    assert changed.digest not in (one.digest, other.digest)
    assert changed.scores["r2"] == run_benchmark([TASK], methods=[second], out=tmp_path / "b")[0].scores["r2"]


def test_a_users_method_needs_no_file_where_it_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own pickle holds its code and that of the modules beside it: Dask and others use nothing else."""
    entry = find_entry(write_helped(tmp_path, 0.5))
    sent = pickle.dumps(entry)
    for name in ("helper", "helping", "helping.numbers", entry.maker.__module__):
        monkeypatch.delitem(sys.modules, name)
    received = pickle.loads(sent)
    assert received == entry
    assert received.maker().fit(0, 0).predict([0]) == [0.5]


LATER = """
from sklearn.dummy import DummyRegressor

class Later(DummyRegressor):
    def fit(self, X, y):
        from later import level
        return super().fit(X, level(y))
    def optional(self):
        import broken_helper
"""


def test_a_module_that_is_imported_while_fitting_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here and where the code is sent to; one that cannot be imported is no fault as long as nobody asks for it."""
    (tmp_path / "later.py").write_text("def level(y):\n    return 0 * y\n")
    (tmp_path / "broken_helper.py").write_text("import nowhere\n")
    (tmp_path / "own.py").write_text(LATER)
    entry = find_entry(f"{tmp_path / 'own.py'}:Later")
    layout = WeightLayout.from_architecture("cnn_s")
    assert entry.build("regression", "y", layout, 0).fit([[0]], np.ones(1)).predict([[0]]) == [0]
    sent = pickle.dumps(entry)
    for name in ("later", entry.maker.__module__):
        monkeypatch.delitem(sys.modules, name)
    received = pickle.loads(sent).build("regression", "y", layout, 0)
    assert received.fit([[0]], np.ones(1)).predict([[0]]) == [0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{folder}/own.py", "a method of a file is written {folder}/own.py:MyClass"),
        ("{folder}/own.py:Helped", "own.py cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("{folder}/broken.py:Any", "broken.py cannot be imported: SyntaxError: "),
    ],
)
def test_a_file_that_gives_no_method_is_said(text: str, said: str, tmp_path: Path) -> None:
    """Without a class, with a helper that fails, or that is no Python: the file and the reason."""
    write_helped(tmp_path, 0.5)
    (tmp_path / "helper.py").write_text("import nowhere")
    (tmp_path / "broken.py").write_text("def f(:")
    with pytest.raises(ValueError, match=re.escape(said.format(folder=tmp_path))):
        find_entry(text.format(folder=tmp_path))


def test_a_store_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    """Before any work, in one sentence, with what to do."""
    (tmp_path / "file").touch()
    for store in ("file", "file/below"):
        with pytest.raises(
            OSError, match=f"cannot write records into .*{store}: .*; choose another folder. What is there"
        ):
            run_benchmark([TASK], methods=["dummy"], out=tmp_path / store)
    # Where that shows later, the record is named, and no part of it stays.
    (tmp_path / TASK).mkdir(parents=True)
    (tmp_path / TASK / "dummy.json").mkdir()
    with pytest.raises(OSError, match="cannot write the record of dummy on digits_cnn_s_seed/test_acc/cv-2x1 into"):
        run_benchmark([TASK], methods=["dummy"], out=tmp_path, again=True)
    assert [path.name for path in (tmp_path / TASK).iterdir()] == ["dummy.json"]


def test_a_package_announces_a_method(tmp_path: Path) -> None:
    """What pip leaves of a package with an entry point is enough to run its method by name."""
    (tmp_path / "announcer.py").write_text(
        "from sklearn.linear_model import Ridge\n\nclass Announced(Ridge):\n    pass\n"
    )
    info = tmp_path / "announcer-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: announcer\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[zoobench.methods]\nannounced_ridge = announcer:Announced\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    words = ["run", "--tasks", TASK, "--methods", "announced_ridge", "--format", "csv"]
    done = subprocess.run(
        [sys.executable, "-m", "zoobench", *words],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "digits_cnn_s_seed,test_acc,cv-2x1,announced_ridge,ours,r2," in done.stdout
    record = (tmp_path / f"zoobench_results/{TASK}/announced_ridge.json").read_text()
    assert '"method_source": "announcer 1.2"' in record
    assert '"digest": "announcer:Announced 1.2"' in record


@given(data=st.data(), n_rows=st.integers(2, 40), n_values=st.integers(1, 8))
def test_tau_of_resamples_is_scipys(data: st.DataObject, n_rows: int, n_values: int) -> None:
    """With ties or without, models of any size in any order, drawn any number of times: scipy's tau of the rows."""
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    truth, predicted = rng.integers(0, n_values, n_rows) / 7, rng.integers(0, 2 * n_values, n_rows) / 3
    model, counts = rng.integers(0, 6, n_rows), rng.integers(0, 4, (5, 6))
    for row, found in zip(counts, resampled_tau(truth, predicted, model, counts), strict=True):
        rows = np.repeat(np.arange(n_rows), row[model])
        varies = len(rows) > 0 and np.ptp(truth[rows]) > 0 and np.ptp(predicted[rows]) > 0
        expected = stats.kendalltau(truth[rows], predicted[rows]).statistic if varies else np.nan
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_tau_of_many_rows_is_scipys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rows are compared part by part, and sums leave what fits into a byte."""
    monkeypatch.setattr("zoobench.benchmark.kendall._COLUMNS", 100)
    monkeypatch.setattr("zoobench.benchmark.kendall._VALUES", 10)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=700)
    predicted, model = truth + rng.normal(size=700), np.arange(700) % 3
    counts = np.array([[1, 1, 1], [3, 0, 1], [0, 2, 0]])
    for row, found in zip(counts, resampled_tau(truth, predicted, model, counts), strict=True):
        rows = np.repeat(np.arange(700), row[model])
        assert found == pytest.approx(stats.kendalltau(truth[rows], predicted[rows]).statistic, abs=1e-12)
