"""Give frames at a steady rate."""

from __future__ import annotations

import threading
import time

_LATE = 1.0
"""Seconds of delay after which frames are not hurried to catch up."""


class Pace:
    """Waits until the next frame is due."""

    def __init__(self, rate: float) -> None:
        """Start with the first frame due at once.

        Args:
            rate: Frames per second.
        """
        self._step = 1 / rate
        self._due = time.monotonic()

    def wait(self, stop: threading.Event) -> bool:
        """Wait; return whether the time has come, rather than the event."""
        now = time.monotonic()
        if now - self._due > _LATE:
            self._due = now
        stopped = stop.wait(max(0.0, self._due - now))
        self._due += self._step
        return not stopped
