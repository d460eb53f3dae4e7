"""Put a folder in the place of another one in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

from runtime.storage import disk

_HERE = -100
"""AT_FDCWD: relative paths start in the working folder."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, and RENAME_SWAP of macOS."""
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def put_folder(made: Path, path: Path) -> None:
    """Move a folder to a path; what is there moves to where the folder was made.

    At every moment the former folder or the new one is there. Only where the file system cannot
    exchange two folders, the path is empty for a moment; if that step fails, the former folder
    comes back.

    Args:
        made: Folder on the same disk.
        path: Path to move it to; there may be a folder already.

    Raises:
        OSError: It cannot be moved; the former folder is still there.
    """
    if not disk.exists(path):
        made.rename(path)
    elif not exchange(made, path):
        aside = made.with_name(".former")
        path.rename(aside)
        try:
            made.rename(path)
        except BaseException:
            with suppress(OSError):
                aside.rename(path)
            raise
        aside.rename(made)


def exchange(one: Path, other: Path) -> bool:
    """Exchange what two paths name in one step; return whether the file system can.

    Raises:
        OSError: A path is missing, or access is denied.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    sys.audit("os.rename", str(one), str(other), -1, -1)  # as `os.rename` is audited
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _EXCHANGE)
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
