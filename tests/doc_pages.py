"""The pages of README and docs as things to do: their blocks of code, their commands, and a place where these can run.

Published zoos and image sets come from a server on this machine, which serves a few real models and random images.
"""

from __future__ import annotations

import io
import re
import shlex
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import zoo_files
from image_samples import publish, sample
from published import CONCEPT, RECORD, TREE, serve_tree, served

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)]

_FENCED = re.compile(r"(?ms)^( *)```([a-z]*)[^\n]*\n(.*?)^\1```$")

#: A block whose first line is this shows a file of that name.
_FILE = re.compile(r"# ([\w.]+\.(?:py|toml))\n")


class Block(NamedTuple):
    language: str
    text: str
    line: int


class Command(NamedTuple):
    """A command of a page, as words."""

    words: tuple[str, ...]
    page: str
    line: int

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [Block(match[2], match[3], text[: match.start(3)].count("\n") + 1) for match in _FENCED.finditer(text)]


def commands(page: Path, block: Block) -> list[Command]:
    """The commands of a shell block, in order: comments left out, lines that go on joined, && taken apart."""
    found = []
    lines = block.text.replace("\\\n", "  ").splitlines()
    for number, line in enumerate(lines):
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            found.append(Command(tuple(words[:end]), name_of(page), block.line + number))
            words = words[end + 1 :]
    return found


def shell_commands() -> list[Command]:
    """Every command of every shell block."""
    return [c for page in PAGES for block in blocks(page) if is_shell(block) for c in commands(page, block)]


def is_shell(block: Block) -> bool:
    return block.language in ("bash", "sh", "console")


def inline_commands() -> list[Command]:
    """What stands in running text as `zoobench ...`, each page's once."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        # Lines of code become empty ones, so that numbers of lines stay.
        text = _FENCED.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in re.finditer(r"(?<!`)`(zoobench [^`]+)`(?!`)", text):
            words = re.sub(r"\s*\n(> )?\s*", " ", match[1]).split("#")[0]
            found.append(Command(tuple(shlex.split(words)), name_of(page), text[: match.start()].count("\n") + 1))
    return found


# -- where they run ----------------------------------------------------------------------------------------------------


#: Directory on the host of single files.
TREES = {"seed": TREE, "hyp_rand": f"{TREE.rpartition('/')[0]}/tune_zoo_mnist_hyperparameter_10_random_seeds"}

EXPERIMENTS = {"seed": zoo_files.SEED_ZIP, "hyp_rand": zoo_files.HYPER_ZIP}

#: Epochs of the real models -> those that the pages ask for, last first, so that none is renamed twice.
EPOCHS = {10: 50, 5: 25}


@contextmanager
def place(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder to work in, with the files that the page shows, and hosts that have what it downloads."""
    monkeypatch.chdir(folder)
    for block in blocks(page):
        shown = _FILE.match(block.text)
        if shown:
            (folder / shown[1]).write_text(block.text, encoding="utf-8")
    with served(monkeypatch) as host:
        host.add_record(RECORD, {f"mnist_{name}.zip": archive(name) for name in EXPERIMENTS}, concept=CONCEPT)
        for name, tree in TREES.items():
            serve_tree(host, published(name), name=tree)
        for name in ("mnist", "cifar10"):
            publish(image_sample(name), host, monkeypatch)
        yield


@cache
def published(variant: str) -> zoo_files.Members:
    """A few models of a real experiment, as the MNIST zoo of this variant."""
    # The second one has no checkpoint of its first epoch.
    epochs = EPOCHS | ({1: 5} if variant == "seed" else {0: 5})
    found = {}
    for name, content in zoo_files.experiment(EXPERIMENTS[variant], n_models=40).items():
        for old, new in epochs.items():
            name = name.replace(f"/checkpoint_{old:06d}/", f"/checkpoint_{new:06d}/")
        if name.endswith("/result.json"):
            for old, new in (EPOCHS | {1: 5}).items():
                content = content.replace(b'"training_iteration": %d,' % old, b'"training_iteration": %d,' % new)
        found[name] = content
    return found


@cache
def archive(variant: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as written:
        for name, content in published(variant).items():
            written.writestr(name, content)
    return buffer.getvalue()


image_sample = cache(sample)
