"""Damaged files give the right result or one clear error, never anything else.

Zips carry a checksum of every member, compressed tars one of the whole stream, and torch files one of every storage.
A plain tar has checksums of its headers only. Since a checkpoint inside it is a torch file, weights are right or left
out there too, but a letter changed in result.json or params.json cannot be noticed, nor one in a name above 100
letters, which stands outside the header. So nothing is promised of these.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import zoo_files
from zoo_files import State
from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.readers import read_foreign
from zoobench.readers.checkpoint import CheckpointReader
from zoobench.readers.unpickle import load_pickle

FORMS = ("zip", "stored zip", "tar", "tar.gz", "tar.xz", "tar.bz2")

#: What reading one of these files of some kilobytes may take at most: anything that asks for more fails.
MEMORY = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def little_memory() -> Iterator[None]:
    """No example may reserve a gigabyte."""
    if sys.platform != "linux":
        yield
        return
    import resource

    limits = resource.getrlimit(resource.RLIMIT_AS)
    status = Path("/proc/self/status").read_text()
    size = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


class Damage:
    """Bits to flip and a place to cut, for content of any length."""

    def __init__(self, flips: list[tuple[float, int]], cut: float | None) -> None:
        self.flips, self.cut = flips, cut

    def __call__(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for place, bit in self.flips:
            changed[int(place * len(changed))] ^= 1 << bit
        return bytes(changed if self.cut is None else changed[: int(self.cut * len(changed))])

    def __repr__(self) -> str:
        return f"Damage({self.flips}, {self.cut})"


def damages() -> st.SearchStrategy[Damage]:
    """One to three flipped bits, or a cut, or both; the ends, where the structure is, more often than the middle."""
    places = st.one_of(st.floats(0, 1, exclude_max=True), st.floats(0, 0.05), st.floats(0.7, 1, exclude_max=True))
    flips = st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=3)
    return st.one_of(
        st.builds(Damage, flips, st.none()),
        st.builds(Damage, flips, st.none()),
        st.builds(Damage, st.just([]), places),
        st.builds(Damage, flips, places),
    )


@functools.cache
def members_of(form: str) -> zoo_files.Members:
    """A small experiment; in a plain tar, with names that its headers hold."""
    members = zoo_files.small_experiment()
    if form != "tar":
        return members
    short = {trial: trial[:30] for trial in zoo_files.trial_names(members)}
    return zoo_files.renamed(members, lambda name: "/".join(short.get(part, part[:20]) for part in name.split("/")))


@functools.cache
def packed(form: str) -> bytes:
    """A small experiment in one form."""
    members = members_of(form)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "zoo")
        if form == "zip":
            zoo_files.write_zip(path, members)
        elif form == "stored zip":
            zoo_files.write_zip(path, members, 0)
        else:
            zoo_files.write_tar(path, members, f"w{form[3:].replace('.', ':')}")
        return path.read_bytes()


@functools.cache
def preprocessed() -> bytes:
    """A small preprocessed file."""
    parts = zoo_files.small_parts(2)
    for attributes in parts.values():
        for name in ("data_in", "data_out"):
            for state in attributes[name]:
                for key in list(state)[:-2]:
                    del state[key]
    with tempfile.TemporaryDirectory() as folder:
        return Path(zoo_files.write_preprocessed(Path(folder, "zoo.pt"), parts)).read_bytes()


@functools.cache
def vectors(form: str) -> Mapping[State, np.ndarray]:
    return zoo_files.expected_vectors(members_of(form))


def read(content: bytes, **options: Any) -> ZooContents | None:
    """What a file holds; None if it is refused in one sentence. Every other exception passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "zoo")
        path.write_bytes(content)
        try:
            return read_foreign(path, **options)
        except ZooFormatError as error:
            message = str(error)
            assert message.startswith(str(path))
            assert message.isprintable()
            return None
        finally:
            assert list(Path(folder).iterdir()) == [path]


@functools.cache
def undamaged(form: str) -> ZooContents:
    contents = read(preprocessed() if form == "pt" else packed(form))
    assert contents is not None
    return contents


def same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Whether the rows of a table are rows of another, whatever the categories that they do not use."""
    columns = [name for name in expected.columns if name in found.columns]
    as_text = {table_id: table[columns].astype(str) for table_id, table in (("found", found), ("expected", expected))}
    keys = ["model", "epoch"]
    merged = as_text["found"].merge(as_text["expected"], on=columns, how="left", indicator=True)
    return len(columns) >= len(keys) and bool((merged["_merge"] == "both").all())


@pytest.mark.parametrize("form", FORMS)
def test_undamaged_files_are_whole(form: str) -> None:
    """The files that the damage is done to are right to begin with."""
    contents = undamaged(form)
    zoo_files.assert_weights(contents, vectors(form))
    assert contents.left_out == {}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=250)
@given(damage=damages())
def test_damaged_experiments(form: str, damage: Damage) -> None:
    """Every state is right, counted as left out, or the whole file refused; so are properties, but in plain tars."""
    contents = read(damage(packed(form)))
    if contents is None:
        return
    zoo_files.assert_weights(contents, vectors(form), all_of_them=False)
    assert len(contents.weights) + sum(contents.left_out.values()) >= len(vectors(form))
    assert contents.layout == undamaged(form).layout
    if form != "tar":
        assert same_rows(contents.properties, undamaged(form).properties)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60)
@given(damage=damages())
def test_damaged_experiments_of_which_a_part_is_asked_for(form: str, damage: Damage) -> None:
    """The same holds for each model's last state."""
    contents = read(damage(packed(form)), epochs="last")
    if contents is None:
        return
    zoo_files.assert_weights(contents, vectors(form), all_of_them=False)
    assert len(contents.weights) + sum(contents.left_out.values()) >= len({model for model, _ in vectors(form)})


@settings(max_examples=300)
@given(damage=damages())
def test_damaged_preprocessed_files(damage: Damage) -> None:
    """A damaged .pt is refused, or the damage is in what is not needed and the result exactly the same."""
    contents = read(damage(preprocessed()))
    if contents is None:
        return
    reference = undamaged("pt")
    assert zoo_files.same_bits(contents.weights, reference.weights)
    assert contents.properties.equals(reference.properties)
    assert contents.layout == reference.layout


@settings(max_examples=300)
@given(damage=damages(), learned=st.booleans())
def test_damaged_checkpoints(damage: Damage, learned: bool) -> None:
    """A damaged checkpoint is refused or gives the same vector, whether or not its kind has been seen before."""
    members = zoo_files.small_experiment()
    content = next(content for name, content in members.items() if name.endswith("/checkpoints"))
    reader = CheckpointReader()
    if learned:
        reader.read(content)
    try:
        structure, pieces = reader.read(damage(content))
    except ZooFormatError:
        return
    assert structure.shapes == [(4, 20), (4,)]
    assert b"".join(pieces) == zoo_files.vector(zoo_files.state_dict(content)).tobytes()


@functools.cache
def a_pickle() -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(preprocessed())) as archive:
        return archive.read("zoo/data.pkl")


@settings(max_examples=1000)
@given(damage=damages())
def test_damaged_pickles(damage: Damage) -> None:
    """A pickle whose checksum says nothing is read as inert data or refused."""
    try:
        load_pickle(memoryview(damage(a_pickle())))
    except ZooFormatError:
        return


@settings(max_examples=1000)
@given(content=st.binary(max_size=300))
@example(content=b"\x80\x02(.")
@example(content=b"\x80\x02t.")
@example(content=b"\x80\x02]e.")
@example(content=b"\x80\x02}Nu.")
@example(content=b"\x80\x02NNb.")
@example(content=b"\x80\x02NQ.")
def test_arbitrary_pickles(content: bytes) -> None:
    """Any bytes at all are read as inert data or refused."""
    try:
        load_pickle(memoryview(b"\x80\x02" + content))
    except ZooFormatError:
        return


@settings(max_examples=200)
@given(
    head=st.sampled_from([b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\x00", b"\x80\x02", b""]), rest=st.binary()
)
def test_arbitrary_files(head: bytes, rest: bytes) -> None:
    """Any file at all is refused in one sentence, whatever it begins with."""
    assert read(head + rest) is None


@settings(max_examples=200)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 511), st.integers(0, 255)).filter(lambda change: not 148 <= change[0] < 156),
        max_size=6,
    )
)
def test_strange_tar_headers(changes: list[tuple[int, int]]) -> None:
    """A first header that says something else, with a right checksum, is refused or does not matter to the rest."""
    content = bytearray(packed("tar"))
    for place, value in changes:
        content[place] = value
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    contents = read(bytes(content))
    if contents is not None:
        zoo_files.assert_weights(contents, vectors("tar"), all_of_them=False)
