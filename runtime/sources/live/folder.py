"""A folder that is being filled with pictures."""

from __future__ import annotations

import heapq
import os
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError, StorageError, UdaError
from runtime.frames import formats
from runtime.frames.preprocess import read_image
from runtime.inventory.names import file_reason
from runtime.sources.live.base import Connection, Settings, UnreadableFile

SCAN = 1.0
"""Seconds between two looks into the folder; more where looking takes more than a tenth of it."""
_SHARE = 10
_SETTLED = 2.0
"""Seconds since its last change after which a file that was there at the start is whole."""
PATIENCE = 10.0
"""Seconds without a change after which a file that cannot be decoded is not waited for."""
_BATCH = 1024
"""Files that are listed to be read, at most."""
_FOLDERS = 4
"""Folders that were at the path one after another, as a disk that is unmounted and comes back."""
Identity = int
"""A file as it is now: a hash of its place on the disk, its size and its time."""


@dataclass(frozen=True, order=True)
class _File:
    time: int
    """When it was last changed, in nanoseconds since 1970."""
    path: str
    identity: Identity
    changed: int
    """When it, its name or its place was last changed, in nanoseconds since 1970."""


@dataclass
class _Young:
    """A file that is, or may be, still being written."""

    identity: Identity
    since: float
    """Time of the monotonic clock at which it was first seen as it is."""
    tried: bool = False


class Folder(Connection):
    """Gives each picture of a folder once, when it is whole; those that are there, oldest first.

    A picture that is written over is another one. What is remembered is a number for each picture
    that is in the folder, at most 300 bytes. Folders inside are not entered, links not followed.
    """

    idle = True
    lossless = True

    def __init__(self, where: str, settings: Settings) -> None:
        """Check that it is a folder, see `Connection`."""
        super().__init__(where, settings)
        _status(where)
        self._memory: OrderedDict[tuple[int, int], set[Identity]] = OrderedDict()
        self._ready: deque[_File] = deque()
        self._young: dict[str, _Young] = {}
        self._seen: set[Identity] = set()
        self._here = (0, 0)
        self._first = True
        self._next_scan = 0.0

    def resume(self, earlier: Connection) -> None:
        """Remember what was given before the folder was lost."""
        if isinstance(earlier, Folder):
            self._memory = earlier._memory

    def open(self) -> None:
        """Look for the folder.

        Raises:
            DataError: It is not there.
        """
        self._here = _status(self.where)
        self._first = self._here not in self._memory
        self._seen = self._memory.setdefault(self._here, set())
        self._memory.move_to_end(self._here)
        while len(self._memory) > _FOLDERS:
            self._memory.popitem(last=False)

    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Return the next picture with its path, see `Connection`.

        Raises:
            UnreadableFile: A picture cannot be decoded.
            DataError: The folder is gone.
            StorageError: Too many files are open.
        """
        if not self._ready:
            if self.stopping.wait(max(0.0, self._next_scan - time.monotonic())):
                return None
            self._scan()
        while self._ready:
            file = self._ready.popleft()
            try:
                image = read_image(file.path, background=self.settings.background)
            except StorageError:  # too many files are open, which says nothing about this one
                raise
            except UdaError as error:
                if self._wait_for(file):
                    continue
                self._done(file)
                raise UnreadableFile(str(error)) from error
            self._done(file)
            return image, file.path
        return None

    def close(self) -> None:
        """Forget what was going to be read."""
        self._ready.clear()

    def _done(self, file: _File) -> None:
        self._seen.add(file.identity)
        self._young.pop(file.path, None)

    def _wait_for(self, file: _File) -> bool:
        """Return whether a file that cannot be decoded may still be written to."""
        young = self._young.get(file.path)
        if young is None or young.identity != file.identity:
            return False
        young.tried = True
        return time.monotonic() - young.since < PATIENCE

    def _scan(self) -> None:
        """List the pictures that are whole and were not given, the oldest first."""
        began = time.monotonic()
        if _status(self.where) != self._here:
            raise DataError(f"'{self.where}' is another folder than before; looking into it again")
        present: set[Identity] = set()
        young: dict[str, _Young] = {}
        new = (file for file in self._pictures() if self._is_new(file, present, young))
        ready = heapq.nsmallest(_BATCH + 1, new)
        self._seen &= present
        self._memory[self._here] = self._seen
        self._young = young
        self._ready.extend(ready[:_BATCH])
        took = time.monotonic() - began
        more = len(ready) > _BATCH
        if not more:
            self._first = False
        self._next_scan = began + (0.0 if more else max(SCAN, _SHARE * took))

    def _is_new(self, file: _File, present: set[Identity], young: dict[str, _Young]) -> bool:
        """Return whether a file is to be read; note it, and those that may still be written to."""
        present.add(file.identity)
        if file.identity in self._seen:
            return False
        if self._first and file.changed < time.time_ns() - _SETTLED * 1e9:
            return True
        before, now = self._young.get(file.path), time.monotonic()
        if before is None or before.identity != file.identity:
            young[file.path] = _Young(file.identity, now)
            return False
        young[file.path] = before
        return not before.tried or now - before.since >= PATIENCE

    def _pictures(self) -> Iterator[_File]:
        """Yield the files that are called like pictures.

        Raises:
            DataError: The folder cannot be listed.
        """
        endings = formats.readable()
        try:
            with os.scandir(self.where) as entries:
                for entry in entries:
                    ending = os.path.splitext(entry.name)[1].lower()
                    if ending not in endings or file_reason(entry.name) is not None:
                        continue
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:  # gone meanwhile
                        continue
                    if S_ISREG(found.st_mode):
                        yield _file(entry.path, found)
        except OSError as error:
            raise _gone(self.where, error) from error


def _file(path: str, found: os.stat_result) -> _File:
    what = (found.st_ino, found.st_size, found.st_mtime_ns)
    return _File(found.st_mtime_ns, path, hash(what), found.st_ctime_ns)


def _status(where: str) -> tuple[int, int]:
    """Return the identity of a folder.

    Raises:
        DataError: It is not there, or is not a folder.
    """
    try:
        found = os.stat(where)
    except (OSError, ValueError) as error:
        raise _gone(where, error) from error
    if not S_ISDIR(found.st_mode):
        raise DataError(f"'{where}' is not a folder any more; check the path")
    return found.st_dev, found.st_ino


def _gone(where: str, error: OSError | ValueError) -> DataError:
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(f"cannot list '{where}': {reason}; check the path and its permissions")
