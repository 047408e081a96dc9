"""The zoobench command: what users see, and how it fails."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zoo_samples import sample_contents
from zoobench.cli import _parser, main
from zoobench.datasets_registry import read_cards
from zoobench.store import write_zoo


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    try:
        code = main([str(a) for a in argv])
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_list_and_info(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Both print what the zoos are, by name and by path."""
    code, out, _ = run(capsys, "list")
    bundled = [card.name for card in read_cards().values() if card.bundled]
    assert (code, out.count("digits_cnn_s")) == (0, len(bundled))
    code, out, _ = run(capsys, "info", "digits_cnn_s")
    assert code == 0
    for text in ("200 models", "CC-BY-4.0", "module_list.0", "8x1x5x5", "test_acc"):
        assert text in out
    code, out, _ = run(capsys, "info", write_zoo(tmp_path / "zoo", sample_contents()))
    assert code == 0
    assert "60 states of 20 models" in out


def test_convert_then_table(capsys: pytest.CaptureFixture[str], data_dir: Path, tmp_path: Path) -> None:
    """A published file becomes a zoo folder, which gives a table; so does the file itself."""
    out_folder = tmp_path / "zoo"
    code, out, _ = run(capsys, "convert", data_dir / "tune_zoo_digits_uniform.zip", out_folder, "--epochs", "1,5,10")
    assert (code, "120 states of 40 models" in out) == (0, True)
    code, out, _ = run(capsys, "check", out_folder)
    assert code == 0
    code, out, _ = run(capsys, "table", out_folder, "--format", "csv")
    assert code == 0
    assert out.startswith("features,property,metric,train,val,test\nweights,test_acc,R2,")
    code, out, _ = run(
        capsys, "table", data_dir / "dataset_digits_seed.pt", "--features", "statistics", "--format", "markdown"
    )
    reference = json.loads((data_dir / "reference_results_seed.json").read_text())
    assert f"**{reference['statistics']['test_acc']['test']:.3f}**" in out


def test_table_shows_what_hyperparameters_tell_where_they_vary(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without options, a zoo of two activations has a table with their row, and a zoo of seeds has one without."""
    varied, always = write_zoo(tmp_path / "zoo", sample_contents(epochs=(50,))), ["weights", "statistics"]
    for zoo, features in ((varied, [*always, "hyperparameters"]), ("digits_cnn_s", always)):
        code, out, _ = run(capsys, "table", zoo, "--epochs", "50", "--format", "csv")
        assert code == 0
        assert list(dict.fromkeys(line.split(",")[0] for line in out.splitlines()[1:])) == features


def test_main_job_prints_a_table_and_keeps_records(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`zoobench run`: the ranking, scores with intervals, a record each, and the page, of which it says the place."""
    argv = ["run", "--tasks", "digits_cnn_s_seed/ggap", "--methods", "dummy", "statistics_ridge", "--out", tmp_path]
    code, out, _ = run(capsys, *argv)
    assert code == 0
    assert out.index("statistics_ridge") < out.index("dummy")
    for text in ("mean rank", "win rate", "digits_cnn_s_seed, cv-5x1", "ggap (R²)", " ±", str(tmp_path / "index.html")):
        assert text in out
    record = json.loads((tmp_path / "digits_cnn_s_seed/ggap/cv-5x1/statistics_ridge.json").read_text())
    assert len(record["scores"]["r2"]) == 5
    assert run(capsys, *argv)[1] == out
    (tmp_path / "index.html").rename(tmp_path / "before.html")
    assert run(capsys, "report", tmp_path)[0] == 0
    assert (tmp_path / "index.html").read_text() == (tmp_path / "before.html").read_text()


def test_ones_own_method_joins_by_one_option(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A class of a file stands in table and page; one that fails is named there and on stderr: exit code 1."""
    (tmp_path / "own.py").write_text(
        "from sklearn.linear_model import Ridge\n\nclass Own(Ridge):\n    pass\n\n"
        "class Broken(Ridge):\n    def predict(self, X):\n        raise RuntimeError('no such layer')\n"
    )
    argv = ["run", "--tasks", "digits_cnn_s_seed/ggap", "--methods", "dummy", "--method", f"{tmp_path}/own.py:Own"]
    code, out, _ = run(capsys, *argv, "--out", tmp_path / "store")
    assert code == 0
    assert "Own" in out
    code, out, err = run(capsys, *argv, "--method", f"{tmp_path}/own.py:Broken", "--out", tmp_path / "store")
    assert code == 1
    assert "Broken failed on digits_cnn_s_seed/ggap/cv-5x1: RuntimeError: no such layer" in out
    assert "1 of 3 results failed; the first is Broken on digits_cnn_s_seed/ggap/cv-5x1: RuntimeError" in err
    page = (tmp_path / "store/index.html").read_text()
    assert "Own" in page
    assert "no such layer" in page


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["info", "digit_cnn_s"], 2, "unknown zoo 'digit_cnn_s'; did you mean"),
        (["list", "--dataset", "x"], 2, "no zoo has dataset 'x'"),
        (["info", "no/such/path"], 1, "there is no file or folder"),
        (["convert", "no/such/path", "out"], 1, "there is no file or folder"),
        (["table", "digits_cnn_s", "--epochs", "4"], 2, "no epoch 4; it has epochs 5, 25, 50"),
        (["table", "digits_cnn_s", "--epochs", "x"], 2, "neither 'last' nor numbers"),
        (["table", "digits_cnn_s", "--features", "hyperparameters"], 2, "hyper-parameters"),
        (["run", "--tasks", "nothing/test_acc"], 2, "unknown zoo"),
        (["run", "--tasks", ""], 2, "'' names no zoo; a task is written zoo/property or zoo/property/protocol"),
        (["run", "--tasks", 5000 * "a"], 2, "aaa...' of 5000 letters is too long for a zoo or a task"),
        (["run", "--tasks", "digits_cnn_s/test_ac"], 2, "did you mean 'test_acc'?"),
        (["run", "--methods", "statistics_rigde"], 2, "did you mean 'statistics_ridge'?"),
        (["run", "--protocol", "vc"], 2, "unknown protocol 'vc'; there are cv"),
        (["report", "nowhere"], 1, "there is no folder nowhere with records"),
        (["generate", "nothing"], 2, "nothing"),
        (["generate", "digits_cnn_s_seed", "--device", "tpu", "--out", "x"], 2, "device 'tpu'"),
        (["check", "."], 1, "zoo.json"),
        ([], 2, "usage"),
        (["nonsense"], 2, "invalid choice"),
    ],
)
def test_every_error_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    code: int,
    message: str,
) -> None:
    """Wrong arguments exit with 2, failures with 1; the message is on stderr, and never a traceback."""
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, *argv)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


@pytest.mark.parametrize("name", subcommands())
def test_help_explains_every_argument(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Each subcommand says what it is for and what each of its arguments does."""
    code, out, err = run(capsys, name, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: zoobench {name}")
    parser = subcommands()[name]
    said = " ".join(out.split())
    assert parser.description and parser.description[:40] in said
    for action in parser._actions:
        assert action.help, action
        for option in action.option_strings:
            assert option in said


@pytest.mark.parametrize("name", subcommands())
def test_unknown_option_is_named(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A misspelt option is wrong usage: exit code 2, how it is used, and what was wrong."""
    needed = ["x" for action in subcommands()[name]._actions if not action.option_strings and action.nargs != "*"]
    code, out, err = run(capsys, name, *needed, "--no-such-option")
    assert (code, out) == (2, "")
    assert err.startswith("usage: zoobench")
    assert err.endswith("error: unrecognized arguments: --no-such-option\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["info"], "the following arguments are required: ZOO"),
        (["convert", "a"], "the following arguments are required: OUT"),
        (["report"], "the following arguments are required: FOLDER"),
        (["list", "--format", "xml"], "--format: invalid choice: 'xml'"),
        (["run", "--n-jobs", "two"], "--n-jobs: invalid int value: 'two'"),
        (["run", "--tasks"], "--tasks: expected at least one argument"),
        (["sparsify", "digits_cnn_s", "--method", "luck"], "--method: invalid choice: 'luck'"),
        (["sparsify", "digits_cnn_s", "--checkpoint-epochs", "a"], "'a' is no list of numbers such as 1,5,25"),
        (["analyze", "digits_cnn_s", "--measures", "size"], "--measures: invalid choice: 'size'"),
        (["check", "--update", "half"], "--update: invalid choice: 'half'"),
        (["check", "a_zoo", "--update"], "error: --update is for what is bundled; give it without PATH"),
        (["check", "--sources", "--update", "tables"], "--update is for what is bundled; give it without --sources"),
        (["run", "--all", "--methods", "dummy"], "--methods: not allowed with argument --all"),
    ],
)
def test_wrong_usage_says_what_is_wrong(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    """Exit code 2, the subcommand's usage, and one line that names the argument."""
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"usage: zoobench {argv[0]}")
    assert message in err.splitlines()[-1]


def test_check_finds_a_changed_zoo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One changed byte makes `zoobench check` fail and name the file."""
    folder = write_zoo(tmp_path / "zoo", sample_contents())
    path = next(folder.glob("weights-*"))
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    code, _, err = run(capsys, "check", folder)
    assert code == 1
    assert path.name in err


def test_generate_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    """What a recipe would train is said before anything is trained."""
    code, out, _ = run(capsys, "generate", "digits_cnn_s_seed", "--dry-run")
    assert code == 0
    assert out.startswith("200 models of 50 epochs, 600 states to keep\n1,100,000 steps in all, ")


def test_generate_explains_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every option with its default, and what may be in the folder."""
    code, out, _ = run(capsys, "generate", "--help")
    assert code == 0
    said = " ".join(out.split())
    for text in (
        "RECIPE a recipe's name, or the path of a TOML file",
        "--out FOLDER folder for the zoo: new, empty, or what an interrupted run left",
        "(default: the recipe's name, or that of its file, in this folder)",
        "(default: auto: cuda, if any)",
        "-1: as many as there are cores",
        "--start-afresh train again what an earlier run has finished",
        "--dry-run train nothing; say what it would cost",
    ):
        assert text in said


def test_generate_names_models_that_diverged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """On stderr; the zoo is written all the same."""
    recipe = tmp_path / "wild.toml"
    grid = 'optimizer = ["sgd"]\nactivation = ["relu"]\ninit = ["normal"]\nlr = [1e6]\n'
    recipe.write_text(f"seeds = [1, 2]\nn_epochs = 1\nbatch_size = 500\n[grid]\n{grid}")
    code, out, err = run(capsys, "generate", recipe, "--out", tmp_path / "zoo")
    assert code == 0
    assert "2 states of 2 models" in out
    assert "zoobench: 2 of 2 models of wild diverged: 'seed=1', 'seed=2'; their states are stored" in err


def test_generate_trains_a_zoo(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A recipe file of one's own becomes a zoo folder; a second run finds it done."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text('dataset = "digits"\narchitecture = "cnn_s"\nseeds = [1, 2]\nn_epochs = 1\nbatch_size = 100\n')
    for _ in range(2):
        code, out, _ = run(capsys, "generate", recipe, "--out", tmp_path / "zoo")
        assert code == 0
        assert "4 states of 2 models" in out


def test_pipe_that_is_closed_early() -> None:
    """`zoobench list | head -1` ends quietly."""
    script = f"{sys.executable} -m zoobench info digits_cnn_s | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("digits_cnn_s_seed")


def test_interrupt_is_no_traceback(tmp_path: Path) -> None:
    """Ctrl-C during training ends soon, says that work is kept, and the next run goes on."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'dataset = "digits"\narchitecture = "cnn_s"\nseeds = [1, 2, 3, 4]\nn_epochs = 200\nbatch_size = 10\n'
    )
    # Whoever runs the tests in the background may have told them, and so their children, to ignore Ctrl-C.
    script = (
        "import signal, sys; from zoobench.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "generate", str(recipe), "--out", str(tmp_path / "zoo")],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while not (tmp_path / "zoo" / ".models").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
