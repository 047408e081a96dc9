"""How many chunks run at a time: no more than fit into the memory, whatever trains them."""

from __future__ import annotations

import warnings
from pathlib import Path

import joblib
import pytest
import torch

from zoobench.generators import estimate as estimating
from zoobench.generators import memory, population, register_architecture, registration
from zoobench.generators.chunks import chunks_of
from zoobench.generators.estimate import estimate
from zoobench.generators.memory import fitting_jobs, free_bytes, job_bytes, stacked_bytes
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe

RECIPE = Recipe(grid={"activation": ["tanh", "relu", "gelu", "sigmoid"]}, seeds=range(16), n_epochs=1, name="tiny")
CHUNKS = chunks_of(RECIPE, RECIPE.models(), "native")


def test_memory_of_stacked_operations_grows_with_the_models() -> None:
    """Twice the models take twice the bytes; at the least the patches of two convolutions, for the pass back."""
    one = stacked_bytes(RECIPE, 1, 10, 28, 1100)
    assert one > 4 * 10 * (25 * 24**2 + 200 * 8**2)
    assert stacked_bytes(RECIPE, 1000, 10, 28, 1100) == 1000 * one


@pytest.mark.parametrize(
    ("n_jobs", "free", "wanted"),
    [(2, 10, 2), (-1, 10, 4), (4, 3.9, 3), (4, 1, 1), (4, 0.1, 1), (1, 0.1, 1), (9, 10, 4)],
)
@pytest.mark.parametrize(
    ("engine", "device"), [("native", "cpu"), ("stacked", "cpu"), ("stacked", "cuda"), ("torch", "cpu")]
)
def test_no_more_run_at_a_time_than_fit(monkeypatch, engine, device, n_jobs, free, wanted) -> None:
    """Four chunks and memory for some: as many as were asked for, and at least one."""
    monkeypatch.setattr(joblib.parallel, "effective_n_jobs", lambda n_jobs: 8 if n_jobs == -1 else n_jobs)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda n_jobs: 8 if n_jobs == -1 else n_jobs)
    monkeypatch.setattr(memory, "job_bytes", lambda *_: 1000)
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(free * 1000 / 0.8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert fitting_jobs(n_jobs, RECIPE, CHUNKS, engine, device) == wanted
    # Only who asked for a number is told that it is not kept.
    said = [str(warning.message) for warning in caught]
    fewer = wanted < min(n_jobs, len(CHUNKS))
    assert said == ([f"the free memory has room for {wanted} of the 4 jobs asked for: no more run at a time"] * fewer)


def test_where_the_memory_is_not_known_or_not_here_nothing_is_limited(monkeypatch) -> None:
    """On other systems, and on clusters; but one chunk is one job, which needs no other process."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    assert fitting_jobs(3, RECIPE, CHUNKS, "native", "cpu") == 3
    assert [fitting_jobs(3, RECIPE, CHUNKS[:n], "native", "cpu") for n in (0, 1, 2)] == [1, 1, 2]
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    monkeypatch.setattr(memory, "on_this_machine", lambda: False)
    assert fitting_jobs(3, RECIPE, CHUNKS, "native", "cpu") == 3


def test_a_job_needs_its_process_images_weights_and_checkpoints() -> None:
    """More images, larger batches where they count, more checkpoints and larger networks take more."""

    def needed(engine: str, device: str = "cpu", **changes: object) -> int:
        recipe = Recipe(**{"seeds": range(16), "n_epochs": 1, "checkpoint_epochs": [1], **changes})
        return job_bytes(recipe, chunks_of(recipe, recipe.models(), engine, device), engine, device)

    for engine in ("native", "stacked", "torch"):
        least = needed(engine)
        assert least > 400_000_000
        # 70,000 images of 28 x 28 numbers, against 1,797.
        assert needed(engine, dataset="mnist") - least > 4 * 68_000 * 784
        assert needed(engine, n_epochs=1000, checkpoint_epochs=range(1001)) - least > 4 * 999 * 2464
    assert needed("native", seeds=range(32)) == needed("native")  # two chunks, of which one job has one at a time
    assert needed("torch", batch_size=1000) > needed("torch") + 4 * 900 * 8 * 24 * 24
    residual = {"dataset": "cifar10", "architecture": "resnet18", "grid": {"activation": ["relu"]}, "batch_size": 64}
    # Measured: two steps on batches of 64 take 595 MB, of which 180 MB are the optimizer's and the weights.
    activations = needed("torch", **residual) - needed("torch", **residual | {"batch_size": 1})
    assert 595e6 - 180e6 < activations < 3 * (595e6 - 180e6)
    assert needed("stacked", "cuda", n_epochs=1000, checkpoint_epochs=range(1001)) == needed("stacked", "cuda")


def test_an_architecture_of_ones_own_is_looked_at(monkeypatch) -> None:
    """What its layers put out counts, whatever they are."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture(
        "own", lambda channels, n_classes, *_: torch.nn.Sequential(*(torch.nn.Flatten(), torch.nn.Linear(784, 10)))
    )
    assert memory._outputs(Recipe(architecture="own")) == 784 + 10


def test_free_memory_is_what_the_machine_or_its_container_leaves(tmp_path: Path, monkeypatch) -> None:
    """Of this machine some; in a container no more than its limit, of which kept files can be given back."""
    here = free_bytes("cpu")
    assert here is None or here > 0
    files = {
        "/proc/meminfo": "MemTotal: 900 kB\nMemAvailable:     800 kB\n",
        "/sys/fs/cgroup/memory.max": "500000\n",
        "/sys/fs/cgroup/memory.current": "300000\n",
        "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 50000\n",
    }

    def read(path: Path) -> str:
        if str(path) not in files:
            raise FileNotFoundError(path)
        return files[str(path)]

    monkeypatch.setattr(Path, "read_text", read)
    assert free_bytes("cpu") == 250_000
    files["/sys/fs/cgroup/memory.max"] = "max\n"
    assert free_bytes("cpu") == 800 * 1024
    files.clear()
    assert free_bytes("cpu") is None
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (123, 456))
    assert free_bytes("cuda:0") == 123


def test_runs_and_their_estimates_keep_to_it(monkeypatch) -> None:
    """Where one job fits, one works, in this process."""
    recipe = Recipe(grid={"activation": ["tanh", "relu"]}, seeds=[1], n_epochs=0, name="tiny")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1)
    monkeypatch.setattr(population, "unordered", None)
    monkeypatch.setattr(estimating, "_measured", lambda *_: (16, 1e-3, 1e-4))
    with pytest.warns(UserWarning, match="room for 1 of the 2 jobs"):
        assert len(make_zoo(recipe, n_jobs=2).data) == 2
    with pytest.warns(UserWarning, match="room for 1 of the 2 jobs"):
        assert estimate(recipe, n_jobs=2).n_jobs == 1
