"""Worker threads that survive an interrupt of the thread that starts or awaits them."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from runtime.errors import BackendError
from runtime.mutex import Bell

S = TypeVar("S")
T = TypeVar("T")


class Worker:
    """A thread that starts or fails to start as a whole, even if its starter is interrupted."""

    def __init__(self, run: Callable[[], object], name: str) -> None:
        """Start the thread."""
        self._work = run
        self._ended = Bell()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        # `start` waits until the thread runs; interrupted there, it may leave it waiting for ever.
        start_new_thread(self._thread.start, ())

    def join(self) -> None:
        """Wait for the thread to end."""
        self._ended.wait()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended.ring()


class Job(Generic[T]):
    """A call on another thread."""

    def __init__(self, work: Callable[[], T]) -> None:
        """Wrap a function to call."""
        self._work = work
        self._done = Bell()
        self._begun = self._dropped = False
        self._result: list[T] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call the function, unless the job was dropped."""
        self._begun = True  # before it looks, as `abandon` looks after it said so
        try:
            if not self._dropped:
                self._result.append(self._work())
        except BaseException as error:
            self.error = error
        finally:
            self._done.ring()

    def refuse(self, error: BaseException) -> None:
        """Make the job fail instead of running it."""
        self.error = error
        self._done.ring()

    def drop(self) -> None:
        """Cancel the job if it has not begun."""
        self._dropped = True

    def abandon(self) -> None:
        """Cancel the job, or wait for its end if it has begun."""
        self._dropped = True
        if self._begun:
            self._done.wait()

    def start(self) -> None:
        """Run the job on a thread of its own."""
        start_new_thread(self.run, ())

    def wait(self) -> None:
        """Wait until the job has run."""
        self._done.wait()

    def take(self) -> T:
        """Wait until the job has run, and return its result.

        Raises:
            BaseException: What the call raised.
        """
        self._done.wait()
        if self.error is not None:
            raise self.error
        return self.result

    @property
    def result(self) -> T:
        """The call's result."""
        return self._result[0]


def on_threads(work: Callable[[S], T], items: Iterable[S], count: int) -> list[T]:
    """Call `work` with each item on several threads, and return the results in order.

    No call is still running when this returns or raises.

    Raises:
        BaseException: As the first call that failed; the others are cancelled.
    """
    jobs = [Job(partial(work, item)) for item in items]
    left = deque(jobs)

    def run() -> None:
        with contextlib.suppress(IndexError):
            while True:
                left.popleft().run()

    try:
        for _ in range(min(count, len(jobs))):
            start_new_thread(run, ())
        return [job.take() for job in jobs]
    except BaseException:
        for job in jobs:
            job.drop()
        for job in jobs:
            job.abandon()
        raise


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """A pool of threads; the locks of `concurrent.futures` stay held after an interrupt."""

    def __init__(self, count: int) -> None:
        """Start a number of threads."""
        self._jobs: SimpleQueue[Job[object] | None] = SimpleQueue()
        self._process = os.getpid()
        self._closed = False
        self._workers = [Worker(self._run, "uda-pool") for _ in range(count)]
        atexit.register(self.close)  # none must be in a library's code when Python ends

    def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Run calls concurrently and return their results.

        Raises:
            BaseException: As the first call that failed, after all have ended.
        """
        jobs = [Job(work) for work in works]
        try:
            for job in jobs:
                self._jobs.put(job)  # type: ignore[arg-type]
            if self._closed:  # meanwhile, perhaps before they were put there
                self.close()
            for job in jobs:
                job.wait()
        except BaseException:
            for job in jobs:
                job.drop()
            raise
        return [job.take() for job in jobs]

    def submit(self, work: Callable[[], T]) -> Job[T]:
        """Queue a call for the next thread that is free, and return its job."""
        job = Job(work)
        self._jobs.put(job)  # type: ignore[arg-type]
        if self._closed:  # meanwhile, perhaps before it was put there
            self.close()
        return job

    def close(self) -> None:
        """Wait for running jobs and end the threads. Safe to call more than once."""
        self._closed = True
        for _ in self._workers:
            self._jobs.put(None)
        if os.getpid() == self._process:
            for worker in self._workers:
                worker.join()
        while not self._jobs.empty():
            with contextlib.suppress(Empty):
                if (job := self._jobs.get_nowait()) is not None:
                    job.refuse(BackendError("the pool is closed; open a new one"))
        atexit.unregister(self.close)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


def lower_priority() -> None:
    """Lower this thread's priority below those that classify frames, where threads have one."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
