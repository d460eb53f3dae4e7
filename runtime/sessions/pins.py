"""Which tasks a session has pinned, through every change of the bundle."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from runtime.sessions.residents import Read, Residents

File = tuple[str, Read]
"""The key of a task in memory, and what reads it."""


class Pins:
    """Pinned tasks by id. Thread-safe for those who change them within `changing` only."""

    def __init__(self, residents: Residents) -> None:
        """Start with none."""
        self._residents = residents
        self._keys: dict[str, str] = {}
        self._closed = False
        self._lock = threading.Lock()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Let nobody else change them while the block runs."""
        try:
            with self._lock:
                yield
        finally:
            self._clear_if_closed()

    def add(self, task: str, file: File) -> None:
        """Bring a task into memory and keep it there; again changes nothing.

        Raises:
            UdaError: As `Residents.pin`.
        """
        if task not in self._keys:
            self._residents.pin(*file)
            self._keys[task] = file[0]

    def remove(self, task: str) -> None:
        """Let a task go, if it is pinned."""
        if task in self._keys:
            self._residents.unpin(self._keys.pop(task))

    @contextmanager
    def renewed(self, gone: Collection[str], files: Mapping[str, File]) -> Iterator[None]:
        """Pin new versions beside the old ones, which are let go of if the block ends well.

        Args:
            gone: Keys of the old versions.
            files: New versions by task; a task that has none is no longer pinned in the end.

        Raises:
            UdaError: As `Residents.pin`; everything is pinned as before then.
        """
        old = {task: key for task, key in self._keys.items() if key in gone}
        new: dict[str, str] = {}
        try:
            for task in old.keys() & files.keys():
                self._residents.pin(*files[task], gone)
                new[task] = files[task][0]
            yield
        except BaseException:
            for key in new.values():
                self._residents.unpin(key)
            raise
        for task in old:
            self.remove(task)
        self._keys.update(new)

    def close(self) -> None:
        """Let all tasks go, at the latest when who is changing them at this moment has done so."""
        self._closed = True
        self._clear_if_closed()

    def _clear_if_closed(self) -> None:
        # Whoever closes may be the one who is changing them, or one for whom that one waits. So
        # it does not wait; the last to let go of the lock finds that they are closed.
        if self._closed and self._lock.acquire(blocking=False):
            try:
                for task in tuple(self._keys):
                    self.remove(task)
            finally:
                self._lock.release()
