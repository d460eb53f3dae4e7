"""Text on frames, videos and keys of a camera app."""

from __future__ import annotations

import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
from capture import Image

import runtime


def overlay(image: Image, result: runtime.Prediction, line: str) -> None:
    """Write task, label, score and a line of counts into a frame."""
    text = f"{result.task}: {result.label} {result.score:.0%}"
    scale = max(image.shape[1] / 900, 0.4)
    step = int(34 * scale)
    cv2.rectangle(image, (0, 0), (image.shape[1], 2 * step + 8), (0, 0, 0), cv2.FILLED)
    for row, part in enumerate((text, line), 1):
        origin = (6, row * step)
        cv2.putText(
            image, part, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA
        )


class Recorder:
    """Writes frames to a video of Motion JPEG, which every OpenCV can write."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path, self._rate = path, rate
        self._video: cv2.VideoWriter | None = None

    @staticmethod
    def check(path: Path) -> None:
        """Check, before there are frames, that a video can be written.

        Raises:
            runtime.UdaError: Its name does not end in .avi, or it cannot be written there.
        """
        if path.suffix.lower() != ".avi":
            raise runtime.ConfigError(
                f"cannot write '{path}': its name must end in .avi; take one that does"
            )
        there = path.exists()
        try:
            path.open("ab").close()  # what OpenCV says of a path it cannot write is of no help
            if not there:
                path.unlink()
        except OSError as error:
            raise runtime.StorageError(
                f"cannot write '{path}': {error.strerror}; choose another folder"
            ) from error

    def write(self, image: Image) -> None:
        """Add a frame; the first one says how large they are.

        Raises:
            runtime.UdaError: The file cannot be written.
        """
        if self._video is None:
            size, kind = (image.shape[1], image.shape[0]), cv2.VideoWriter.fourcc(*"MJPG")
            self._video = cv2.VideoWriter(str(self._path), kind, self._rate, size)
            if not self._video.isOpened():
                raise runtime.UdaError(
                    f"OpenCV cannot write '{self._path}'; check its folder and the room on the disk"
                )
        self._video.write(image)

    def close(self) -> None:
        """Finish the file."""
        if self._video is not None:
            self._video.release()


def draw_video(path: Path, count: int, rate: float = 30) -> None:
    """Write a video of moving shapes, so that the example runs without a camera."""
    width, height = 320, 240
    with closing(Recorder(path, rate)) as video:
        for number in range(count):
            image = np.full((height, width, 3), 40 + number % 160, np.uint8)
            x, y = number * 5 % width, height // 2
            colour = (int(number * 3 % 256), 120, 255 - int(number * 2 % 256))
            cv2.circle(image, (x, y), height // 5, colour, cv2.FILLED)
            cv2.rectangle(image, (width - x, 10), (width - x + 40, 70), (255, 255, 0), 3)
            video.write(image)


def check_windows() -> None:
    """Check that OpenCV can show windows.

    Raises:
        runtime.UdaError: It was built without.
    """
    if re.search(r"^ *GUI: +NONE$", cv2.getBuildInformation(), re.MULTILINE):
        raise runtime.ConfigError(
            "this OpenCV has no windows; leave out --window, or install opencv-python in the place "
            "of opencv-python-headless"
        )


@contextmanager
def terminal_keys() -> Iterator[bool]:
    """Let single keys be read from the terminal; yields whether there is one."""
    if not sys.stdin.isatty():
        yield False
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield True
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def pressed(window: str | None, terminal: bool) -> str:
    """Return the key that was pressed; empty if none was, `q` if the terminal is gone."""
    code = cv2.waitKey(1) & 0xFF if window else 0xFF
    if code != 0xFF:
        return chr(code)
    if terminal and select.select([sys.stdin], [], [], 0)[0]:
        try:
            key = os.read(sys.stdin.fileno(), 1)
        except OSError:
            key = b""
        return key.decode(errors="ignore") if key else "q"
    return ""
