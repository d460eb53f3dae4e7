"""Read ahead on other threads, within a bound of memory, and give the results in order."""

from __future__ import annotations

import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from runtime.workers import Job, Workers

S = TypeVar("S")
T = TypeVar("T")

ROOM = 128 << 20
"""Largest number of bytes of results that wait, beside the one that each thread is making."""
_JOBS = 64
"""Largest number of calls that are queued, or done with their result not taken yet."""
_PAUSE = 0.002
"""Seconds after which a thread looks again whether there is room."""


class Ahead(Generic[S, T]):
    """An iterator over the results of a function, which is called for later arguments meanwhile.

    A call waits while there is no room for its result, unless that result is the next one.
    """

    def __init__(
        self,
        call: Callable[[S], T],
        arguments: Iterable[S],
        threads: int,
        size: Callable[[T], int],
    ) -> None:
        """Start the threads.

        Args:
            call: Function to call with each argument; it may be called concurrently if there are
                several threads.
            arguments: Arguments; there may be no end of them.
            threads: Number of threads; calls begin in order.
            size: Returns the bytes of a result.
        """
        self._call, self._size = call, size
        self._arguments = enumerate(arguments)
        self._jobs: deque[tuple[int, Job[T]]] = deque()
        self._adding = allocate_lock()  # held by the threads alone, which nothing interrupts
        self._made = self._given = 0
        self._closed = False
        self._workers = Workers(threads)

    def __iter__(self) -> Ahead[S, T]:
        """Return the iterator itself."""
        return self

    def __next__(self) -> T:
        """Return the next result.

        Raises:
            BaseException: What its call raised.
        """
        while len(self._jobs) < _JOBS:
            try:
                number, argument = next(self._arguments)
            except StopIteration:
                break
            job = self._workers.submit(partial(self._run, number, argument))
            self._jobs.append((number, job))
        if not self._jobs:
            raise StopIteration
        result = self._jobs[0][1].take()
        self._jobs.popleft()
        self._given += self._size(result)
        return result

    def close(self) -> None:
        """Cancel what has not begun, and wait for the rest. Safe to call more than once."""
        self._closed = True
        for _, job in self._jobs:
            job.drop()
        self._workers.close()

    def _run(self, number: int, argument: S) -> T:
        while self._made - self._given > ROOM and self._can_wait(number):
            time.sleep(_PAUSE)
        result = self._call(argument)
        with self._adding:
            self._made += self._size(result)
        return result

    def _can_wait(self, number: int) -> bool:
        """Return whether a call may wait, as another result comes before its own."""
        try:
            return self._jobs[0][0] < number and not self._closed
        except IndexError:  # none is left, or it was not noted yet
            return False
