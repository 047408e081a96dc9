"""The published files of image sets, fetched once and checked before use."""

from __future__ import annotations

import os
from pathlib import Path

from zoobench.datahome import get_data_home
from zoobench.download.client import Client
from zoobench.download.files import fetch_file
from zoobench.download.mirror import ENVIRONMENT_VARIABLE, mirrored
from zoobench.download.remote import DownloadError, RemoteFile
from zoobench.generators.image_sets import ImageFile, ImageSet

#: In the data folder, and on a mirror: a folder for each image set.
IMAGES = "images"


def fetch_image_files(
    facts: ImageSet,
    *,
    data_home: str | os.PathLike[str] | None = None,
    n_retries: int = 3,
    delay: float = 1.0,
    progress: bool = True,
) -> list[Path]:
    """The files of an image set, fetched if they are not here yet.

    Parameters
    ----------
    facts : ImageSet
        The image set.
    data_home : path-like, optional
        The data folder, as in :func:`zoobench.get_data_home`; the files go to ``images/<name>`` in it.
    n_retries, delay : int, float
        Further attempts after a request that failed, and seconds before the first.
    progress : bool, default=True
        Show progress bars on stderr.

    Returns
    -------
    list of Path
        In the order of ``facts.files``. Each has the checksum that its publisher gives.

    Raises
    ------
    OSError
        If a file is not here and no address gives it; the message names file, addresses, folder and remedy.
    """
    folder = get_data_home(data_home) / IMAGES / facts.name
    with Client(n_retries=n_retries, delay=delay) as client:
        try:
            return [fetch_file(_sources(facts, file), folder, client=client, progress=progress) for file in facts.files]
        except DownloadError as error:
            raise type(error)(
                f"the images of {facts.name!r} are not all in {folder}: {error}; or name a mirror that has them below "
                f"{IMAGES}/{facts.name}/ in {ENVIRONMENT_VARIABLE}"
            ) from error


def _sources(facts: ImageSet, file: ImageFile) -> list[RemoteFile]:
    """Every address of a file: the mirror's first, if there is one."""
    published = [RemoteFile(address, file.name, checksum=file.checksum) for address in file.addresses]
    return [*mirrored(published[0], f"{IMAGES}/{facts.name}/{file.name}"), *published[1:]]
