"""Zoos that are trained on a cluster: real Ray and real Dask, on this machine, train what one process trains."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest

from zoobench import fetch_zoo, save_zoo
from zoobench.benchmark import run_benchmark
from zoobench.generators.parallel import resolve_jobs
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe
from zoobench.zoo import Zoo

#: Three chunks, so that two workers get more than one each.
TINY = Recipe(
    grid={"activation": ["tanh", "relu", "gelu"], "dropout": [0.3]},
    seeds=[1, 2],
    n_epochs=1,
    batch_size=300,
    checkpoint_epochs=[1],
    name="tiny",
)

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def serial() -> Zoo:
    """What one process trains."""
    return make_zoo(TINY)


def assert_same_zoo(zoo: Zoo, serial: Zoo) -> None:
    assert zoo.data.tobytes() == serial.data.tobytes()
    assert zoo.properties.equals(serial.properties)


def test_two_processes_train_what_one_trains(serial: Zoo, tmp_path: Path) -> None:
    """joblib's own processes, asked for by number and by configuration."""
    assert_same_zoo(make_zoo(TINY, n_jobs=2, out=tmp_path / "zoo"), serial)
    with joblib.parallel_config(n_jobs=2):
        assert resolve_jobs(None) == 2
        assert_same_zoo(make_zoo(TINY), serial)


def test_dask_trains_what_one_process_trains(serial: Zoo, tmp_path: Path) -> None:
    """All workers of a cluster take part, without being counted."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path))
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        assert resolve_jobs(None) == -1
        assert_same_zoo(make_zoo(TINY, out=tmp_path / "zoo"), serial)
        # While there is a cluster: a benchmark on it, of a zoo that lies in a folder.
        folder = save_zoo(fetch_zoo("digits_cnn_s", epochs=[50], subset="test"), tmp_path / "own_zoo")
        tasks = ["digits_cnn_s_seed/test_acc/nfn", f"{folder}/ggap/cv-2x1"]
        there = run_benchmark(tasks, methods=methods(tmp_path), out=tmp_path / "there")
    here = run_benchmark(tasks, methods=methods(tmp_path), out=tmp_path / "here")
    assert [record.result() for record in there] == [record.result() for record in here]
    assert [record.error for record in here] == [None] * 4


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two workers, quiet, that ask nobody outside."""
    for name, value in {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
    }.items():
        monkeypatch.setenv(name, value)
    import ray

    # Short, because sockets lie in it, whose paths may not be long.
    folder = tempfile.mkdtemp(prefix="ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        ignore_reinit_error=True,
        object_store_memory=100_000_000,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
    )
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.usefixtures("ray_cluster")
def test_ray_trains_what_one_process_trains(serial: Zoo, tmp_path: Path) -> None:
    """All of a cluster takes part, without being counted, and without its backend being registered by the user.

    So it is with a benchmark: its records are those of one process.
    """
    with joblib.parallel_config(backend="ray"):
        assert resolve_jobs(None) == -1
        assert_same_zoo(make_zoo(TINY, out=tmp_path / "zoo"), serial)
        # While there is a cluster: a benchmark on it, with a method that only this machine has the code of.
        there = run_benchmark(["digits_cnn_s_seed/test_acc"], methods=methods(tmp_path), out=tmp_path / "there")
    here = run_benchmark(["digits_cnn_s_seed/test_acc"], methods=methods(tmp_path), out=tmp_path / "here")
    assert [record.result() for record in there] == [record.result() for record in here]
    assert [record.error for record in here] == [None, None]


def methods(folder: Path) -> list[str]:
    """One of the library and one of a user's file."""
    path = folder / "own.py"
    path.write_text("from sklearn.linear_model import Ridge\n\nclass Own(Ridge):\n    pass\n")
    return ["statistics_ridge", f"{path}:Own"]


def test_outside_of_a_cluster_one_process_trains() -> None:
    """None is one job, and a number is that number."""
    assert [resolve_jobs(n_jobs) for n_jobs in (None, 1, 3, -1)] == [1, 1, 3, -1]
