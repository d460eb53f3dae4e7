"""Put folders of generated pictures in place, and remove damaged ones to be made again."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from adapt.data.contents import WIDTH, contents, file_sha256
from adapt.data.home import folder as cache
from runtime.storage import disk
from runtime.storage.files import storage_errors, sync
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers, sibling_folder

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


@contextlib.contextmanager
def publishing(folder: Path, done: str) -> Iterator[Path]:
    """Yield a new folder for pictures; move it to `folder` in one step when the block ends.

    Of several processes the first to finish puts its folder in place, and the others use that one.

    Args:
        folder: Folder of the pictures.
        done: Name of the file that the block writes last.

    Raises:
        StorageError: The folder cannot be written.
    """
    with storage_errors(folder), sibling_folder(folder) as aside:
        made = aside / folder.name
        made.mkdir()
        yield made
        sync(made / done)
        sync(made)
        try:
            made.rename(folder)
        except OSError:
            if not disk.exists(folder / done):  # else another process was faster
                raise
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
            sync(folder.parent)


def drop_damaged(folder: Path, whole: Callable[[Path], bool]) -> None:
    """Remove an incomplete folder, with a warning, and what killed processes left beside it.

    Args:
        folder: Folder to look at; it may be missing.
        whole: Function that returns whether a folder is as it was made.

    Raises:
        StorageError: The folder cannot be removed.
    """
    remove_leftovers(folder.parent)
    if not os.path.lexists(folder) or whole(folder):
        return
    with exclusive(cache() / "locks" / f"{folder.name}.lock", required=False):
        if not os.path.lexists(folder) or whole(folder):
            return  # another process was here meanwhile
        _log.warning("the pictures in '%s' are damaged and are made again", folder)
        with storage_errors(folder), sibling_folder(folder) as aside:
            folder.rename(aside / folder.name)  # in one step: others see all of them or none
