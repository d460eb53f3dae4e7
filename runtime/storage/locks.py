"""File locks between processes, on one machine or on a shared disk."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.errors import StorageError, UdaError
from runtime.storage.files import make_folder, storage_errors

_TRIES, _PAUSE = 10, 0.02
"""Number of attempts to read the holder of a lock, and seconds between them."""
_DIGITS = 9
"""Length of the longest process id that is believed."""
_open_locks: set[int] = set()
"""Lock files that this process has open."""

_log = logging.getLogger(__name__)


def _forked() -> None:
    """Close the inherited lock files, since they would hold the parent's locks beyond its end."""
    for handle in _open_locks:
        os.close(handle)
    _open_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextlib.contextmanager
def exclusive(
    path: Path,
    *,
    required: bool = True,
    keep: bool = True,
    busy: Callable[[str], UdaError] | None = None,
    wanted: Path | None = None,
) -> Iterator[bool]:
    """Hold a lock while the block runs; wait while another process holds it, or fail at once.

    The operating system ends the lock with its process, however that ends, so nothing is ever left
    locked. The file says who holds the lock, or held it last, as `<process> <machine>`.

    Args:
        path: Path of the lock file; its folder is created.
        required: Whether the block needs the lock. Without it the block's work may be done more
            than once where a system or network disk has no locks.
        keep: Whether to keep the file afterwards, for people to look at.
        busy: Function that returns the error to raise instead of waiting, given the holder's name:
            "process 1234 on this machine", or "another process" where that is unknown.
        wanted: Path to name in errors instead of the lock's.

    Yields:
        Whether the lock is held; always true if it is required.

    Raises:
        StorageError: The file cannot be opened, or the lock is required and unavailable here.
        UdaError: From `busy`.
    """
    with storage_errors(wanted or path):
        handle, held = _open(path, required, busy)
    try:
        if held:
            with contextlib.suppress(OSError):  # a courtesy to others; the disk may be full
                if os.fstat(handle).st_size:
                    os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
        yield held
    finally:
        if handle in _open_locks:  # a process forked in the block must not release it
            if not keep:  # also where the system has no locks, and so nobody holds it
                with contextlib.suppress(OSError):  # a lock file that stays is in nobody's way
                    path.unlink()  # before it is closed: who holds the lock may remove the file
            _close(handle)


def _open(path: Path, required: bool, busy: Callable[[str], UdaError] | None) -> tuple[int, bool]:
    """Return the open lock file, and whether it is locked."""
    # The file is truncated: a link must not lead to one of somebody else.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    missing = 0
    while True:
        try:
            handle = os.open(path, flags, 0o644)
            _open_locks.add(handle)
        except FileNotFoundError:  # the previous holder may have removed the folder
            missing += 1
            if missing > _TRIES:  # nothing can be made there: a working folder that is gone, /proc
                raise
            make_folder(path.parent)
            continue
        try:
            held = _lock(handle, path, required, busy)
            if not held or _is_at(handle, path):
                return handle, held
        except BaseException:
            _close(handle)
            raise
        _close(handle)  # the holder before removed it: others lock the file that is there now


def _close(handle: int) -> None:
    _open_locks.discard(handle)  # first: another thread may get its number at once
    os.close(handle)


def _lock(handle: int, path: Path, required: bool, busy: Callable[[str], UdaError] | None) -> bool:
    try:
        import fcntl
    except ImportError as error:
        if required:
            raise StorageError(
                f"cannot lock '{path}': this system has no file locks; work on Linux or macOS"
            ) from error
        return False
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                holder = _holder(os.pread(handle, 200, 0))
                if holder is not None:
                    break
                time.sleep(_PAUSE)  # it says who it is as soon as it has the lock
        if busy is not None:
            raise busy(holder or "another process")
        _log.warning("waiting for %s, which is using '%s'", holder or "another process", path)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        if required:
            raise
        return False
    return True


def _holder(content: bytes) -> str | None:
    """Return the holder of a lock by the content of its file, which anybody may have written."""
    number, _, machine = content.decode("ascii", errors="replace").strip().partition(" ")
    if not number.isdecimal() or len(number) > _DIGITS or not machine.isprintable():
        return None
    if machine != socket.gethostname():
        return f"process {number} on '{machine}'"
    try:
        os.kill(int(number), 0)
    except PermissionError:
        pass  # of another user
    except OSError:
        return None  # it held the lock before
    return f"process {number} on this machine"


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
