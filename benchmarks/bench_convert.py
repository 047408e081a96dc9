"""Converting a zoo of large networks, against copying the bytes of its files, in the same run.

Twenty-five ResNet-18 networks with random weights, 1.1 GB. Aimed at is half the speed of a copy that is on the disk
when it ends, as a converted zoo is. The zoo's sha256 is computed behind the reader on another core, and on a
processor without instructions for it takes longer than two copies: then conversion takes that time and a third more
at most. Promised are a peak of anonymous memory under 1 GB, and that a converted zoo opens within 50 ms.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Beside
from zoobench.convert import convert
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo

N_MODELS = 25


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of a raw zoo."""
    rng = np.random.default_rng(0)
    layout = WeightLayout.from_architecture("resnet18")
    for model in range(N_MODELS):
        trial = f"experiment/NN_tune_trainable_a5cd6_{model:05d}_{model}_seed={model}_2022-05-20_12-00-00"
        yield f"{trial}/params.json", json.dumps({"seed": model, "model::nlin": "relu"}).encode()
        yield f"{trial}/result.json", json.dumps({"training_iteration": 50, "test_acc": 0.9}).encode()
        tensors = layout.unflatten(rng.standard_normal(layout.n_weights, dtype=np.float32))
        state = {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}
        counts = {name: torch.tensor(9) for name in state if name.endswith("num_batches_tracked")}
        file = io.BytesIO()
        torch.save(state | counts, file)
        yield f"{trial}/checkpoint_000050/checkpoints", file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    for name, content in checkpoints():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "experiment"


@pytest.fixture(scope="module")
def tarred(folder: Path) -> Path:
    path = folder.parent / "experiment.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "experiment")
    return path


@pytest.fixture(scope="module")
def stored(folder: Path) -> Path:
    path = folder.parent / "experiment.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def copy(source: Path, target: Path) -> None:
    """The bytes of a file or of a folder's files in another place, and on the disk."""
    for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if file.is_file():
            place = target / file.relative_to(source.parent)
            place.parent.mkdir(parents=True, exist_ok=True)
            with open(file, "rb") as reader, open(place, "wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())


@pytest.mark.parametrize("source", ["folder", "tarred", "stored"])
def test_speed_against_a_copy(
    source: str, tmp_path: Path, request: pytest.FixtureRequest, benchmark, beside: Beside
) -> None:
    path = request.getfixturevalue(source)
    times = []

    def fresh() -> tuple[tuple[Path, Path], dict[str, object]]:
        # A copy before every round, so that both see the same disk.
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        start = time.perf_counter()
        copy(path, tmp_path / "copy")
        times.append(time.perf_counter() - start)
        shutil.rmtree(tmp_path / "zoo", ignore_errors=True)
        return (path, tmp_path / "zoo"), {}

    benchmark.pedantic(convert, setup=fresh, rounds=2)
    start = time.perf_counter()
    hashlib.sha256(bytes(1 << 28)).digest()
    hashing = (time.perf_counter() - start) * N_MODELS * 44.73e6 / (1 << 28)
    ratio = min(times) / benchmark.stats.stats.min
    beside(f"convert, {N_MODELS} ResNet-18, {source}", benchmark.stats.stats.min, "a copy of the files", min(times))
    benchmark.extra_info.update(
        converted_MB_per_s=round(N_MODELS * 44.73 / benchmark.stats.stats.min),
        copied_MB_per_s=round(N_MODELS * 44.73 / min(times)),
        hashed_MB_per_s=round(N_MODELS * 44.73 / hashing),
        ratio=round(ratio, 2),
    )
    print(f"\n{source}: {benchmark.extra_info}")
    start = time.perf_counter()
    load_zoo(tmp_path / "zoo")
    opened = time.perf_counter() - start
    print(f"{source}: opens in {1e3 * opened:.0f} ms")
    assert opened < 0.05
    assert benchmark.stats.stats.min <= max(2 * min(times), 4 / 3 * hashing)


MEASURE = """
import sys, threading, time
from zoobench.convert import convert

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
convert(sys.argv[1], sys.argv[2])
print(max(peak, anonymous()))
"""


@pytest.mark.parametrize("source", ["folder", "tarred", "stored"])
def test_peak_memory(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Read from /proc, so on Linux."""
    path = request.getfixturevalue(source)
    command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "zoo")]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(f"\n{source}: peak of anonymous memory {peak / 1e6:.0f} MB")
    assert peak < 1e9
