"""Frames of a camera, read by a thread into a queue that drops the oldest."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import runtime

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a camera."""

    number: int
    """Frames before it, those that were dropped as well."""
    image: Image
    """(H, W, 3), in OpenCV's order BGR."""


class Latest:
    """A queue between two threads that drops its oldest frame instead of waiting for room."""

    def __init__(self, room: int) -> None:
        self._frames: deque[Frame] = deque()
        self._room, self._open, self._changed = room, True, threading.Condition()
        self._error: Exception | None = None
        self.captured = self.dropped = 0

    def put(self, frame: Frame) -> None:
        """Add a frame; never waits."""
        with self._changed:
            self.captured += 1
            if len(self._frames) == self._room:
                self._frames.popleft()
                self.dropped += 1
            self._frames.append(frame)
            self._changed.notify()

    def close(self, error: Exception | None = None) -> None:
        """Say that no frame follows, and why if that is an error."""
        with self._changed:
            self._open, self._error = False, error
            self._changed.notify()

    def get(self, seconds: float) -> Frame | None:
        """Return the oldest frame; None if none came in time.

        Raises:
            EOFError: There are none left, and none will come.
            Exception: What the writer closed the queue with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or not self._open, seconds)
            if self._frames:
                return self._frames.popleft()
            if self._error is not None:
                raise self._error
            if not self._open:
                raise EOFError
            return None

    def drop_rest(self) -> None:
        """Count the frames that are still in the queue as dropped."""
        with self._changed:
            self.dropped += len(self._frames)
            self._frames.clear()


class Camera:
    """Reads a source in a thread of its own, a file at the pace of its recording."""

    def __init__(self, source: str, room: int, pace: float | None, limit: int | None) -> None:
        """Open the source.

        Args:
            source: Number of a camera, its device, a video file, a pipeline, or an address.
            room: Frames that wait at most.
            pace: Frames a second from a file, 0 for as fast as it can be read; None is its own.
            limit: End after so many frames; None is never.

        Raises:
            runtime.UdaError: It cannot be opened.
        """
        self.frames, self._limit = Latest(room), limit
        self._file, self._stop = False, threading.Event()
        if "!" in source:
            if "GStreamer:                   YES" not in cv2.getBuildInformation():
                raise runtime.UdaError(
                    f"cannot open '{source}': this OpenCV was built without GStreamer, as those of "
                    "PyPI are; use the one of JetPack or of your distribution, or name a camera by "
                    "its number"
                )
            self._source = cv2.VideoCapture(source, cv2.CAP_GSTREAMER)
        elif source.isdecimal():
            self._source = cv2.VideoCapture(int(source))
            self._source.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        else:
            self._source, self._file = cv2.VideoCapture(source), Path(source).is_file()
        if not self._source.isOpened():
            self._source.release()
            raise runtime.UdaError(f"cannot open '{source}'{_why(source, self._file)}")
        self.rate = self._source.get(cv2.CAP_PROP_FPS) or 30.0
        self._pace = (self.rate if pace is None else pace) if self._file else 0.0
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="capture", daemon=True
        )
        self._thread.start()

    def _run(self, source: str) -> None:
        try:
            start, number = time.monotonic(), 0
            while not self._stop.is_set() and number != self._limit:
                if self._pace:
                    self._stop.wait(start + number / self._pace - time.monotonic())
                good, image = self._source.read()
                if not good:
                    if not self._file:
                        raise runtime.UdaError(
                            f"'{source}' gives no more frames; check the camera and its cable"
                        )
                    break
                self.frames.put(Frame(number, np.asarray(image, np.uint8)))
                number += 1
            self.frames.close()
        except Exception as error:  # it belongs to whoever waits for frames
            self.frames.close(error)

    def close(self) -> None:
        """Stop reading and release the device."""
        self._stop.set()
        self._thread.join(5)  # a driver may hang in a read; the thread then ends with the process
        if not self._thread.is_alive():
            self._source.release()
        self.frames.drop_rest()


def _why(source: str, file: bool) -> str:
    """Return the rest of the message about a source that OpenCV does not open."""
    if file:
        return " as a video; name a video file that OpenCV can read, or a camera"
    device = source.isdecimal() or source.startswith("/dev/")
    if not device and "!" not in source and "://" not in source:
        return ": file not found; check the path"
    return (
        "; check that it is there, that no other program has it, and that you may read it"
        f"{' (a camera: group video)' if device else ''}"
    )
