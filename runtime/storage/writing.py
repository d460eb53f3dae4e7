"""Write files and folders whole or not at all: temporary name beside the final one, sync, rename.

A process that is killed leaves its temporary files. Each has a lock file beside it, which the
process holds, so that others can tell the leftovers of a dead process from the files of a live one.
The next writer of the same file, or `remove_leftovers`, removes the former alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import StorageError
from runtime.storage import disk
from runtime.storage.caches import variable_of
from runtime.storage.files import CODE_FOLDER, make_folder, sha256, storage_errors, sync
from runtime.storage.locks import exclusive

_LOCK = re.compile(r"\.(.+)\.[0-9a-f]{8}\.lock", re.DOTALL)
"""Name of the lock of a temporary file, which ends in `tmp` instead; the group is its stem."""
_MAX_STEM = 100
"""Bytes of a final name above which the temporary name has its digest instead: it must be as short
as file systems require (255 bytes, 143 on encrypted ones)."""

_TEMPORARY = ("/tmp", "/var/tmp", "/usr/tmp", os.curdir)
"""Folders for temporary files where the environment names none, as Python's `tempfile` has them."""


class _Held(StorageError):
    """Another process holds the lock."""


def write_bytes(path: Path, content: bytes, *, code: bool = False) -> None:
    """Write `content` to `path` atomically.

    Args:
        path: Path of the file.
        content: Content of the file.
        code: Whether the file is believed when it is read, see `replacing`.

    Raises:
        StorageError: The file cannot be written.
    """
    with replacing(path, code=code) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path, *, code: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    A reader sees the old file or the whole new one, also after a power cut. The umask decides who
    may read and write it.

    Args:
        path: Path of the file.
        code: Whether the file is believed when it is read, such as machine code: its folder is
            created for this user alone, and only this user may write to the file, whatever the
            umask.

    Raises:
        StorageError: The file cannot be written, or is something else, such as a device, and not in
            a cache; nothing is left behind.
    """
    with storage_errors(path):
        make_folder(path.parent, *([CODE_FOLDER] if code else []))
        found = disk.status(path)
        plain = found is None or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
        if not plain and variable_of(path) is None:  # in a cache everything is ours
            # Renaming a file to a device, such as /dev/null, would replace the device.
            raise OSError(errno.EINVAL, "not a regular file")
        with _temporary(path) as temporary:
            try:
                mode = _create(temporary, 0o644 if code else 0o666)
                yield temporary
                sync(temporary)
                temporary.chmod(mode)  # the block may have put another file there
                temporary.replace(path)
                # The file is whole and in place; some network file systems cannot sync a folder.
                with contextlib.suppress(OSError):
                    sync(path.parent)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise


@contextlib.contextmanager
def sibling_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, and remove it with its contents when the block ends.

    Raises:
        StorageError: The folder cannot be created.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(path):
            make_folder(path.parent)
            folder = stack.enter_context(_temporary(path))
            folder.mkdir(0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def scratch_folder(name: str) -> contextlib.AbstractContextManager[Path]:
    """Return a context manager of an empty folder in the system's folder for temporary files.

    Args:
        name: Name that the folder's own begins with.

    Raises:
        StorageError: No folder for temporary files can be written.
    """
    # `tempfile.gettempdir` tries a folder with a file that a killed process leaves for ever.
    chosen = (tempfile.tempdir, *(os.environ.get(key) for key in ("TMPDIR", "TEMP", "TMP")))
    for folder in filter(None, (*chosen, *_TEMPORARY)):
        with contextlib.suppress(StorageError):  # access is denied
            if disk.is_folder(os.fsdecode(folder)) and os.access(folder, os.W_OK | os.X_OK):
                return sibling_folder(Path(os.fsdecode(folder)).absolute() / name)
    raise StorageError(
        "no folder for temporary files can be written; choose one with TMPDIR=FOLDER"
    )


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove temporary files and folders of processes that ended before they could.

    Those of live processes stay, and so do all where the disk has no locks.

    Args:
        folder: Folder to look in; it may be missing or unreadable.
        name: Final name of the files to remove; None for all, in a folder of our own.
    """
    with contextlib.suppress(OSError):
        for lock in os.listdir(folder):
            match = _LOCK.fullmatch(lock)
            # Earlier versions took a name as it is, however long.
            if match and (name is None or match[1] in (name, _stem(name))):
                with contextlib.suppress(OSError, StorageError):
                    _remove(folder / lock)


def _remove(lock: Path) -> None:
    """Remove a temporary file or folder, and last its lock.

    Raises:
        StorageError: A live process holds the lock, or it cannot be opened.
        OSError: The file cannot be removed.
    """
    with exclusive(lock, busy=_Held):
        temporary = lock.with_suffix(".tmp")
        try:
            shutil.rmtree(temporary)
        except NotADirectoryError:
            temporary.unlink()
        except FileNotFoundError:
            pass  # its process was killed before creating it, or after renaming it
        lock.unlink()


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield an unused path beside `path` whose lock this process holds, and remove leftovers."""
    remove_leftovers(path.parent, path.name)
    with contextlib.ExitStack() as stack:
        while True:
            lock = path.parent / f".{_stem(path.name)}.{secrets.token_hex(4)}.lock"
            held = exclusive(lock, required=False, keep=False, busy=_Held, wanted=path)
            try:
                stack.enter_context(held)
            except _Held:  # another process is checking whether it is a leftover
                continue
            temporary = lock.with_suffix(".tmp")
            if not os.path.lexists(temporary):
                break
        yield temporary


def _stem(name: str) -> str:
    """Return what the temporary names of a final name begin with."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= _MAX_STEM else sha256(encoded)[:32]


def _create(path: Path, mode: int) -> int:
    """Create an empty file and return its mode after the umask."""
    # The system applies the umask: a program can ask for its own only by changing it, for all of
    # its threads.
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
