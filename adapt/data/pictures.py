"""Folders of pictures that this program made itself: whether one is whole, and a damaged one."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from adapt.data.contents import WIDTH, contents, file_sha256
from adapt.data.home import folder as cache
from runtime.storage.files import storage_errors
from runtime.storage.locks import exclusive

_log = logging.getLogger(__name__)


def digest(folder: Path, *, moving: bool = False) -> str:
    """Return the SHA-256 over the relative names and the contents of all PNG files in a folder.

    Args:
        folder: Any depth of folders.
        moving: Read every file and remember none, because the folder will be elsewhere soon.

    Raises:
        DataError: A file vanished.
    """
    paths = sorted(folder.rglob("*.png"))
    if moving:
        sums = [file_sha256(path) or bytes(WIDTH) for path in paths]
    else:
        sums = [found.tobytes() for found in contents(paths)]
    total = hashlib.sha256()
    for path, found in zip(paths, sums, strict=True):
        total.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0" + found)
    return total.hexdigest()


def drop_damaged(folder: Path, whole: Callable[[Path], bool]) -> None:
    """Remove a folder that is not whole, with a warning, so that it can be made again.

    Args:
        folder: May be missing.
        whole: Tells whether the folder is as it was made.

    Raises:
        StorageError: The folder cannot be removed.
    """
    if not os.path.lexists(folder) or whole(folder):
        return
    with exclusive(cache() / "locks" / f"{folder.name}.lock", required=False):
        if not os.path.lexists(folder) or whole(folder):
            return  # another process was here meanwhile
        _log.warning("the pictures in '%s' are damaged and are made again", folder)
        with storage_errors(folder):
            away = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
            folder.rename(away)  # in one step: others see all of the old ones or none
            if away.is_symlink() or not away.is_dir():
                away.unlink()
            else:
                shutil.rmtree(away, ignore_errors=True)
