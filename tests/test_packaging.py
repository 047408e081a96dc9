"""What is built and installed is what stands in the tree: all of it, and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import zoobench

ROOT = Path(__file__).parent.parent

#: Folder at the root -> where it lies in a wheel.
FOLDERS = {
    "zoobench": PurePosixPath("zoobench"),
    "estimators": PurePosixPath("zoobench/estimators"),
    "generators": PurePosixPath("zoobench/generators"),
    "datasets_registry": PurePosixPath("zoobench/datasets_registry"),
}

#: Quick tests of every kind: of code alone, of files in tests/data, of data in the package.
QUICK_TESTS = ("test_layout.py", "test_zoo.py", "test_registry.py", "test_fetch.py")


def normalised(requirement: str) -> str:
    """Name of a requirement, as package indices compare it."""
    return re.sub("[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def in_tree() -> dict[str, str]:
    """Every file of the four folders: the path that it has in a wheel -> the path in the tree."""
    found = {}
    for folder, target in FOLDERS.items():
        for directory, _, names in os.walk(ROOT / folder):  # does not follow the links in zoobench/
            inside = Path(directory).relative_to(ROOT / folder).as_posix()
            for name in names:
                if not name.startswith(".") and not name.endswith((".pyc", ".md")):
                    path = PurePosixPath(inside) / name
                    found[str(target / path)] = str(folder / path)
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    # From a copy: what an earlier build left in the tree could end up in the wheel.
    source = tmp_path_factory.mktemp("source") / "zoobench"
    left_out = shutil.ignore_patterns(
        ".git", ".venv", "build", "_build", "dist", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, source, symlinks=True, ignore=left_out)
    target = tmp_path_factory.mktemp("built")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(source)],
        capture_output=True,
        text=True,
        cwd=target,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked_sdist(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = built.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def test_wheel_holds_exactly_the_four_folders(wheel: Path) -> None:
    """Every module and data file of the tree is in the wheel, and no other: no tests, no second copy through a link."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    packaged = {name for name in names if ".dist-info/" not in name}
    assert packaged == set(in_tree())


def test_zoobench_is_the_only_name_that_is_installed(wheel: Path) -> None:
    """Installing claims no top-level name but zoobench: nobody else's `estimators` or `tests` is overwritten."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"zoobench"}


def test_wheel_carries_licences_command_and_types(wheel: Path) -> None:
    """The wheel says its licences, installs the `zoobench` command and declares that it is typed."""
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert {PurePosixPath(name).name for name in names if "/licenses/" in name} == {"LICENSE", "LICENSE-DATA"}
    assert "zoobench/py.typed" in names
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "zoobench = zoobench.cli:main" in archive.read(entry_points).decode()


def test_sdist_holds_what_is_needed_to_build_and_test(unpacked_sdist: Path) -> None:
    """Whoever has the sdist has the sources, each once and without links, the tests with their data, and the papers."""
    files = {path.relative_to(unpacked_sdist).as_posix() for path in unpacked_sdist.rglob("*") if path.is_file()}
    assert not any(path.is_symlink() for path in unpacked_sdist.rglob("*"))
    assert {name for name in files if name.startswith(tuple(f"{folder}/" for folder in FOLDERS))} == set(
        in_tree().values()
    )

    papers = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "LICENSE-DATA"}
    tools = {"pyproject.toml", "setup.py", "MANIFEST.in", "Makefile", "constraints.txt", ".ci/run"}
    checks = {
        path for folder in ("tests", "benchmarks", "examples") for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    checks = {path.relative_to(ROOT).as_posix() for path in checks if path.suffix not in (".pyc", "")}
    assert sorted((papers | tools | checks) - files) == []


def test_version_has_one_source() -> None:
    """`zoobench.__version__`, the metadata and the citation say the version that pyproject.toml says."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert zoobench.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_constraints_pin_every_dependency() -> None:
    """Whatever the core, test, docs and dev sets require is pinned: a table of next year uses the same versions."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normalised(line.split("==")[0]) for line in lines if not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {normalised(name) for name in (*project["dependencies"], *extras["test"], *extras["docs"], *extras["dev"])}
    assert sorted(wanted - pinned) == ["zoobench"]  # dev includes zoobench[test], and that zoobench[docs]


def test_readme_names_the_commands_of_the_makefile() -> None:
    """The two commands that the README starts with are targets of the Makefile."""
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("leaderboard", "test"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


@pytest.mark.slow
def test_sdist_tests_pass_against_the_wheel(unpacked_sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """Tests from the sdist, which has no links, pass against what the wheel installs."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    # -P keeps the sdist's own folder from being imported in place of the wheel.
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in QUICK_TESTS)],
        cwd=unpacked_sdist,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    where = [sys.executable, "-P", "-c", "import zoobench.estimators as e; print(e.__file__)"]
    env = {**os.environ, "PYTHONPATH": str(site)}
    found = subprocess.run(where, cwd=unpacked_sdist, env=env, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(site)
