"""Readers of foreign formats: raw experiments, preprocessed files, the Small CNN Zoo, and the zoo format in an archive.

Nothing is executed, torch is not needed, and nothing is unpacked but a preprocessed file, or a zoo in the zoo format,
that lies in an archive.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from zoobench.contents import ZooContents
from zoobench.errors import ZooFormatError
from zoobench.readers.archive import Archive, FolderArchive, Member, TarArchive, ZipArchive
from zoobench.readers.checkpoint import not_a_zip
from zoobench.readers.choice import EpochChoice
from zoobench.readers.dataset_pt import read_dataset
from zoobench.readers.experiment import read_experiment
from zoobench.readers.kinds import Inspected, Kind
from zoobench.readers.naming import naming
from zoobench.readers.packed_zoo import read_packed_zoo
from zoobench.readers.room import MEMORY, Room
from zoobench.readers.small_cnn import read_small_cnn_zoo
from zoobench.readers.tarstream import BLOCK, decompressor_of, is_tar_header
from zoobench.readers.torchfile import is_torch_file
from zoobench.readers.zipdir import ZipDirectory
from zoobench.selection import Epochs


def detect(path: str | PathLike[str], *, member: str | None = None) -> Kind:
    """What a file or folder seems to be, by its content and not by its name.

    Parameters
    ----------
    path : path-like
        A file or folder.
    member : str, optional
        Folder inside it that is meant.

    Returns
    -------
    {"zoo", "experiment", "dataset_pt", "small_cnn_zoo"}
        A folder in the zoo format, or an archive with one; a preprocessed file of torch, or an archive or folder with
        one; a part of the Small CNN Zoo; else a raw experiment, if anything can be made of it.

    Raises
    ------
    ZooFormatError
        If it can be none of them.

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
    with naming(path):
        # Told before the directory is read, which of the largest takes a second.
        if path.is_file() and _head(path).startswith(b"PK") and is_torch_file(_mapped(path)):
            return "dataset_pt"
        with _opened(path) as archive:
            assert not isinstance(archive, ZipDirectory)
            return Inspected(archive, member).kind


def read_foreign(
    path: str | PathLike[str],
    *,
    epochs: Epochs = None,
    keep_model: Callable[[str], bool] | None = None,
    room: Room = MEMORY,
    member: str | None = None,
) -> ZooContents:
    """Read a zoo in one of the published formats, told apart by content.

    Parameters
    ----------
    path : path-like
        A raw Ray Tune experiment (folder, zip, tar, compressed tar); a preprocessed ``.pt`` file of the Model Zoos'
        authors, as it is or the only one in a folder, zip or tar; or a part of the Small CNN Zoo (folder, zip, tar,
        compressed tar); or an archive of a folder in the zoo format. They may lie a folder down, beside other files.
    epochs : None, "last", int or collection of int, default=None
        Which epochs to read: all, each model's last, or these.
    keep_model : callable, optional
        Says by a model's name whether to read it; by default all are read. What is not asked for is not read, but in
        compressed tars, which have to be inflated as a whole.
    room : Room
        Where the weights go; by default into memory.
    member : str, optional
        Folder to read, of an archive or folder that holds several zoos.

    Returns
    -------
    ZooContents
        Rows sorted by epoch and then model; models by the name of their trial directory, in a ``.pt`` as they appear
        in its train, validation and test part.

    Raises
    ------
    ZooFormatError
        If the file is damaged or of another kind, or does not hold ``member``.
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
    with naming(path), _opened(path) as archive:
        if isinstance(archive, ZipDirectory):
            contents = read_dataset(archive, path.stem, choice=choice, keep_model=keep_model, room=room)
        else:
            contents = _read(Inspected(archive, member), path, choice, keep_model, room)
    contents.filenames = [str(path)]
    return contents


def _read(
    archive: Inspected, path: Path, choice: EpochChoice, keep_model: Callable[[str], bool] | None, room: Room
) -> ZooContents:
    names = {"folder": path.resolve().name, "zip": path.stem}
    name = names.get(archive.form, path.name.partition(".t")[0])
    if archive.kind == "zoo":
        return read_packed_zoo(archive, beside=path.parent, choice=choice, keep_model=keep_model, room=room)
    if archive.kind == "small_cnn_zoo":
        return read_small_cnn_zoo(archive, name, choice=choice, keep_model=keep_model, room=room)
    if archive.kind == "experiment":
        return read_experiment(archive, name, choice=choice, keep_model=keep_model, room=room)
    member = archive.dataset()
    with naming(member.name), _mapped_member(member, path) as content:
        directory = ZipDirectory(content)
        folder = member.name.rpartition("/")[0].rpartition("/")[2]
        return read_dataset(directory, folder or name, choice=choice, keep_model=keep_model, room=room)


@contextmanager
def _opened(path: Path) -> Iterator[Archive | ZipDirectory]:
    """The archive at a path; of a preprocessed file, which is a zip of its own kind, the directory."""
    if path.is_dir():
        yield FolderArchive(path)
        return
    if path.exists() and not path.is_file():
        raise ZooFormatError("is no regular file")
    head = _head(path)
    if head.startswith(b"PK"):
        mapped = _mapped(path)
        directory = ZipDirectory(mapped)
        yield directory if is_torch_file(mapped) else ZipArchive(directory)
    elif decompressor_of(head) or is_tar_header(head):
        with TarArchive(path, decompressor_of(head)) as tar:
            yield tar
    elif not head or head[:1] == b"\x80" or head.lstrip()[:1] == b"<":
        raise not_a_zip(head)
    else:
        raise ZooFormatError("is neither a raw experiment or a zoo (folder, zip or tar) nor a preprocessed .pt file")


@contextmanager
def _mapped_member(member: Member, path: Path) -> Iterator[mmap.mmap]:
    """A file of an archive, mapped into memory: where it lies, or copied to a nameless file beside the archive."""
    if isinstance(member.archive, FolderArchive):
        member.size()  # refuses links that leave the folder
        head = _head(Path(member.key))
        if not head.startswith(b"PK"):
            raise not_a_zip(head)
        yield _mapped(Path(member.key))
        return
    beside = path.parent if os.access(path.parent, os.W_OK) else None
    with tempfile.TemporaryFile(dir=beside) as file:
        for piece in member.pieces():
            file.write(piece)
        file.seek(0)
        head = file.read(BLOCK)
        if not head.startswith(b"PK"):
            raise not_a_zip(head)
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(BLOCK)


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
