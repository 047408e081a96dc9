"""Where zoos come from: the kinds of source that a card may name."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

#: Base address of the per-file host of the Model Zoos' authors. A directory answers with a JSON list of what it holds.
DIRECTORY_HOST = "https://ai.unisg.ch/files/weight_space_learning/model_zoos/"

#: Base address of Zenodo, whose API tells the files of a record.
ZENODO = "https://zenodo.org/"

#: Format of what a source holds -> whether zoobench reads it.
FORMATS = {
    "zoo": True,  # the zoo format
    "experiment": True,  # a raw Ray Tune experiment: a tree of files, or a zip or tar of one
    "dataset_pt": True,  # a preprocessed file of the Model Zoos
    "small_cnn_zoo": True,  # weights.npy, metrics.csv.gz and layout.csv
    "hyper_representations": True,  # preprocessed files of the two papers before and beside the Model Zoos
    "other": False,  # checkpoints of networks of many makes, one by one
}

_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")
_DOI = re.compile(r"10\.5281/zenodo\.[1-9][0-9]*")
_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*")
_URL = re.compile(r"https://[\w.-]+(/[\w.~%+-]+)+")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """One place that a zoo comes from. Each kind is a class of its own.

    Attributes
    ----------
    format : {"zoo", "experiment", "dataset_pt", "small_cnn_zoo", "hyper_representations", "other"}
        What is there.
    epochs : tuple of int or None
        Epochs that are there, where they are known to be fewer than the card's.
    size : int or None
        Bytes of the file, where they are known without asking.
    checksum : str or None
        ``"md5:..."`` or ``"sha256:..."`` of the file, where it is known without asking.
    note : str or None
        What a user has to know of this source.

    Raises
    ------
    ValueError
        For a value that no source of its kind can have.

    Examples
    --------
    >>> from zoobench.datasets_registry import find_card
    >>> raw = find_card("cifar10_cnn_l").sources[0]
    >>> raw.kind, raw.format, raw.readable
    ('zenodo', 'experiment', True)
    >>> raw.address
    'https://zenodo.org/records/6620869/files/cifar_large_seed.zip'
    """

    format: str
    epochs: tuple[int, ...] | None = None
    size: int | None = None
    checksum: str | None = None
    note: str | None = None

    kind: ClassVar[str]
    kinds: ClassVar[dict[str, type[Source]]] = {}

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        Source.kinds[kind] = cls

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format {self.format!r} is unknown; known are {', '.join(FORMATS)}")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size}, but a number of bytes was expected")
        if self.checksum is not None and not _CHECKSUM.fullmatch(self.checksum):
            raise ValueError(
                f"checksum is {self.checksum!r}, but md5: or sha256: and the hexadecimal digest was expected"
            )

    @property
    def readable(self) -> bool:
        """Whether zoobench has a reader for what is there."""
        return FORMATS[self.format]

    @property
    @abstractmethod
    def address(self) -> str:
        """Where to find it, as precisely as it is known."""

    def to_dict(self) -> dict[str, Any]:
        """The source as plain data, in the form of a card; what is unknown is absent."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return {"kind": self.kind} | {k: list(v) if isinstance(v, tuple) else v for k, v in known.items()}


@dataclass(frozen=True, kw_only=True)
class BundledSource(Source, kind="bundled"):
    """A folder of this package, in the zoo format."""

    format: str = "zoo"

    @property
    def address(self) -> str:
        """It came with the package."""
        return "the zoobench package"


@dataclass(frozen=True, kw_only=True)
class DirectorySource(Source, kind="directory"):
    """A tree of single files on the authors' host.

    Attributes
    ----------
    path : str
        Folder of the zoo, below :data:`DIRECTORY_HOST`.
    spellings : tuple of str
        Patterns (as of :mod:`fnmatch`) for the last part of the path, in order, for where its parent lists no folder
        of exactly that name: the host's names are not uniform.
    """

    path: str
    spellings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _PATH.fullmatch(self.path) or ".." in self.path.split("/"):
            raise ValueError(f"path is {self.path!r}, but a relative path such as 'a/b' was expected")
        if any(not spelling or "/" in spelling for spelling in self.spellings):
            raise ValueError(f"spellings are {list(self.spellings)}, but patterns for one folder's name were expected")

    @property
    def address(self) -> str:
        """Address of the folder."""
        return f"{DIRECTORY_HOST}{self.path}/"


@dataclass(frozen=True, kw_only=True)
class ZenodoSource(Source, kind="zenodo"):
    """A file of a Zenodo record, found through Zenodo's API.

    Attributes
    ----------
    doi : str
        DOI of the record, usually the one that stands for all its versions.
    record : int or None
        Number of a version that is known to have the file; None where only the DOI is known.
    file : str or None
        The file's name, or a pattern for it (as of :mod:`fnmatch`) where the name is not known; None where nothing is
        known of the record's files.
    member : str or None
        Folder inside an archive that holds several zoos.
    """

    doi: str
    record: int | None = None
    file: str | None = None
    member: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _DOI.fullmatch(self.doi):
            raise ValueError(f"doi is {self.doi!r}, but one such as '10.5281/zenodo.123' was expected")
        if self.record is not None and self.record < 1:
            raise ValueError(f"record is {self.record}, but the number of a record was expected")
        if self.file is not None and (not self.file or "/" in self.file):
            raise ValueError(f"file is {self.file!r}, but the name of a file or a pattern for it was expected")
        if self.member is not None and (not _PATH.fullmatch(self.member) or ".." in self.member.split("/")):
            raise ValueError(f"member is {self.member!r}, but a relative path such as 'a/b' was expected")

    @property
    def address(self) -> str:
        """Address of the file, if record and name are known, else of the record."""
        if self.record is None:
            return f"https://doi.org/{self.doi}"
        page = f"{ZENODO}records/{self.record}"
        return f"{page}/files/{self.file}" if self.file and not _WILDCARD.search(self.file) else page


@dataclass(frozen=True, kw_only=True)
class UrlSource(Source, kind="url"):
    """A file at a plain address.

    Attributes
    ----------
    url : str
        The address.
    """

    url: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _URL.fullmatch(self.url):
            raise ValueError(f"url is {self.url!r}, but an address that starts with https:// was expected")

    @property
    def address(self) -> str:
        """The address."""
        return self.url
