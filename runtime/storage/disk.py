"""Query paths, and tell a missing path from one to which access is denied.

Below a folder that may not be searched, `Path.exists` and its like raise a bare PermissionError,
and those of `os.path` answer that nothing is there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TypeGuard

from runtime.errors import StorageError
from runtime.storage.caches import variable_of

ULIMIT_HINT = "raise the limit (ulimit -n)"
"""The hint where a process may open no more files."""
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Error numbers of the system for a path that does not exist."""


def status(path: str | Path, *, follow: bool = True) -> os.stat_result | None:
    """Return the status of a path; None if nothing is there.

    Args:
        path: Path to query.
        follow: Whether to follow a link, instead of querying the link itself.

    Raises:
        StorageError: Access is denied.
    """
    try:
        return os.stat(path, follow_symlinks=follow)
    except ValueError:  # a null character, or one that the system's encoding lacks
        return None
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise refused(path, error) from error


def exists(path: str | Path) -> bool:
    """Return whether something is there that is not a broken link; raises like `status`."""
    return status(path) is not None


def is_file(path: str | Path) -> bool:
    """Return whether a path is a regular file, or a link to one; raises like `status`."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder, or a link to one; raises like `status`."""
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_link(path: str | Path) -> bool:
    """Return whether a path is a link, broken or not; raises like `status`."""
    found = status(path, follow=False)
    return found is not None and stat.S_ISLNK(found.st_mode)


def real(path: str | Path) -> Path:
    """Return an absolute path without links; links in a circle stay as they are.

    `Path.resolve` raises a RuntimeError there.
    """
    return Path(os.path.realpath(path))


def matching(folder: Path, pattern: str) -> list[Path]:
    """Return the paths in a folder, or further below, that match a pattern, sorted.

    Raises:
        StorageError: The folder cannot be listed.
    """
    try:
        if is_folder(folder):
            os.scandir(folder).close()  # `glob` takes what it may not list for empty
        return sorted(folder.glob(pattern))
    except OSError as error:
        raise refused(folder, error) from error


def too_many_open(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error says that too many files are open, and nothing about the file."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def refused(path: str | Path, error: OSError) -> StorageError:
    """Return the StorageError for a path that the system refuses to read."""
    hint = "check the permissions of the path and of the folders above it"
    if too_many_open(error):
        hint = ULIMIT_HINT
    elif variable := variable_of(Path(path)):
        hint += f", or choose another cache with {variable}=FOLDER"
    return StorageError(f"cannot read '{path}': {error.strerror or error}; {hint}")
