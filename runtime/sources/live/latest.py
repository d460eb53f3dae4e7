"""A queue of frames between two threads that drops its oldest instead of waiting for room."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from runtime.sources.live.base import Counts, LiveFrame


class Latest:
    """Holds at most so many frames; its memory is that of these frames, 6 MB each at full HD."""

    def __init__(self, room: int, on_change: Callable[[], object] | None = None) -> None:
        """Start empty.

        Args:
            room: Largest number of frames that wait.
            on_change: Called, from the writer's thread, when a frame was added and when none will
                follow. It must not wait.
        """
        self._room, self._on_change = room, on_change
        self._frames: deque[LiveFrame] = deque()
        self._open, self._changed = True, threading.Condition()
        self._skipped = self._dropped = self._taken = 0

    def put(self, frame: LiveFrame) -> None:
        """Add a frame; the oldest is dropped where there is no room. Never waits."""
        with self._changed:
            if not self._open:
                self._dropped += 1
                return
            if len(self._frames) == self._room:
                self._frames.popleft()
                self._dropped += 1
            self._frames.append(frame)
            self._changed.notify()
        self._tell()

    def wait_for_room(self, seconds: float) -> bool:
        """Return whether a frame can be added without dropping one, once it can or time is up."""
        with self._changed:
            return self._changed.wait_for(
                lambda: len(self._frames) < self._room or not self._open, seconds
            )

    def skip(self) -> None:
        """Count a frame that is left out on purpose."""
        with self._changed:
            self._skipped += 1

    def get(self, seconds: float = 0.0) -> LiveFrame | None:
        """Take the oldest frame; None if none came in time.

        Raises:
            EOFError: There are none left, and none will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or not self._open, seconds)
            if self._frames:
                self._taken += 1
                self._changed.notify()
                return self._frames.popleft()
            if not self._open:
                raise EOFError
            return None

    def close(self, *, drop: bool = False) -> None:
        """Take no more frames. Safe to call more than once.

        Args:
            drop: Whether the waiting ones are dropped, instead of being there to take.
        """
        with self._changed:
            self._open = False
            if drop:
                self._dropped += len(self._frames)
                self._frames.clear()
            self._changed.notify_all()
        self._tell()

    def counts(self) -> Counts:
        """Return where the frames are that came so far."""
        with self._changed:
            waiting = len(self._frames)
            captured = self._skipped + self._dropped + waiting + self._taken
            return Counts(captured, self._skipped, self._dropped, waiting)

    def _tell(self) -> None:
        if self._on_change is not None:
            self._on_change()
