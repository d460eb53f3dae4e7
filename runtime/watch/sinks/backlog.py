"""A thread that delivers what a sink takes, from a queue that never makes the caller wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from runtime.watch.sinks.trouble import Trouble

T = TypeVar("T")

SECOND = 1.0
"""Seconds between two attempts, and between two calls of `tick`."""
LAST, END = 0.5, 0.8
"""Seconds after `close` in which things are still delivered, and after which it ends."""


class Backlog(Generic[T]):
    """Things that wait to be delivered; the oldest are lost where there are too many."""

    def __init__(
        self,
        deliver: Callable[[T], None],
        trouble: Trouble,
        room: int,
        *,
        retry: bool = True,
        tick: Callable[[], None] | None = None,
        finish: Callable[[], None] | None = None,
    ) -> None:
        """Prepare the thread; `start` starts it.

        Args:
            deliver: Function that delivers a thing, and raises an error where it cannot.
            trouble: Counts and reports what is lost.
            room: Number of things that may wait.
            retry: Whether to try again what could not be delivered, a second later.
            tick: Function to call about once a second; may raise like `deliver`.
            finish: Function to call at the end.
        """
        self._deliver, self._trouble, self._retry = deliver, trouble, retry
        self._tick, self._finish = tick, finish
        self._items: deque[T] = deque()
        self._room = room
        self._changed = threading.Condition()
        self._until: float | None = None
        """When to end, once it is closed."""
        self._in_hand = 0
        """Number of things, 0 or 1, that the thread is delivering."""
        self._thread = threading.Thread(
            target=self._work, name=self.__class__.__name__, daemon=True
        )

    def start(self) -> None:
        """Start delivering. Safe to call once."""
        self._thread.start()

    def put(self, item: T) -> None:
        """Take a thing; the oldest one that waits is lost where there is no room."""
        with self._changed:
            if self._until is not None:
                return
            if len(self._items) >= self._room:
                self._items.popleft()
                self._trouble.lose()
            self._items.append(item)
            self._changed.notify()

    def close(self) -> None:
        """Deliver for half a second at most, report what is lost, and end.

        Safe to call more than once.
        """
        with self._changed:
            if self._until is not None:
                return
            self._until = time.monotonic() + LAST
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(END)
        with self._changed:  # a thread that hangs in a disk takes no more
            self._trouble.lose(len(self._items) + self._in_hand)
            self._items.clear()
        self._trouble.say(last=True)

    def _work(self) -> None:
        next_tick = time.monotonic()
        while self._goes_on():
            if self._tick is not None and time.monotonic() >= next_tick:
                next_tick = time.monotonic() + SECOND
                self._attempt(self._tick)
            found = self._next()
            if found:
                self._handle(found[0])
                self._in_hand = 0
            self._trouble.say()
        try:
            if self._finish is not None:
                self._finish()
        except Exception as error:  # as in `_attempt`, and a failure before stays one
            self._trouble.failed(error)

    def _goes_on(self) -> bool:
        with self._changed:
            if self._until is None:
                return True
            return bool(self._items) and time.monotonic() < self._until

    def _next(self) -> list[T]:
        """Return the next thing in a list; an empty one after a second without."""
        with self._changed:
            if not self._items and self._until is None:
                self._changed.wait(SECOND)
            self._in_hand = min(len(self._items), 1)
            return [self._items.popleft()] if self._items else []

    def _handle(self, item: T) -> None:
        """Deliver a thing, however often that takes; the queue goes on taking others."""
        while not self._attempt(lambda: self._deliver(item)):
            with self._changed:
                ends = not self._retry or self._until is not None
            if ends:
                self._in_hand = 0
                self._trouble.lose()
                return
            self._trouble.say()
            with self._changed:
                self._changed.wait_for(lambda: self._until is not None, SECOND)

    def _attempt(self, call: Callable[[], None]) -> bool:
        """Return whether a call succeeded."""
        try:
            call()
        # The thread outlives what libraries raise: it is reported like any other failure.
        except Exception as error:
            self._trouble.failed(error)
            return False
        self._trouble.well()
        return True
