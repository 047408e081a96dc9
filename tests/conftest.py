"""What every test relies on: one thread, repeatable examples, a data folder of its own, no network unless asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

# Before numpy and torch load: the suite runs in several processes, whose threads would only get in each other's way.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

# The same examples in each run, and no clock: whether the suite passes must not depend on luck or on a busy machine.
hypothesis.settings.register_profile(
    "zoobench", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("zoobench")

_DATA_HOME = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--network", action="store_true", help="run also the tests that need the internet")


def pytest_configure(config: pytest.Config) -> None:
    # Doctests and fixtures of a wider scope than one test must not write into the user's data folder either.
    config.stash[_DATA_HOME] = os.environ["ZOOBENCH_DATA"] = tempfile.mkdtemp(prefix="zoobench-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_DATA_HOME], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = set() if config.getoption("--network") else {"network"}
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "").split()[:1] or ["c++", "g++", "clang++"])):
        without.add("compiler")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        without.add("browser")
    kept = [item for item in items if not any(item.get_closest_marker(name) for name in without)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # Bytes may hold a time (gzip's header does), and the workers of one run have to agree on the names of the tests.
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real files that come with the tests."""
    return Path(__file__).parent / "data"


@pytest.fixture(autouse=True)
def data_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, which ``get_data_home()`` finds during the test."""
    path = tmp_path_factory.mktemp("zoobench_data")
    monkeypatch.setenv("ZOOBENCH_DATA", str(path))
    return path
