"""A text file that grows line by line: what was written is kept whatever ends the program."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from runtime.storage.files import make_folder, storage_errors


class LineFile:
    """A file of whole lines of UTF-8, which overwrites an earlier one with its first line."""

    def __init__(self, path: Path) -> None:
        """Open the file for writing, and create it and its folder if there is none.

        Raises:
            StorageError: The file cannot be written, or is something else, such as a device.
        """
        self._path, self._end, self._new = path, 0, False
        self._file: int | None = None
        # A named pipe is not waited for.
        flags = os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)
        with storage_errors(path):
            make_folder(path.parent)
            try:
                self._file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                self._new = True
            except FileExistsError:
                self._file = opened(path, flags)

    def write(self, text: str) -> None:
        """Write a line, which ends with a line break, or nothing of it.

        Raises:
            StorageError: The line cannot be written, as on a full disk.
        """
        file, rest = self._file, memoryview(text.encode("utf-8", "backslashreplace"))
        if file is None:
            raise ValueError(f"'{self._path}' is closed")
        size = len(rest)
        try:
            with storage_errors(self._path):
                if not self._end:
                    os.ftruncate(file, 0)
                while rest:
                    rest = rest[os.write(file, rest) :]
            self._end += size
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file, self._end)
                os.lseek(file, self._end, os.SEEK_SET)
            raise

    def close(self) -> None:
        """Flush the file to the disk and close it; a new one without lines is removed.

        Safe to call more than once.

        Raises:
            StorageError: The disk does not take it.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with storage_errors(self._path):
                os.fsync(file)
                if self._new and not self._end:
                    self._path.unlink(missing_ok=True)
        finally:
            os.close(file)


def opened(path: Path, flags: int) -> int:
    """Open an earlier file and return its descriptor.

    Raises:
        OSError: It cannot be opened, or is something else, such as a device.
    """
    try:
        file = os.open(path, flags)
    except OSError as error:
        if error.errno != errno.ENXIO:  # a pipe without a reader, or a socket
            raise
    else:
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
    raise OSError(errno.EINVAL, "not a regular file")
