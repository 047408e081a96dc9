"""Runs of the generators: killed and interrupted at any moment, and what they show while they train."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from zoobench.generators import progress as progress_module
from zoobench.generators.population import make_zoo
from zoobench.generators.progress import Progress
from zoobench.generators.recipes import Recipe
from zoobench.generators.training import METRICS, TrainedModel
from zoobench.store import is_zoo

#: Kills a run at random moments, one after the other, each in a folder of its own; then lets each go on to its end.
#: Runs are forks of one process that has everything loaded, so that the moments lie in the training, on few images.
KILLS = """
import json, os, random, signal, sys, time
from dataclasses import replace
from pathlib import Path
from zoobench.generators import Recipe, make_zoo, population
from zoobench.generators.compiling import NoEngineError, load_library
from zoobench.generators.images import load_images

recipe, folder, wanted = Recipe.from_dict(json.loads(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
try:
    load_library()
except NoEngineError:
    pass
digits, parts = load_images("digits"), ("train", "val", "test")
few = {name: getattr(digits, name)[:100] for part in parts for name in (part, f"{part}_labels")}
population._images = lambda *_: replace(digits, **few)
make_zoo(Recipe(seeds=[1], n_epochs=0))

def run(out, after=None):
    process = os.fork()
    if not process:
        make_zoo(recipe, out=out)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]

begin = time.monotonic()
assert run(folder / "whole") == 0
lasts = time.monotonic() - begin
moments, found = random.Random(0), []
for attempt in range(10 * wanted):
    out = folder / str(attempt)
    if os.WIFSIGNALED(run(out, moments.uniform(0, lasts))):
        found.append(len(list(out.glob(".models/*.npz"))))
        assert run(out) == 0
        print(out)
    if len(found) == wanted:
        break
print(found, file=sys.stderr)
"""


@pytest.mark.slow
def test_runs_killed_at_five_random_moments_give_the_uninterrupted_zoo(tmp_path: Path) -> None:
    """`kill -9` at five random moments, then the same command: the files of the zoo are the same, byte for byte."""
    grid = {"activation": ["tanh", "relu", "gelu", "sigmoid"], "dropout": [0.2]}
    recipe = Recipe(grid=grid, seeds=[1, 2], n_epochs=2, batch_size=20, name="killed")
    command = [sys.executable, "-c", KILLS, json.dumps(recipe.to_dict()), str(tmp_path), "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    folders = [Path(line) for line in done.stdout.split()]
    assert len(folders) == 5

    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}

    whole = files(tmp_path / "whole")
    assert len(whole) == 3
    for folder in folders:
        assert files(folder) == whole
        assert not (folder / ".models").exists()


def test_what_a_kill_left_beside_a_finished_zoo_is_removed(tmp_path: Path) -> None:
    """Models and weights that outlived the writing of the zoo go at the next call."""
    recipe, out = Recipe(seeds=[1], n_epochs=0, name="tiny"), tmp_path / "zoo"
    expected = make_zoo(recipe, out=out)
    (out / ".models").mkdir()
    (out / ".models" / "left.npz").write_bytes(b"0")
    (out / ".assembling").write_bytes(b"0")
    assert np.array_equal(make_zoo(recipe, out=out).data, expected.data)
    assert not (out / ".models").exists()
    assert not (out / ".assembling").exists()


@pytest.mark.slow
def test_ctrl_c_ends_workers_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """With two processes in the midst of their work: it ends soon, without a traceback, and finished models stay."""
    recipe = tmp_path / "many.toml"
    # Forty chunks: the interrupt comes when the first of them is finished.
    recipe.write_text(
        "seeds = [1]\nn_epochs = 2\n[grid]\n"
        f'activation = ["tanh", "relu", "gelu", "sigmoid"]\nbatch_size = {list(range(30, 40))}\n'
    )
    out = tmp_path / "zoo"
    # Whoever runs the tests in the background may have told them, and so their children, to ignore Ctrl-C.
    script = (
        "import signal, sys; from zoobench.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "generate", str(recipe), "--out", str(out), "--n-jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (finished := list(out.glob(".models/*.npz"))) and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was interrupted"
        time.sleep(0.05)
    # To all processes of the terminal, as the keyboard does it.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "zoobench: interrupted; what was finished is kept" in said
    assert finished
    assert {path.name for path in finished} <= {path.name for path in out.glob(".models/*.npz")}
    assert not is_zoo(out)


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


RECIPE = Recipe(seeds=[1, 2, 3, 4], n_epochs=10, name="tiny")


def result(accuracy: float) -> TrainedModel:
    return TrainedModel(np.zeros((11, 1), np.float32), np.full((11, len(METRICS)), accuracy))


def test_progress_shows_models_epochs_accuracy_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs move the bar before a model is finished, and finished models are counted whole, however many were seen."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(RECIPE, n_finished=1) as progress:
        assert "training tiny:  25%" in str(progress._bar)
        progress.watch(2, 0, 0.1)
        assert "1/4 models" in str(progress._bar)
        for epoch in range(1, 6):
            progress.watch(2, epoch, 0.7512)
        shown = str(progress._bar)
        assert "50%" in shown and "2/4 models" in shown
        assert "epoch=5/10, test_acc=0.751" in shown
        assert "<" in shown  # elapsed<left
        progress.finished([result(0.8), result(0.9)])
        assert "3/4 models" in str(progress._bar)
        assert "test_acc=0.850" in str(progress._bar)
        progress.finished([result(0.1)])
        assert "100%" in str(progress._bar) and "test_acc=0.800" in str(progress._bar)


def test_progress_shows_what_other_processes_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs and accuracies of all chunks in work move the bar; copies of models do not count."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    _, two, three, four = RECIPE.models()
    with Progress(RECIPE, n_finished=1) as progress:
        # Pickled, as on their way to a worker.
        pair, copies = (pickle.loads(pickle.dumps(progress.reporter(chunk))) for chunk in ([two, three], [four] * 3))
        pair(2, 0, 0.1)
        for epoch in range(1, 6):
            pair(2, epoch, 0.25)
        copies(3, 1, 0.75)
        progress._look()
        shown = str(progress._bar)
        # One is finished, two are half done, and a tenth of the last: 2.1 of 4.
        assert "52%" in shown and "2/4 models" in shown
        assert "epoch=1-5/10, test_acc=0.500" in shown
        progress.finished([result(0.8), result(0.9)], first=two.name)
        assert "78%" in str(progress._bar) and "test_acc=0.850" in str(progress._bar)
        progress._look()
        assert "78%" in str(progress._bar) and "epoch=1/10, test_acc=0.750" in str(progress._bar)
        folder = copies.path.parent
        assert folder.is_dir()
    assert not folder.exists()
    # As on a machine of a cluster that has no such folder: nothing is told, and nothing fails.
    copies(3, 2, 0.5)


def test_nothing_is_told_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a log there is no bar, and workers write nothing."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(RECIPE, n_finished=0) as progress:
        assert progress.reporter(RECIPE.models()) is None


def test_a_run_of_several_jobs_shows_epochs_and_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """While chunks are in work, what they have come to is on the bar."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress_module, "_INTERVAL", 0.01)
    tell = progress_module.Report.__call__

    def slow(report: progress_module.Report, n_models: int, epoch: int, accuracy: float) -> None:
        tell(report, n_models, epoch, accuracy)
        deadline = time.monotonic() + 60
        while epoch and "epoch=1/1, test_acc=0." not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)

    monkeypatch.setattr(progress_module.Report, "__call__", slow)
    recipe = Recipe(grid={"activation": ["tanh", "relu"]}, seeds=[1], n_epochs=1, batch_size=500, name="tiny")
    with joblib.parallel_config(backend="threading"):
        make_zoo(recipe, n_jobs=2)
    assert "epoch=1/1, test_acc=0." in terminal.getvalue()
    assert "2/2 models" in terminal.getvalue()


def test_a_run_shows_its_bar_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a log there are no bars; on a terminal, one, which ends full."""
    recipe = Recipe(seeds=[1, 2], n_epochs=1, batch_size=500, name="tiny")
    log, terminal = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stderr", log)
    make_zoo(recipe)
    assert log.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", terminal)
    make_zoo(recipe)
    assert "training tiny: 100%" in terminal.getvalue()
    assert "2/2 models" in terminal.getvalue()
