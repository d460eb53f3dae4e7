"""The tasks of a bundle, one of them current: what a session does without frames."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from runtime.bundles.bundle import Bundle
from runtime.bundles.changes import changes
from runtime.errors import BackendError, TaskError
from runtime.sessions.pins import File, Pins
from runtime.sessions.residents import Residents
from runtime.strategies.base import Resident, Strategy


class Switcher:
    """Makes tasks current, one at a time. Thread-safe; tasks are read without the lock."""

    def __init__(
        self, bundle: Bundle, strategy: Strategy[Any], residents: Residents | None = None
    ) -> None:
        """Take over opened parts; `Session.open` makes them.

        Args:
            bundle: Where tasks come from.
            strategy: Open for it.
            residents: The tasks in memory, shared with sessions over the same base; None makes
                them this session's own, without a bound.
        """
        self.bundle = bundle
        """As it was at the opening or the last `refresh`."""
        self._strategy = strategy
        self._residents = Residents() if residents is None else residents
        self._residents.join(self, _keys(bundle))
        self._current: Resident | None = None
        self._key = ""
        self._pins = Pins(self._residents)
        self._closed = False
        self._lock = threading.RLock()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks that `switch` takes."""
        return self.bundle.tasks

    @property
    def closed(self) -> bool:
        """Whether it was closed, by `close` or because a device failed."""
        return self._closed

    @property
    def task(self) -> str | None:
        """The id of the current task, or None before the first switch."""
        current = self._current  # read once: another thread may close the session
        return None if current is None else current.info.id

    @property
    def resident(self) -> tuple[str, ...]:
        """The ids of the tasks in memory, least recently used first."""
        return tuple(resident.info.id for resident in self._residents.tasks)

    @property
    def task_bytes(self) -> int:
        """Bytes that the tasks in memory take."""
        return self._residents.nbytes

    def load(self, task: str) -> int:
        """Bring a task into memory without switching to it; return its bytes there.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        return self._load(task).nbytes

    def prefetch(self, *tasks: str) -> None:
        """Have tasks brought into memory in the background, and return at once.

        What is wrong with a task's file shows when it is loaded or switched to.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        bundle = self._opened()
        for key, read in [self._file(task, bundle) for task in tasks]:
            self._residents.prefetch(key, read)

    def pin(self, task: str) -> None:
        """Bring a task into memory and keep it there; again changes nothing.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        with self._pins.changing():
            self._pins.add(task, self._file(task, self._opened()))

    def unpin(self, task: str) -> None:
        """Let a task leave memory again; one that is not pinned may be given.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        with self._pins.changing():
            self._opened().entry(task)
            self._pins.remove(task)

    def switch(self, task: str) -> None:
        """Make `task` the current one, in place; does nothing when it already is.

        The first switch to a task reads its file. A switch that fails leaves the current task; if
        the device does not take that one back, the session is closed.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device took no new weights.
        """
        with self._on(task):
            pass

    def refresh(self, new: Bundle | None = None) -> tuple[str, ...]:
        """Take over what was installed, replaced or removed on disk; return the ids that changed.

        If the current task was replaced, the new version is current; if it was removed, none is.

        Args:
            new: The bundle as it is on disk; None reads its manifest.

        Raises:
            FormatError: The bundle is damaged, has another base or other graphs now (open a new
                session), or the new version of the current or a pinned task is damaged.
            TaskError: There is no room for such a version.
            BackendError: The session is closed, or the device took no new weights.

        After an error the session goes on with the bundle as it knew it.
        """
        with self._pins.changing(), ExitStack() as stack:
            old = self._opened()
            new = Bundle.open(old.path) if new is None else new
            changed = changes(old, new)
            gone = {old.entry(task).file.sha256 for task in changed if task in old.tasks}
            files = {task: self._file(task, new) for task in changed if task in new.tasks}
            # Read before any frame has to wait; errors show before anything changes.
            stack.enter_context(self._pins.renewed(gone, files))
            if self.task in files:
                self._take(files[self.task], stack, gone)
            with self._lock:
                self._opened()
                if self.task in files:  # maybe another one than above
                    self._change(*self._take(files[self.task], stack, gone))
                elif self.task in changed:
                    self._change("", None)
                self.bundle = new
                self._residents.join(self, _keys(new))
        return changed

    def base_sha256(self) -> str:
        """Return the digest of the base as it is now in memory; a sound one equals the manifest's.

        Takes the current patch off for a moment: a health check for devices that run for months.
        On a GPU it is the GPU's memory that is read.
        """
        with self._lock:
            self._opened()
            return self._strategy.base_sha256()

    def close(self) -> None:
        """Release the engines and the tasks. Closing twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._pins.close()
            if self._current is not None:
                self._residents.release(self._key)
            self._current = None
            self._residents.leave(self)
            self._strategy.close()

    @contextmanager
    def _on(self, *tasks: str) -> Iterator[list[Resident]]:
        """Hold the lock with tasks in memory, the first of them current; none: as it is."""
        while True:
            bundle, keys, found = self._opened(), [], []
            try:
                for task in tasks:
                    key, read = self._file(task, bundle)
                    found.append(self._residents.take(key, read))
                    keys.append(key)
                with self._lock:
                    self._opened()
                    if bundle is not self.bundle:  # a refresh came between
                        continue
                    if found:
                        self._change(keys[0], found[0])
                    yield found or [self._selected()]
                    return
            finally:
                for key in keys:
                    self._residents.release(key)

    def _load(self, task: str) -> Resident:
        return self._residents.get(*self._file(task, self._opened()))

    def _file(self, task: str, bundle: Bundle) -> File:
        return bundle.entry(task).file.sha256, partial(_read, bundle, self._strategy, task)

    def _take(
        self, file: File, stack: ExitStack, instead: Collection[str] = ()
    ) -> tuple[str, Resident]:
        resident = self._residents.take(*file, instead)
        stack.callback(self._residents.release, file[0])
        return file[0], resident

    def _change(self, key: str, new: Resident | None) -> None:
        old = self._current
        if new is old:
            return
        try:
            self._strategy.switch(new, old)
        except BaseException:
            if self._strategy.closed:
                self.close()
            raise
        if new is not None:
            self._residents.hold(key)
        if old is not None:
            self._residents.release(self._key)
        self._current, self._key = new, key

    def _selected(self) -> Resident:
        tasks, current = self._opened().tasks, self._current
        if current is None:
            raise TaskError(
                f"no task is selected; choose one (--task, or switch): {', '.join(tasks)}"
            )
        return current

    def _opened(self) -> Bundle:
        if self._closed:
            raise BackendError("the session is closed; open a new one")
        return self.bundle


def _read(bundle: Bundle, strategy: Strategy[Any], task: str) -> Resident:
    resident: Resident = strategy.prepare(
        bundle.task(task, strategy.layout), bundle.preprocess(task)
    )
    return resident


def _keys(bundle: Bundle) -> list[str]:
    return [bundle.entry(task).file.sha256 for task in bundle.tasks]
