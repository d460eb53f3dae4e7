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
def exclusive(path: Path, *, required: bool = True) -> Iterator[bool]:
    """Hold a lock while the block runs; wait while another process holds it.

    The operating system ends the lock with its process, however that ends, so nothing is ever left
    locked. The file stays: deleting it would let two processes lock two files of one name. It says
    who holds the lock, or held it last, as `<process> <machine>`.

    Args:
        path: The lock file; its folder is made.
        required: False where the work is right without a lock too, only done more than once: some
            systems and some network disks have none.

    Yields:
        Whether the lock is held; always, if it is required.

    Raises:
        StorageError: The file cannot be written, or it is required and there are no locks here.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            held = _lock(file, path, required)
            if held:
                file.truncate(0)
                file.write(f"{os.getpid()} {socket.gethostname()}\n")
                file.flush()
        yield held


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
            holder = path.read_text(encoding="utf-8", errors="replace").strip()
            _log.warning("waiting for the process that works here (%s): %s", holder, path)
            fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        if required:
            raise
        return False
    return True
