"""Take over tasks that are installed, replaced or removed while a bundle is in use."""

from __future__ import annotations

import time

from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.changes import changes
from runtime.errors import StorageError
from runtime.storage import disk
from runtime.watch.model import Model

_AGAIN = 10.0
"""Seconds after which a change that could not be taken over is tried again, as a copy may have been
under way."""

Stamp = tuple[int, ...] | None


class TaskRefresher:
    """Notices by the manifest's status that tasks have changed. Used by one thread at a time."""

    def __init__(self, model: Model) -> None:
        """Note the manifest as it is now.

        Args:
            model: Session or pool that takes the changes over.
        """
        self._model = model
        self._path = model.bundle().path / manifest.NAME
        self._seen: Stamp = None
        self._retry: float | None = 0.0  # it may have changed since the session was opened

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks that the session knows."""
        return self._model.tasks

    def due(self) -> bool:
        """Return whether the manifest has changed, or a former change should be tried again."""
        if self._retry is not None and time.monotonic() >= self._retry:
            return True
        return self._stamp() != self._seen

    def refresh(self) -> tuple[str, ...]:
        """Take over all changes or none, between two frames; return the ids of the tasks.

        Every task that is new is read and checked before.

        Raises:
            UdaError: The bundle or a task of it is damaged, or the base has changed; the session
                continues with the tasks that it knows.
        """
        self._seen, self._retry = self._stamp(), time.monotonic() + _AGAIN
        old = self._model.bundle()
        new = Bundle.open(old.path)
        added = [task for task in changes(old, new) if task in new.tasks]
        changed = self._model.refresh(new, added)
        self._retry = None
        return changed

    def _stamp(self) -> Stamp:
        try:
            found = disk.status(self._path)
        except StorageError:
            return ()
        if found is None:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
