"""Load each task once for all waiting threads, and prefetch tasks in the background."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

from runtime.errors import UdaError
from runtime.mutex import Mutex
from runtime.strategies.base import LoadedTask
from runtime.workers import Worker


class _Load:
    """One reading, for all who want it while it lasts."""

    def __init__(self) -> None:
        self.turn = Mutex()
        self.error: UdaError | None = None


class SharedLoads:
    """Lets one thread read a task while others that want it wait for the outcome."""

    def __init__(self) -> None:
        self._loads: dict[str, _Load] = {}

    def load(
        self,
        key: str,
        find: Callable[[], LoadedTask | None],
        read: Callable[[], LoadedTask],
        add: Callable[[LoadedTask], LoadedTask],
    ) -> LoadedTask:
        """Return what `find` finds, or else what is read and added.

        If the thread that reads is interrupted, one of those who wait reads.

        Args:
            key: Name of the task; equal for equal tasks.
            find: Function that returns the task if it is in memory.
            read: Function that reads the task.
            add: Function that puts the task where `find` finds it.

        Raises:
            UdaError: What `read` raises, here or in the thread that was waited for; what `add`
                raises.
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
                # Those who wait by now share an error; those who come later may try again.
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
        """Have a job done some time, unless one of this key waits already.

        Args:
            job: Function to call; a UdaError or MemoryError that it raises is dropped.
            key: Name of the job.
        """
        if key not in self._waiting:
            self._waiting[key] = None
            self._jobs.put((job, key))

    def close(self) -> None:
        """Drop the jobs that wait, and wait for the one that runs. Safe to call more than once."""
        self._closed = True
        self._jobs.put(None)
        if os.getpid() == self._process:  # threads do not come along in a fork
            self._worker.join()
        atexit.unregister(self.close)

    def _run(self) -> None:
        _step_back()
        while (job := self._jobs.get()) is not None and not self._closed:
            self._waiting.pop(job[1], None)
            with contextlib.suppress(UdaError, MemoryError):  # who wants it will find out
                job[0]()


def _step_back() -> None:
    """Let this thread give way to those that classify frames, where threads have priorities."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
