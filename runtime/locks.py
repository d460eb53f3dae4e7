"""One process at a time, on one machine or on a shared disk."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from runtime.errors import StorageError
from runtime.files import storage_errors

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(path: Path, *, required: bool = True, keep: bool = True) -> Iterator[bool]:
    """Hold a lock while the block runs; wait while another process holds it.

    The operating system ends the lock with its process, however that ends, so nothing is ever left
    locked. The file says who holds the lock, or held it last, as `<process> <machine>`.

    Args:
        path: The lock file; its folder is made.
        required: False where the work is right without a lock too, only done more than once: some
            systems and some network disks have none.
        keep: Leave the file behind, for people to look at; else it is removed with the lock.

    Yields:
        Whether the lock is held; always, if it is required.

    Raises:
        StorageError: The file cannot be written, or it is required and there are no locks here.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(path):
            file, held = _open(path, required)
            stack.enter_context(file)
            if held:
                if not keep:  # before the file is closed: whoever holds it may remove it
                    stack.callback(_remove, path)
                file.truncate(0)
                file.write(f"{os.getpid()} {socket.gethostname()}\n")
                file.flush()
        yield held


def _open(path: Path, required: bool) -> tuple[TextIO, bool]:
    """Return the open lock file, and whether it is locked."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+", encoding="utf-8", errors="replace", opener=_opener)
        except FileNotFoundError:  # the holder before removed the folder
            continue
        try:
            held = _lock(file, path, required)
            if not held or _is_at(file, path):
                return file, held
        except BaseException:
            file.close()
            raise
        file.close()  # the holder before removed it: others lock the file that is there now


def _opener(path: str, flags: int) -> int:
    # The file is truncated: a link must not lead to one of somebody else.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _lock(file: TextIO, path: Path, required: bool) -> bool:
    try:
        import fcntl
    except ImportError as error:
        if required:
            raise StorageError(
                f"cannot lock '{path}': this system has no file locks; work on Linux or macOS"
            ) from error
        return False
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("waiting for the process that works here (%s): %s", _holder(file), path)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        if required:
            raise
        return False
    return True


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip()


def _is_at(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # a lock file that stays is in nobody's way
        path.unlink()
