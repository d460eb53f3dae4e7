"""A text file that several runs add lines to: nothing that was written before is lost."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from runtime.errors import ConfigError, StorageError
from runtime.storage.files import make_folder, storage_errors
from runtime.storage.lines import opened
from runtime.storage.mounts import Mount

_LONGEST = 1 << 20
"""Bytes of the longest line that is looked for at the end of an earlier file."""
_SHOWN = 200
"""Bytes of another file's first line that an error shows."""


class AppendedFile:
    """A file of whole lines of UTF-8, which goes on where an earlier run ended.

    It and its folder may be renamed, emptied or removed at any time, as logrotate does: before each
    line it is looked for, and created anew where it is missing.
    """

    def __init__(self, path: Path, start: str, *, header: bool) -> None:
        """Choose the file; `open` opens it.

        Args:
            path: Path of the file.
            start: What all such files begin with, by which earlier ones are recognised.
            header: Whether that is a line of its own, to be written first.
        """
        self._path, self._start = path, start.encode()
        self._header = self._start if header else b""
        self._mount = Mount(path.parent)
        self._file: int | None = None
        self._empty = False
        """Whether it is new and has no lines yet."""
        self.cut = 0
        """Bytes of unfinished lines, as a power cut leaves them, that were removed."""

    def open(self) -> None:
        """Open the file, and create it and its folder if there is none.

        Raises:
            StorageError: It cannot be written, is something else, such as a device, or another
                process writes to it.
            ConfigError: It is a file of another kind, or has other columns.
        """
        self._mount.check()
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0)
        with storage_errors(self._path), contextlib.ExitStack() as stack:
            make_folder(self._path.parent)
            try:
                file = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                self._empty = True
            except FileExistsError:
                file, self._empty = opened(self._path, flags), False
            stack.callback(os.close, file)
            _lock(file, self._path)
            self._recognise(file)
            stack.pop_all()
        self._file = file

    def write(self, line: str) -> None:
        """Add a line, which ends with a line break, or nothing of it.

        Raises:
            StorageError: The line cannot be written, as on a full disk; a later one may be.
            ConfigError: There is another file now.
        """
        if self._file is not None and not self._in_place(self._file):
            self._release()
        if self._file is None:
            self.open()
        assert self._file is not None
        with storage_errors(self._path):
            size = os.fstat(self._file).st_size
            rest = memoryview((b"" if size else self._header) + line.encode(errors="replace"))
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except BaseException:
                try:
                    os.ftruncate(self._file, size)
                except OSError:  # a part of the line stays until the file is opened again
                    self._release()
                raise
        self._empty = False

    def close(self) -> None:
        """Flush the file to the disk and close it; a new one without lines is removed.

        Safe to call more than once.

        Raises:
            StorageError: The disk does not take it.
        """
        if self._file is None:
            return
        try:
            with storage_errors(self._path):
                os.fsync(self._file)
                if self._empty and self._in_place(self._file):
                    self._path.unlink()
        finally:
            self._release()

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _in_place(self, file: int) -> bool:
        """Return whether the open file is still the one at the path."""
        try:
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        except OSError:
            return False

    def _recognise(self, file: int) -> None:
        """Check that an earlier file is of this kind, and remove an unfinished line at its end."""
        size = os.fstat(file).st_size
        if not size:
            return
        begin = _read(file, 0, len(self._start))
        if begin != self._start[: len(begin)]:
            found = _read(file, 0, _SHOWN).partition(b"\n")[0].decode(errors="replace")
            raise ConfigError(
                f"'{self._path}' begins with '{found}', expected '{self._start.decode().strip()}'; "
                "choose another file"
            )
        last = max(0, size - _LONGEST)
        end = _read(file, last, size - last).rfind(b"\n") + 1
        if not end and last:
            raise ConfigError(
                f"'{self._path}' ends with a line of more than {_LONGEST:,} bytes; choose another "
                "file"
            )
        if last + end < size:
            self.cut += size - last - end
            os.ftruncate(file, last + end)


def _read(file: int, start: int, size: int) -> bytes:
    """Return bytes of a file; fewer at its end."""
    os.lseek(file, start, os.SEEK_SET)
    content = b""
    while len(content) < size and (more := os.read(file, size - len(content))):
        content += more
    return content


def _lock(file: int, path: Path) -> None:
    """Have no other process add lines, since a line that does not fit is taken back.

    Raises:
        StorageError: Another process does.
    """
    try:
        import fcntl
    except ImportError:  # no locks on this system
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StorageError(
            f"another process writes to '{path}'; choose another file or end that one"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise
