"""Write the manifest of a harvest so that a kill or a full disk leaves whole lines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.monitoring.harvested import HEAD, MANIFEST, MAX_LINE, Entry
from runtime.storage.files import storage_errors
from runtime.storage.writing import write_bytes


class ManifestFile:
    """The manifest of a harvest that is being written: whole lines, appended and flushed."""

    def __init__(self, folder: Path, entries: Iterable[Entry]) -> None:
        """Write a manifest of these images, atomically, and open it for appending.

        Raises:
            StorageError: The file cannot be written.
        """
        self._path = folder / MANIFEST
        self._file, self._size = -1, 0
        self.lines = 0
        self.rewrite(entries)

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the manifest by one that lists these images alone.

        Raises:
            StorageError: The file cannot be written; the former one stays.
        """
        lines = [_line(HEAD), *(_line(asdict(entry)) for entry in entries)]
        content = b"".join(lines)
        write_bytes(self._path, content)
        self.close()
        self._size, self.lines = len(content), len(lines)
        with storage_errors(self._path):
            self._open()

    @contextmanager
    def adding(self, entry: Entry) -> Iterator[None]:
        """Append an image's line, then run the block that writes the image; undo it if that fails.

        A process that is killed leaves a line without a file, which readers leave out.

        Raises:
            StorageError: The line cannot be written; no part of it stays.
        """
        before = self._size, self.lines
        self._append(_line(asdict(entry)))
        try:
            yield
        except BaseException:
            self._size, self.lines = before
            self._cut()
            raise

    def remove(self, file: str) -> None:
        """Append that an image was removed.

        Raises:
            StorageError: As `adding`.
        """
        self._append(_line({"removed": file}))

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        with storage_errors(self._path):
            if self._file < 0:  # too many files were open when it was written anew
                self._open()
            there = os.stat(self._path)
            if not os.path.samestat(there, os.fstat(self._file)):
                raise OSError(errno.ESTALE, "it was replaced while it was being written")
            try:
                if there.st_size != self._size:  # an earlier `_cut` failed
                    os.ftruncate(self._file, self._size)
                while rest:
                    rest = rest[os.write(self._file, rest) :]
                os.fsync(self._file)
            except BaseException:
                self._cut()
                raise
        self._size, self.lines = self._size + len(line), self.lines + 1

    def _cut(self) -> None:
        """Take back an unfinished line, if the file system lets us."""
        with suppress(OSError):
            os.ftruncate(self._file, self._size)


def fits(entry: Entry) -> bool:
    """Return whether an image's line is short enough for readers."""
    return len(_line(asdict(entry))) <= MAX_LINE


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, allow_nan=False).encode() + b"\n"
