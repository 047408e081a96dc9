"""A zoo from a path, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoobench.contents import ZooContents, ZooSource
from zoobench.errors import ZooFormatError
from zoobench.selection import Epochs, check_subset, models_of, normalise_epochs
from zoobench.store import check_zoo, is_zoo, read_index, read_zoo
from zoobench.zoo import Zoo


def load_zoo(
    path: str | os.PathLike[str],
    *,
    subset: str = "all",
    epochs: Epochs = None,
    properties: str | Sequence[str] = "test_acc",
    max_abs_weight: float | None = None,
    drop_nan: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
    verify: bool = False,
) -> Any:
    """Load a zoo from a path; its format is told from its content.

    Parameters
    ----------
    path : path-like
        A folder in the zoo format; a zip, tar or compressed tar of one, which is unpacked, checked and read into
        memory at each call (unpacked once, the folder opens in milliseconds); a raw Ray Tune experiment or a part of
        the Small CNN Zoo as folder or such an archive; or a preprocessed ``dataset_*.pt`` of the Model Zoos' authors.
        Nothing in it is executed.
    subset : {"train", "val", "test", "all"}, default="all"
        Part of the split: 70/15/15 by model, from a hash of the model's name. A ``.pt`` file is taken with the split
        that its authors published.
    epochs : int, sequence of int, "last" or None, default=None
        States to take; None takes all, ``"last"`` each model's last. Other states are not read.
    properties : str or sequence of str, default="test_acc"
        The target: a property (1-D), a list of them (2-D), or ``"all"`` for every measured property and
        hyper-parameter except the seed (numeric ones only, unless ``as_frame``).
    max_abs_weight : float, optional
        Leave out states with a weight beyond this bound; the paper's benchmark uses 5.
    drop_nan : bool, default=True
        Leave out states with NaN or infinite weights and states without any result, and say how many in a warning.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of the zoo.
    as_frame : bool, default=False
        ``data`` and ``target`` as pandas objects; refused above 100,000 weights.
    verify : bool, default=False
        Compare every byte of a folder in the zoo format with its checksums first. Archives and ``.pt`` files carry
        checksums of their own, which are always compared.

    Returns
    -------
    Zoo, or (data, target)

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    ZooFormatError
        If it is none of the formats, or damaged; :class:`~zoobench.UnsafeFileError` if it asks for more than data.
    ValueError
        For an unknown subset, epoch or property, and where nothing is left.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench import fetch_zoo, load_zoo, save_zoo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = save_zoo(fetch_zoo("digits_cnn_s"), folder)
    ...     X, y = load_zoo(folder, epochs="last", subset="test", return_X_y=True)
    >>> X.dtype, X.shape[1], len(X) == len(y)
    (dtype('float32'), 2464, True)
    """
    check_subset(subset)
    wanted = normalise_epochs(epochs)
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no file or folder {place}; check the path")
    if verify and is_zoo(place):
        check_zoo(place)
    if is_zoo(place):
        source = zoo_source(place)
        contents, split = source.reopen(*source.arguments), "hash"
    else:
        source = ZooSource(_reopen_foreign, (str(place.absolute()), subset, wanted))
        contents = source.reopen(*source.arguments)
        # A preprocessed file comes with its authors' split; in the zoo format that lies beside the split by name.
        split = "published" if "split_published" in contents.properties and not _is_packed(place) else "hash"
    zoo = Zoo.from_contents(
        contents,
        subset=subset,
        epochs=epochs,
        properties=properties,
        max_abs_weight=max_abs_weight,
        drop_nan=drop_nan,
        as_frame=as_frame,
        split=split,
        source=source,
    )
    return (zoo.data, zoo.target) if return_X_y else zoo


def zoo_source(folder: Path) -> ZooSource:
    """The source of a folder in the zoo format, bound to what it holds now."""
    return ZooSource(_reopen_zoo, (str(folder.absolute()), read_index(folder)["checksum"]))


def _reopen_zoo(path: str, checksum: str) -> ZooContents:
    found = read_index(Path(path))["checksum"]
    if found != checksum:
        raise ZooFormatError(f"the zoo in {path} has been replaced since this one was pickled; load it anew")
    return read_zoo(path)


def _is_packed(place: Path) -> bool:
    """Whether it is the zoo format in an archive."""
    from zoobench.readers import detect

    return detect(place) == "zoo"


def _reopen_foreign(path: str, subset: str, epochs: str | tuple[int, ...] | None) -> ZooContents:
    from zoobench.readers import detect, read_foreign

    # Which models belong to a published split is known only after reading; to the hash split, by their names.
    by_name = subset != "all" and detect(path) != "dataset_pt"
    return read_foreign(path, epochs=epochs, keep_model=models_of(subset) if by_name else None)
