"""Read a video file with OpenCV, and notice where it is truncated or damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError
from runtime.frames.opencv import opencv
from runtime.storage.files import open_regular

_SLACK = 0.02
"""Share of frames, or of seconds, by which a header may be wrong without a warning."""
MISSES = 50
"""Failed reads in a row that end a video: a damaged frame is one, at the end there is no other."""
_MAX_COUNT, _MAX_RATE = 1e9, 1000.0
Frame = tuple["NDArray[np.uint8] | None", float]
"""(H, W, 3) RGB, or None where there is none, and the time in seconds."""


class Capture:
    """A video file that OpenCV has opened."""

    def __init__(self, name: str) -> None:
        """Open a file.

        Raises:
            DataError: It cannot be read, or is not a video.
            ConfigError: OpenCV is not installed.
        """
        self._cv2, self._name = opencv(), name
        path = os.path.abspath(name)
        try:
            open_regular(Path(path)).close()  # OpenCV gives no reason, and would wait for a pipe
            path.encode()  # OpenCV may crash at others
        except OSError as error:
            raise DataError(
                f"cannot read the video '{name}': {error.strerror}; check the path and its "
                "permissions"
            ) from error
        except ValueError as error:
            raise DataError(
                f"cannot read the video '{name}': its name is not UTF-8 text; rename it"
            ) from error
        self._capture: Any = self._cv2.VideoCapture(path)
        if not self._capture.isOpened():
            self._capture.release()
            raise DataError(
                f"cannot read the video '{name}': OpenCV finds no video in it; repair or remove it"
            )
        count = self._capture.get(self._cv2.CAP_PROP_FRAME_COUNT)
        rate = self._capture.get(self._cv2.CAP_PROP_FPS)
        self.count = int(count) if 0 < count < _MAX_COUNT else None
        """Number of frames by the header, which may be wrong; None if it does not say."""
        self.rate = float(rate) if 0 < rate <= _MAX_RATE else None
        """Frames per second; None if the header does not say."""

    def read(self, number: int) -> Frame:
        """Return the next frame and its time; None if it is damaged or there are no more.

        Args:
            number: Its number; frames are read in order, whatever it is.
        """
        good, image = self._capture.read()
        if not good or image is None:
            return None, 0.0
        seconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        return self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), float(seconds)

    def near(self, good: int) -> bool:
        """Return whether a number of frames is about what the header says, if it says any."""
        return self.count is None or abs(self.count - good) <= 2 + _SLACK * self.count

    def verdict(self, good: int, damaged: int, end: float) -> DataError | None:
        """Return what is wrong with the video that was read to its end; None if nothing is.

        Frames are missing at the end if both their number and their time say so: the number in a
        header is often computed from a rate that is a guess.

        Args:
            good: Number of frames that were read.
            damaged: Number of frames between them that were not.
            end: Time of the last one, in seconds.
        """
        if not good:
            return DataError(f"the video '{self._name}' has no frames; record or copy it again")
        short = self.count is not None and good < self.count and not self.near(good)
        if short and self.rate is not None and self.count is not None:
            short = end + 2 / self.rate < self.count / self.rate * (1 - _SLACK)
        if not damaged and not short:
            return None
        return DataError(
            f"the video '{self._name}' is truncated or damaged: {good:,} of "
            f"{max(self.count or 0, good + damaged):,} frames were read; record or copy it again"
        )

    def close(self) -> None:
        """Close the file. Safe to call more than once."""
        self._capture.release()
