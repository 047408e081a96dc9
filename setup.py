"""Where the packages lie. Everything else about the project stands in pyproject.toml.

Three parts of the library have folders of their own beside ``zoobench/`` and import as ``zoobench.<folder>``. In a
clone, links in ``zoobench/`` show the same thing to tools that know nothing of this mapping, which does not need them.
"""

from setuptools import find_packages, setup

FOLDERS = ("estimators", "generators", "datasets_registry")

# The links are left out here: their packages are taken from the folders themselves.
LINKS = [pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")]

packages = ["zoobench", *(f"zoobench.{name}" for name in find_packages("zoobench", exclude=LINKS))]
for folder in FOLDERS:
    packages += [f"zoobench.{folder}", *(f"zoobench.{folder}.{name}" for name in find_packages(folder))]

setup(
    packages=packages,
    package_dir={"zoobench": "zoobench", **{f"zoobench.{folder}": folder for folder in FOLDERS}},
    package_data={
        "zoobench": ["py.typed"],
        "zoobench.benchmark": ["templates/*"],
        "zoobench.generators": ["native/*.cpp", "native/*.hpp"],
        "zoobench.datasets_registry": ["**/*.toml", "bundled/**", "results/**"],
    },
)
