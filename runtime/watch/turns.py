"""Give each worker the next source that has a frame waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from runtime.sources.live.base import LiveFrame
from runtime.watch.source import WatchedSource


class Turns:
    """Takes frames of sources in rotation, so that a fast source leaves the others their turns.

    A source's next frame is given out when its former one was released, so that they stay in order.
    """

    def __init__(self) -> None:
        """Start without sources."""
        self._sources: Sequence[WatchedSource] = ()
        self._first = 0
        self._turn = threading.Lock()
        self._news = threading.Event()

    def join(self, sources: Sequence[WatchedSource]) -> None:
        """Take the sources; call once."""
        self._sources = tuple(sources)

    def wake(self) -> None:
        """Say that a source has a frame or has ended. It waits for nothing."""
        self._news.set()

    def next(self, seconds: float) -> tuple[WatchedSource, LiveFrame] | None:
        """Return a source with its next frame, which the caller must release; None if none came."""
        self._news.clear()
        found = self._claim()
        if found is None and self._news.wait(seconds):
            found = self._claim()
        if found is not None:
            self._news.set()  # another worker may find one too
        return found

    def _claim(self) -> tuple[WatchedSource, LiveFrame] | None:
        with self._turn:
            for step in range(len(self._sources)):
                index = (self._first + step) % len(self._sources)
                frame = self._sources[index].claim()
                if frame is not None:
                    self._first = index + 1
                    return self._sources[index], frame
        return None
