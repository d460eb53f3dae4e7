"""Create folders, read files of bounded size, and turn system errors into ours."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.errors import FormatError, StorageError
from runtime.storage import disk
from runtime.storage.caches import variable_of

CODE_FOLDER = 0o700
"""The mode of a folder that holds machine code."""
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another folder"),
    errno.EFBIG: "choose another folder or raise the limit (ulimit -f)",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), disk.ULIMIT_HINT),
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM), "choose another folder or make it writable"
    ),
    **dict.fromkeys(
        (
            *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
            *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
        ),
        "choose another name",
    ),
}
"""Hints for errors of the operating system."""


def expanded(path: str | Path) -> Path:
    """Return a path with the home folder for `~`; `~name` of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an operating system error while writing `path` into a StorageError.

    Raises:
        StorageError: The disk is full or not writable, or the folder does not exist.
    """
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
        hint = _HINTS.get(error.errno or 0, "check the path or choose another folder")
        if variable := variable_of(path):
            hint = hint.replace("choose another folder", f"choose another with {variable}=FOLDER")
        raise StorageError(f"cannot write '{path}': {what}; {hint}") from error


def make_folder(path: Path, mode: int = 0o775) -> None:
    """Create a folder and those above it if they are missing, with a mode less the umask.

    No folder is writable by everybody, even where the umask is 0, as some containers have it by
    accident: a user who may write to a folder may replace the files in it.

    Raises:
        OSError: A folder cannot be created.
    """
    try:
        path.mkdir(mode, exist_ok=True)
    except FileNotFoundError:
        if path.parent == path:
            raise
        make_folder(path.parent)
        path.mkdir(mode, exist_ok=True)


@contextlib.contextmanager
def no_empty_folder(path: Path) -> Iterator[None]:
    """Remove a folder, and those above it, that are new and still empty when the block ends.

    Raises:
        StorageError: Access to a folder is denied.
    """
    new = [folder for folder in (path, *path.parents) if not disk.exists(folder)]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in new:
                folder.rmdir()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most `limit` bytes.

    Raises:
        FormatError: The file is missing, unreadable or larger, or not a regular file.
    """
    try:
        with open_regular(path) as stream:
            # Python makes room for all that is asked for, however small the file is.
            content = stream.read(min(os.fstat(stream.fileno()).st_size, limit) + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(content) > limit:
        raise FormatError(
            f"'{path}' is larger than the {limit} bytes it may have; make or copy it again"
        )
    return content


def unreadable(path: Path, error: OSError) -> FormatError:
    """Return the FormatError for a file of ours that the system refuses to read."""
    hint = "check the path and its permissions, or make or copy it again"
    if disk.too_many_open(error):
        hint = disk.ULIMIT_HINT
    return FormatError(f"cannot read '{path}': {error.strerror or error}; {hint}")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; never wait for the writer of a named pipe.

    Raises:
        OSError: It cannot be opened, or is something else, such as a device or a socket.
    """
    # Checked before, as opening a device may start it; and after, as the path may have changed.
    if _is_regular(os.stat(path)):
        stream = open(path, "rb", opener=_open_at_once)
        if _is_regular(os.fstat(stream.fileno())):
            return stream
        stream.close()
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def _is_regular(status: os.stat_result) -> bool:
    # Folders too: the system has an error of its own for them.
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def sha256(content: bytes) -> str:
    """Return the SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
