"""Reading the published formats, against ``torch.load`` file by file from the same source in the same run.

Both check what checksums there are; the readers also read the notes of every trial. Promised are five times the
checkpoints per second from a folder and a zip, on one thread, and a peak of anonymous memory at most 300 MB above the
weight matrix.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import time
import types
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch

from conftest import Beside
from zoobench.readers import read_foreign

DATA = Path(__file__).parent.parent / "tests" / "data"
N_MODELS, N_EPOCHS = 100, 11
N_SAMPLES = 3000


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    """A larger experiment out of the files of a real one."""
    with zipfile.ZipFile(DATA / "tune_zoo_digits_uniform.zip") as archive:
        real = {name: archive.read(name) for name in archive.namelist()}
    checkpoints = [content for name, content in real.items() if name.endswith("/checkpoints")]
    notes = {
        kind: [content for name, content in real.items() if name.endswith(f"/{kind}.json")]
        for kind in ("params", "result")
    }
    found = {}
    for model in range(N_MODELS):
        trial = f"experiment/NN_tune_trainable_a5cd6_{model:05d}_{model}_seed={model}_2022-05-20_12-00-00"
        for kind, contents in notes.items():
            found[f"{trial}/{kind}.json"] = contents[model % len(contents)]
        for epoch in range(N_EPOCHS):
            number = (model * N_EPOCHS + epoch) % len(checkpoints)
            found[f"{trial}/checkpoint_{epoch:06d}/checkpoints"] = checkpoints[number]
    return found


@pytest.fixture(scope="module")
def folder(members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "experiment"


@pytest.fixture(scope="module")
def zipped(members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "experiment.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture(scope="module")
def tarred(members: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tar") / "experiment.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A larger preprocessed file out of the samples of a real one."""
    path = tmp_path_factory.mktemp("pt") / "dataset.pt"
    stub_class()
    content = torch.load(DATA / "dataset_digits_seed.pt", weights_only=False)
    for part, share in {"trainset": 0.7, "valset": 0.15, "testset": 0.15}.items():
        dataset, n_samples = content[part], round(N_SAMPLES * share)
        n_real = len(dataset.paths)
        for name in ("data_in", "data_out", "labels_in", "labels_out", "paths", "epochs"):
            values = getattr(dataset, name)
            setattr(dataset, name, [deepcopy(values[i % n_real]) for i in range(n_samples)])
        dataset.paths = [path.with_name(f"{path.name}_{i // n_real}") for i, path in enumerate(dataset.paths)]
        dataset.properties = {
            key: [values[i % n_real] for i in range(n_samples)] for key, values in dataset.properties.items()
        }
    torch.save(content, path)
    return path


def stub_class() -> None:
    """A stand-in for the class of the authors' that the files are pickles of."""
    package = types.ModuleType("checkpoints_to_datasets")
    module = types.ModuleType("checkpoints_to_datasets.dataset_base")
    module.ModelDatasetBase = type("ModelDatasetBase", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, module.__name__: module})


def load_folder(path: Path) -> int:
    states = [torch.load(file, weights_only=True) for file in path.glob("*/checkpoint_*/checkpoints")]
    return len(states)


def load_zip(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/checkpoints")]
        return len([torch.load(io.BytesIO(archive.read(name)), weights_only=True) for name in names])


def load_tar(path: Path) -> int:
    with tarfile.open(path) as archive:
        entries = [entry for entry in archive if entry.name.endswith("/checkpoints")]
        return len([torch.load(archive.extractfile(entry), weights_only=True) for entry in entries])  # type: ignore[arg-type]


def load_preprocessed(path: Path) -> int:
    return sum(len(dataset.paths) for dataset in torch.load(path, weights_only=False).values())


@pytest.mark.parametrize(
    ("source", "baseline", "promised"),
    [
        ("folder", load_folder, 5),
        ("zipped", load_zip, 5),
        ("tarred", load_tar, 5),
        ("preprocessed", load_preprocessed, 1),
    ],
)
def test_checkpoints_per_second(
    source: str,
    baseline: Callable[[Path], int],
    promised: float,
    request: pytest.FixtureRequest,
    benchmark,
    beside: Beside,
) -> None:
    path = request.getfixturevalue(source)
    times = []
    for _ in range(2):
        start = time.perf_counter()
        n_states = baseline(path)
        times.append(time.perf_counter() - start)
    before = min(times)
    contents = benchmark.pedantic(read_foreign, args=(path,), rounds=5, warmup_rounds=1)
    assert len(contents.weights) == n_states
    ratio = before / benchmark.stats.stats.min
    beside(f"read {n_states} checkpoints, {source}", benchmark.stats.stats.min, "torch.load, one by one", before)
    benchmark.extra_info.update(
        states_per_second=round(n_states / benchmark.stats.stats.min),
        torch_states_per_second=round(n_states / before),
        ratio=round(ratio, 1),
    )
    print(f"\n{source}: {benchmark.extra_info}")
    assert ratio >= promised


MEASURE = """
import sys, threading, time
from zoobench.readers import read_foreign

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
contents = read_foreign(sys.argv[1])
peak = max(peak, anonymous())
print(peak - contents.weights.nbytes)
"""


@pytest.mark.parametrize("source", ["folder", "zipped", "tarred", "preprocessed"])
def test_peak_memory(source: str, request: pytest.FixtureRequest) -> None:
    """Read from /proc, so on Linux."""
    path = request.getfixturevalue(source)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    above = int(done.stdout)
    print(f"\n{source}: peak of anonymous memory {above / 1e6:.0f} MB above the matrix")
    assert above < 300e6
