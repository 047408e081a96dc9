"""The folder that fetched zoos are kept in."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
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
    """Delete the zoos in the data folder, with what was kept or left of their downloads.

    Parameters
    ----------
    data_home : path-like, optional
        See :func:`get_data_home`. Only zoos and what belongs to them is deleted: other files stay.

    Raises
    ------
    OSError
        If another process is fetching a zoo: then that zoo stays, and everything else is deleted nevertheless.

    Examples
    --------
    >>> import tempfile
    >>> from zoobench import clear_data_home
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clear_data_home(folder)
    """
    home = get_data_home(data_home)
    if not home.is_dir():
        return
    raw = home / RAW
    fetched = {path.name.removesuffix(".lock") for path in raw.iterdir()} if raw.is_dir() else set()
    busy = [name for name in sorted(fetched) if not _clear_fetched(home, name)]
    for folder in home.iterdir():
        if folder.name not in busy and (folder / "zoo.json").is_file():
            shutil.rmtree(folder)
    if busy:
        raise OSError(
            f"another process is fetching {', '.join(busy)} into {home}, so that stays; call clear_data_home again "
            "when it has finished"
        )
    with suppress(OSError):  # it is not there, or somebody has just begun to fetch
        raw.rmdir()
    for name in (CHECKSUMS, f".{CHECKSUMS}.lock"):
        (home / name).unlink(missing_ok=True)
    if not any(home.iterdir()):
        home.rmdir()


def _clear_fetched(home: Path, name: str) -> bool:
    """Delete a zoo that was fetched, or is half fetched; False if another process is at it."""
    from filelock import FileLock, Timeout

    lock = home / RAW / f"{name}.lock"
    try:
        with FileLock(lock, timeout=0):
            shutil.rmtree(home / RAW / name, ignore_errors=True)
            folder = home / name
            # A conversion that was killed leaves nothing but hidden files. Anything else is not ours.
            if folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()):
                shutil.rmtree(folder)
            with suppress(OSError):
                lock.unlink()
    except Timeout:
        return False
    return True
