"""What cameras, streams and pipelines have in common: OpenCV opens and reads them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError
from runtime.frames.decode import MAX_PIXELS
from runtime.frames.opencv import opencv
from runtime.sources.live.address import redacted
from runtime.sources.live.base import Connection, Settings


class Opened(Connection):
    """A source that OpenCV reads, a frame at a time."""

    def __init__(self, where: str, settings: Settings) -> None:
        """Check that OpenCV is installed, see `Connection`."""
        super().__init__(where, settings)
        self._cv2 = opencv("this source needs")
        self._capture: Any = None
        self.shown = redacted(where)

    @abstractmethod
    def _opened(self) -> Any:
        """Return OpenCV's capture of the source, whether it is open or not."""

    @abstractmethod
    def _reason(self) -> str:
        """Return why it cannot be opened and what to do, once that was tried."""

    def open(self) -> None:
        """Connect, see `Connection`.

        Raises:
            DataError: It cannot be opened now.
        """
        self._capture = self._opened()
        if not self._capture.isOpened():
            raise DataError(f"cannot open '{self.shown}': {self._reason()}")
        sides = (self._cv2.CAP_PROP_FRAME_WIDTH, self._cv2.CAP_PROP_FRAME_HEIGHT)
        width, height = (self._capture.get(side) for side in sides)
        if width * height > MAX_PIXELS:
            raise DataError(
                f"'{self.shown}' has frames of {width:.0f} x {height:.0f} pixels, but at most "
                f"{MAX_PIXELS / 1e6:.0f} million are read; let it send smaller ones"
            )

    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Return the next frame, see `Connection`.

        Raises:
            DataError: The connection is lost.
        """
        good, image = self._capture.read() if self._capture is not None else (False, None)
        if self.stopping.is_set():
            return None
        if not good or image is None:
            raise DataError(f"'{self.shown}' gives no more frames; check the camera and its cable")
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise DataError(
                f"'{self.shown}' gives frames of shape {image.shape} and type {image.dtype}, "
                "expected 8 bits of blue, green and red; end a pipeline in videoconvert ! "
                "video/x-raw,format=BGR ! appsink"
            )
        return self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), None

    def close(self) -> None:
        """Release the device or the connection. Safe to call more than once."""
        if self._capture is not None:
            self._capture.release()
