"""Load each task once for all waiting threads, and prefetch tasks in the background."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from queue import SimpleQueue

from runtime.errors import UdaError
from runtime.mutex import Mutex
from runtime.strategies.base import LoadedTask
from runtime.workers import Worker, lower_priority


class _Load:
    """One read of a task, for all threads that wait for it."""

    def __init__(self) -> None:
        self.turn = Mutex()
        self.error: UdaError | None = None


class SharedLoads:
    """Lets one thread read a task while others that need it wait for the result."""

    def __init__(self) -> None:
        self._loads: dict[str, _Load] = {}

    def load(
        self,
        key: str,
        find: Callable[[], LoadedTask | None],
        read: Callable[[], LoadedTask],
        add: Callable[[LoadedTask], LoadedTask],
    ) -> LoadedTask:
        """Find a task, or read and add it.

        If the thread that reads is interrupted, one of those that wait reads.

        Args:
            key: Key of the task, equal for equal tasks.
            find: Function that returns the task if it is in memory.
            read: Function that reads the task.
            add: Function that puts the task where `find` finds it.

        Raises:
            UdaError: As `read`, here or in the thread that was waited for, or as `add`.
        """
        load = self._loads.setdefault(key, _Load())
        with load.turn:
            loaded = find()
            if loaded is not None:
                return loaded
            if load.error is not None:
                raise load.error
            try:
                try:
                    loaded = read()
                except UdaError as error:
                    load.error = error
                    raise
                return add(loaded)
            finally:
                # Threads that wait by now share an error; later ones may try again.
                if self._loads.get(key) is load:
                    self._loads.pop(key, None)


class Background:
    """One low-priority thread that runs jobs, one after the other."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], object], str] | None] = SimpleQueue()
        self._waiting: dict[str, None] = {}
        self._closed = False
        self._process = os.getpid()
        self._worker = Worker(self._run, "uda-prefetch")
        atexit.register(self.close)  # it must not be in a library's code when Python ends

    def submit(self, job: Callable[[], object], key: str) -> None:
        """Queue a job, unless one of this key is queued already.

        Args:
            job: Function to call; a UdaError or MemoryError that it raises is dropped.
            key: Key of the job.
        """
        if key not in self._waiting:
            self._waiting[key] = None
            self._jobs.put((job, key))

    def close(self) -> None:
        """Drop queued jobs, and wait for the running one. Safe to call more than once."""
        self._closed = True
        self._jobs.put(None)
        if os.getpid() == self._process:  # threads do not survive a fork
            self._worker.join()
        atexit.unregister(self.close)

    def _run(self) -> None:
        lower_priority()
        while (job := self._jobs.get()) is not None and not self._closed:
            self._waiting.pop(job[1], None)
            with contextlib.suppress(UdaError, MemoryError):  # raised when it is needed
                job[0]()
