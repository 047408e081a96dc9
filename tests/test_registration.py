"""Architectures of a user's own: reproducible in threads, as the user wrote them, and trained again when edited."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from torch import nn

from zoobench.generators import population, register_architecture, registration
from zoobench.generators.code_digest import code_digest
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe
from zoobench.generators.training import one_thread
from zoobench.store import read_index

RECIPE = {"architecture": "own", "seeds": [1, 2, 3], "n_epochs": 1, "batch_size": 50, "name": "tiny"}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., nn.Module]], None]:
    """Registers an architecture as "own", in place of an earlier one: as in a session that starts anew."""

    def anew(build: Callable[..., nn.Module]) -> None:
        monkeypatch.setattr(registration, "_REGISTERED", {})
        register_architecture("own", build)

    return anew


def dropping(share: float) -> Callable[..., nn.Module]:
    """A network that draws from torch's global generator, when it is built and when it is trained."""

    def build(channels: int, n_classes: int, activation: str, dropout: float) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Dropout(share), nn.Linear(channels * 784, n_classes))

    return build


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_train_what_one_trains(register) -> None:
    """With dropout from the global generator, which all threads share: the same bits, and the generator as it was."""
    register(dropping(0.5))
    recipe = Recipe(**RECIPE)
    alone = make_zoo(recipe)
    before, n_threads = torch.get_rng_state(), torch.get_num_threads()
    with joblib.parallel_config(backend="threading", n_jobs=3):
        zoo = make_zoo(recipe)
    assert zoo.data.tobytes() == alone.data.tobytes()
    assert zoo.properties.equals(alone.properties)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == n_threads


def test_overlapping_threads_leave_torchs_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes second finds one thread, and must not take that for what was there before."""
    numbers = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    first, second = one_thread(), one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert numbers == [4, 1, 1, 4, 4]


# -- edits -------------------------------------------------------------------------------------------------------------


def test_a_worker_builds_what_it_is_sent(register) -> None:
    """A long-lived worker that has met another network of that name takes the one that came with the recipe."""

    def build(channels: int, n_classes: int, activation: str, dropout: float) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * 784, 3), nn.Linear(3, n_classes))

    register(build)
    sent = cloudpickle.dumps(Recipe(**RECIPE))
    register(dropping(0.5))
    assert Recipe(**RECIPE).layout.n_weights == 7850
    assert cloudpickle.loads(sent).layout.n_weights == 784 * 3 + 3 + 40


def test_what_an_edited_function_would_train_differently_is_trained_again(register, tmp_path: Path) -> None:
    """Finished models of the same code are kept, after an edit none; a whole zoo is not taken for the new one."""
    out, trained, real = tmp_path / "zoo", [], population._train_chunk

    def run(share: float, *, last: int = 3, **options: Any) -> Any:
        """In a session of its own, in which so many models are trained until it is interrupted."""
        register(dropping(share))
        trained.clear()

        def counted(recipe: Recipe, models: list[Any], *others: Any) -> Any:
            if len(trained) == last:
                raise KeyboardInterrupt
            trained.append(models[0].seed)
            return real(recipe, models, *others)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(population, "_train_chunk", counted)
            return make_zoo(Recipe(**RECIPE), out=out, **options)

    with pytest.raises(KeyboardInterrupt):
        run(0.5, last=1)
    with pytest.raises(KeyboardInterrupt):
        run(0.5, last=1)
    assert trained == [2]
    zoo = run(0.25)
    assert trained == [1, 2, 3]
    assert np.array_equal(zoo.data, make_zoo(Recipe(**RECIPE)).data)
    before = read_index(out)["provenance"]["architecture_code"]
    run(0.25)
    assert trained == []
    with pytest.raises(ValueError, match="another architecture 'own': the function that builds it has changed"):
        run(0.5)
    run(0.5, resume=False)
    assert trained == [1, 2, 3]
    assert read_index(out)["provenance"]["architecture_code"] != before


def test_zoos_of_named_architectures_say_nothing_of_code(tmp_path: Path) -> None:
    """Their code is the library's."""
    make_zoo(Recipe(seeds=[1], n_epochs=0), out=tmp_path / "zoo")
    assert "architecture_code" not in read_index(tmp_path / "zoo")["provenance"]


# -- the digest of code ------------------------------------------------------------------------------------------------

CODE = """
import math
SLOPE = 0.1
KINDS = {"a", "b", "c"}

class Base:
    def forward(self, x):
        return math.exp(x) * SLOPE

class Net(Base):
    width: int = 3

    @staticmethod
    def kind(name):
        return name in {"x", "y", "z"}

    @property
    def size(self):
        return self.width

def helper(n, times=2):
    return [Net() for _ in range(n * times)]

def build(channels, n_classes, activation, dropout, *, KINDS=KINDS):
    return helper(n_classes) if Net.kind(activation) else None
"""


def digest_of(code: str) -> str:
    names: dict[str, Any] = {"__name__": "a_users_module"}
    exec(compile(code, "a_users_module.py", "exec"), names)
    return code_digest(names["build"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SLOPE = 0.1", "SLOPE = 0.2"),  # a constant that a method of a base names
        ("math.exp", "math.expm1"),
        ("width: int = 3", "width: int = 4"),
        ("times=2", "times=3"),
        ('{"x", "y", "z"}', '{"x", "y"}'),
        ('{"a", "b", "c"}', '{"a", "b"}'),
        ("range(n * times)", "range(n + times)"),
        ("return self.width", "return 2 * self.width"),
        ("class Net(Base):", "class Net:"),
        ("helper(n_classes)", "helper(channels)"),
    ],
)
def test_edits_change_the_digest(before: str, after: str) -> None:
    """Of whatever the function leads to."""
    assert CODE.count(before) == 1
    assert digest_of(CODE.replace(before, after)) != digest_of(CODE)


STATEFUL = """
import functools
COUNT = 0
CHOICES = {len, abs}

def helper(n):
    return n

def other(n):
    return -n

HELPERS = {helper, other}

@functools.lru_cache
def cached(n):
    return n + 1

class Net:
    @functools.cached_property
    def size(self):
        return 4

def count():
    global COUNT
    COUNT += 1

def build(channels, n_classes, activation, dropout):
    class Inner:
        width = 5
    def forward(x, y):
        return x if COUNT else y
    count()
    return [pick(cached(n_classes)) for pick in HELPERS], CHOICES, forward, Inner, Net
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return n + 1", "return n + 2"),  # behind a cache
        ("return 4", "return 6"),  # of a property that is cached
        ("return -n", "return 3 * n"),  # one of a set of functions
        ("{len, abs}", "{len, max}"),
        ("width = 5", "width = 6"),
        ("forward(x, y)", "forward(x, *, y)"),
        ("x if COUNT else y", "y if COUNT else x"),
    ],
)
def test_edits_behind_caches_and_in_sets_change_the_digest(before: str, after: str) -> None:
    """Of what is wrapped, of what is in a set, and of how arguments are passed."""
    assert STATEFUL.count(before) == 1
    assert digest_of(STATEFUL.replace(before, after)) != digest_of(STATEFUL)


def test_a_run_changes_no_digest() -> None:
    """Filled caches and a counter are no edits, and neither is that functions lie elsewhere in memory."""
    names: dict[str, Any] = {"__name__": "a_users_module"}
    exec(compile(STATEFUL, "a_users_module.py", "exec"), names)
    before = code_digest(names["build"])
    names["build"](1, 10, "relu", 0.0)
    names["build"](1, 11, "relu", 0.0)
    assert names["COUNT"] == 2
    assert code_digest(names["build"]) == before == digest_of(STATEFUL)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("def helper(n):", 'def helper(n):\n    """It helps."""'),
        ("    class Inner:", '    class Inner:\n        """It is inside."""'),
        ("class Net:", 'class Net:\n    """A network."""'),
        ("    def forward(x, y):", '    def forward(x, y):\n        """One or the other."""'),
    ],
)
def test_docstrings_are_no_edits(before: str, after: str) -> None:
    """One that is added, and one that is changed."""
    documented = STATEFUL.replace(before, after)
    assert digest_of(documented) == digest_of(documented.replace('"""', '"""Really: ', 1)) == digest_of(STATEFUL)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SLOPE = 0.1", "# the slope\n\nSLOPE = 0.1"),
        ("import math", "import math\nUNUSED = 3"),
        ("def build", "\n\ndef build"),
    ],
)
def test_what_is_no_edit_of_it_does_not(before: str, after: str) -> None:
    """Comments, lines, and what it does not use."""
    assert digest_of(CODE.replace(before, after)) == digest_of(CODE)


def test_each_process_finds_the_same_digest(tmp_path: Path) -> None:
    """Compiled now or read from the cache of an earlier run, whatever the order of sets."""
    (tmp_path / "a_users_module.py").write_text(CODE)
    script = (
        "from a_users_module import build; from zoobench.generators.code_digest import code_digest;"
        "print(code_digest(build))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": ""},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in "123"
    }
    assert len(found) == 1
    assert list(tmp_path.rglob("*.pyc"))


def test_what_can_be_called_has_a_digest() -> None:
    """Partial functions, methods and objects; what they enclose tells them apart."""
    from functools import partial

    class Builder:
        def __init__(self, width: int, array: np.ndarray | None = None) -> None:
            self.width, self.array, self.me = width, array, self

        def __call__(self) -> int:
            return self.width

    def power(x: int, y: int) -> int:
        return x**y

    things = [
        *(Builder(3), Builder(4), Builder(4, np.arange(3)), Builder(4, np.arange(4)), Builder(3).__call__, Builder),
        *(
            power,
            partial(power, 2),
            partial(power, 3),
            partial(power, y=2),
            lambda x: power(x, 2),
            lambda x: power(x, 3),
        ),
        *(nn.Linear, nn.Conv2d, partial(nn.Linear, 3)),
    ]
    assert len({code_digest(thing) for thing in things}) == len(things)
    assert code_digest(Builder(4, np.arange(4))) == code_digest(Builder(4, np.arange(4)))


# -- registering again -------------------------------------------------------------------------------------------------

CELL = """
from torch import nn
def build(channels, n_classes, activation, dropout):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 784, n_classes))
"""


def run_cell(code: str) -> Callable[..., nn.Module]:
    """What a cell of a notebook defines, each time anew."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "cell", "exec"), names)
    return names["build"]


def test_a_cell_may_be_run_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As it was, and the zoo is there; edited, and it is the new network, for which the old zoo is not given out."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture("own", run_cell(CELL))
    recipe = Recipe(**RECIPE | {"n_epochs": 0, "seeds": [1]})
    zoo = make_zoo(recipe, out=tmp_path / "zoo")
    register_architecture("own", run_cell(CELL))
    assert np.array_equal(make_zoo(recipe, out=tmp_path / "zoo").data, zoo.data)
    register_architecture("own", run_cell(CELL.replace("n_classes))", "3), nn.Linear(3, n_classes))")))
    assert recipe.layout.n_weights == 784 * 3 + 3 + 40
    with pytest.raises(ValueError, match="the function that builds it has changed"):
        make_zoo(recipe, out=tmp_path / "zoo")


def test_another_function_takes_a_name_only_if_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """That two have one name may be an oversight; a named architecture stays what it is."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture("own", run_cell(CELL))
    other = dropping(0.5)
    with pytest.raises(ValueError, match=r"'own' already, registered with __main__.build, and not with .*; choose"):
        register_architecture("own", other)
    register_architecture("own", other, overwrite=True)
    assert registration.registered("own").build is other
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="'cnn_s' already, a named one; choose another name"):
            register_architecture("cnn_s", other, overwrite=overwrite)


@pytest.mark.parametrize("channels", [1, [1, 3], (1, 3), range(1, 2), np.array([1, 3]), np.int64(1), None])
def test_channels_may_be_any_sequence(monkeypatch: pytest.MonkeyPatch, channels: Any) -> None:
    """A list as well as a tuple, in a recipe and in training."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture("own", dropping(0.5), channels=channels)
    assert Recipe(**RECIPE).layout.n_weights == 7850


@pytest.mark.parametrize("channels", [0, [], [1, "3"], "13", 1.0, True, [None]])
def test_channels_that_are_none_are_said(monkeypatch: pytest.MonkeyPatch, channels: Any) -> None:
    """When the architecture is registered, not when it is used."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    with pytest.raises(ValueError, match="channels must be a positive whole number or several of them, not "):
        register_architecture("own", dropping(0.5), channels=channels)


def test_what_builds_need_not_be_hashable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of a dataclass, which is compared by its content."""

    @dataclass
    class Builder:
        share: float

        def __call__(self, *settings: Any) -> nn.Module:
            return dropping(self.share)(*settings)

    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture("own", Builder(0.5))
    register_architecture("own", Builder(0.25))
    assert Recipe(**RECIPE).layout.n_weights == 7850
