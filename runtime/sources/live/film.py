"""A video file, played like a camera or read as fast as its frames are taken."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.sources.capture import MISSES, Capture
from runtime.sources.live.base import Connection, Settings
from runtime.sources.live.pace import Pace

_RATE = 30.0
"""Frames per second of a file that does not say."""


class Film(Connection):
    """Plays a file once."""

    live = False

    def __init__(self, where: str, settings: Settings) -> None:
        """Check that the file is a video, see `Connection`."""
        super().__init__(where, settings)
        self.lossless = settings.fast
        Capture(where).close()
        self._capture: Capture | None = None
        self._good = self._damaged = 0
        self._end = 0.0

    def open(self) -> None:
        """Open the file.

        Raises:
            DataError: It cannot be read any more.
        """
        self._capture = Capture(self.where)
        self._pace = Pace(self._capture.rate or _RATE)

    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Return the next frame when its time has come, see `Connection`.

        Raises:
            DataError: Frames are missing, which is known at the end.
        """
        capture = self._capture
        if capture is None or not (self.settings.fast or self._pace.wait(self.stopping)):
            return None
        for misses in range(MISSES):
            image, seconds = capture.read(self._good)
            if image is not None:
                self._good, self._damaged = self._good + 1, self._damaged + misses
                self._end = max(self._end, seconds)
                return image, None
        error = capture.verdict(self._good, self._damaged, self._end)
        if error is not None:
            raise error
        return None

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        if self._capture is not None:
            self._capture.close()
