"""Detect and remove damaged folders of generated pictures, so that they are made again."""

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
        folder: Folder with pictures at any depth.
        moving: Whether to read every file and to remember none, since the folder is about to move.

    Raises:
        DataError: A file no longer exists.
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
        folder: Folder to look at; it may be missing.
        whole: Function that returns whether a folder is as it was made.

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
