"""Readers of foreign formats: the published raw experiments and preprocessed files.

Nothing is unpacked, nothing is executed, and torch is not needed.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Literal

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.readers.archive import FolderArchive, TarArchive, ZipArchive
from zoobench.readers.checkpoint import not_a_zip
from zoobench.readers.choice import EpochChoice
from zoobench.readers.dataset_pt import read_dataset
from zoobench.readers.experiment import read_experiment
from zoobench.readers.naming import naming
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.tarstream import BLOCK, decompressor_of, is_tar_header
from zoobench.readers.torchfile import is_torch_file
from zoobench.readers.zipdir import ZipDirectory
from zoobench.selection import Epochs


def detect(path: str | PathLike[str]) -> Literal["experiment", "dataset_pt"]:
    """What a file or folder seems to be, by its content and not by its name.

    Parameters
    ----------
    path : path-like
        A file or folder.

    Returns
    -------
    {"experiment", "dataset_pt"}
        A raw experiment, if anything can be made of it, or a file of torch.

    Raises
    ------
    ZooFormatError
        If it can be neither.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "zoo.pt")
    ...     _ = file.write_text("<html>404</html>")
    ...     try:
    ...         detect(file)
    ...     except ValueError as error:
    ...         print(str(error).removeprefix(folder))
    /zoo.pt: is a web page, so its download went wrong; fetch it again
    """
    path = Path(path)
    if path.is_dir():
        return "experiment"
    with naming(path):
        if path.exists() and not path.is_file():
            raise ZooFormatError("is no regular file")
        head = _head(path)
        if head.startswith(b"PK"):
            return "dataset_pt" if is_torch_file(_mapped(path)) else "experiment"
        if decompressor_of(head) or is_tar_header(head):
            return "experiment"
        if not head or head[:1] == b"\x80" or head.lstrip()[:1] == b"<":
            raise not_a_zip(head)
        raise ZooFormatError("is neither a raw experiment (folder, zip or tar) nor a preprocessed .pt file")


def read_foreign(
    path: str | PathLike[str],
    *,
    epochs: Epochs = None,
    keep_model: Callable[[str], bool] | None = None,
    room: Room = MEMORY,
) -> ZooContents:
    """Read a zoo in one of the published formats, told apart by content.

    Parameters
    ----------
    path : path-like
        A raw Ray Tune experiment (folder, zip, tar, compressed tar) or a preprocessed ``.pt`` file of the Model
        Zoos' authors. An experiment may lie a folder down, beside other files.
    epochs : None, "last", int or collection of int, default=None
        Which epochs to read: all, each model's last, or these.
    keep_model : callable, optional
        Says by a model's name whether to read it; by default all are read. What is not asked for is not read, but in
        compressed tars, which have to be inflated as a whole.
    room : Room
        Where the weights go; by default into memory.

    Returns
    -------
    ZooContents
        Rows sorted by epoch and then model; models by the name of their trial directory, in a ``.pt`` as they appear
        in its train, validation and test part.

    Raises
    ------
    ZooFormatError
        If the file is damaged or of another kind.
    UnsafeFileError
        If it asks for more than data: a pickle that calls code, a member that leaves the archive, a link.
    ValueError
        If an epoch is asked for that no model has, or ``keep_model`` keeps none.
    OSError
        If it cannot be read at all.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         read_foreign(folder)
    ...     except ValueError as error:
    ...         print(str(error).partition(": ")[2][:20])
    holds no checkpoints
    """
    path = Path(path)
    choice = EpochChoice(epochs)
    kind = detect(path)
    with naming(path):
        contents = _read(path, kind, choice, keep_model, room)
    contents.filenames = [str(path)]
    return contents


def _read(
    path: Path, kind: str, choice: EpochChoice, keep_model: Callable[[str], bool] | None, room: Room
) -> ZooContents:
    if path.is_dir():
        archive = FolderArchive(path)
        return read_experiment(archive, path.resolve().name, choice=choice, keep_model=keep_model, room=room)
    head = _head(path)
    if head.startswith(b"PK"):
        directory = ZipDirectory(_mapped(path))
        if kind == "dataset_pt":
            return read_dataset(directory, path.stem, choice=choice, keep_model=keep_model, room=room)
        return read_experiment(ZipArchive(directory), path.stem, choice=choice, keep_model=keep_model, room=room)
    with TarArchive(path, decompressor_of(head)) as tar:
        name = path.name.partition(".t")[0]
        return read_experiment(tar, name, choice=choice, keep_model=keep_model, room=room)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
