"""One process at a time, on one machine or on a shared disk."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from runtime.files import storage_errors

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock while the block runs; wait while another process holds it.

    The operating system ends the lock with its process, however that ends, so nothing is ever left
    locked. The file stays: deleting it would let two processes lock two files of one name. It says
    who holds the lock, or held it last, as `<process> <machine>`.

    Args:
        path: The lock file; its folder is made.

    Raises:
        StorageError: The file cannot be written.
    """
    import fcntl  # not on every system, and needed by sweeps alone

    with contextlib.ExitStack() as stack:
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = path.read_text(encoding="utf-8", errors="replace").strip()
                _log.warning("waiting for the process that works here (%s): %s", holder, path)
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}\n")
            file.flush()
        yield
