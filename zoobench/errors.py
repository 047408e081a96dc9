"""The exceptions that tell bad data from bad arguments."""

import errno

#: What the system says of a disk, a quota or a file that has no more room.
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ZooFormatError(ValueError):
    """A file or folder is not what its reader expects: damaged, incomplete or of another kind.

    The message names the file, what was found, what was expected and the remedy.
    """


class UnsafeFileError(ZooFormatError):
    """A file asks for more than data: code in a pickle, or an archive member outside its folder.

    Nothing of the file has been executed or written when this is raised.
    """
