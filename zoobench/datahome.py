"""The folder that fetched zoos are kept in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

#: Names the data folder where no argument does.
ENVIRONMENT_VARIABLE = "ZOOBENCH_DATA"

#: In the data folder: what is being fetched, and the checksums of files whose publisher gives none.
RAW, CHECKSUMS = ".raw", "checksums.json"


def get_data_home(data_home: str | os.PathLike[str] | None = None) -> Path:
    """The folder that fetched zoos are kept in.

    Parameters
    ----------
    data_home : path-like, optional
        The folder. By default the environment variable ``ZOOBENCH_DATA``, else the user's cache folder for zoobench,
        as the system names it. It is made when something is first written.

    Returns
    -------
    Path

    Examples
    --------
    >>> from zoobench import get_data_home
    >>> get_data_home("/data/zoos")
    PosixPath('/data/zoos')
    """
    if data_home is None:
        data_home = os.environ.get(ENVIRONMENT_VARIABLE)
    if data_home:
        return Path(data_home).expanduser()
    from pooch import os_cache

    return Path(os_cache("zoobench"))


def clear_data_home(data_home: str | os.PathLike[str] | None = None) -> None:
    """Delete the zoos in the data folder.

    Parameters
    ----------
    data_home : path-like, optional
        See :func:`get_data_home`. Only zoos and what belongs to them is deleted: other files stay.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench import clear_data_home
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clear_data_home(folder)
    """
    home = get_data_home(data_home)
    if home.is_dir():
        for folder in home.iterdir():
            if (folder / "zoo.json").is_file() or folder.name == RAW:
                shutil.rmtree(folder)
        (home / CHECKSUMS).unlink(missing_ok=True)
        if not any(home.iterdir()):
            home.rmdir()
