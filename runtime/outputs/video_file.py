"""Write annotated frames to a video of Motion JPEG, which every OpenCV can write."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.errors import StorageError
from runtime.frames.opencv import opencv
from runtime.storage.files import no_empty_folder, storage_errors
from runtime.storage.writing import sibling_folder

SUFFIX = ".avi"
_RATE = 25.0
"""Frames per second where the source does not say."""


class VideoFile:
    """A video that is in place once it is closed, with the frames so far."""

    def __init__(self, path: Path, rate: float | None, size: tuple[int, int]) -> None:
        """Start a video.

        Args:
            path: Path of the file, which ends in `.avi`.
            rate: Frames per second; None where it is unknown.
            size: Width and height; other frames are resized.

        Raises:
            ConfigError: OpenCV is not installed.
            StorageError: The file cannot be written.
        """
        self._cv2, self._path, self._size, self._count = opencv(), path, size, 0
        self._open = ExitStack()
        self._open.enter_context(no_empty_folder(path.parent))
        folder = self._open.enter_context(sibling_folder(path))
        self._temporary = folder / f"video{SUFFIX}"
        kind = self._cv2.VideoWriter.fourcc(*"MJPG")
        self._writer: Any = self._cv2.VideoWriter(str(self._temporary), kind, rate or _RATE, size)
        if not self._writer.isOpened():
            self._open.close()
            raise StorageError(
                f"OpenCV cannot write '{path}'; choose another folder, of plain letters"
            )

    def write(self, image: Image.Image) -> None:
        """Add a frame."""
        if image.size != self._size:
            image = image.resize(self._size)
        self._writer.write(self._cv2.cvtColor(np.asarray(image), self._cv2.COLOR_RGB2BGR))
        self._count += 1

    def close(self) -> None:
        """Finish the video and put it in place. Safe to call more than once.

        Raises:
            StorageError: OpenCV could not write all frames, as on a full disk, which it does not
                say; no file is left.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        with self._open, storage_errors(self._path):
            writer.release()
            if self._written() < self._count:  # one more if a write was interrupted at its end
                raise StorageError(
                    f"cannot write '{self._path}': the disk is full, or OpenCV failed; free some "
                    "space or choose another folder"
                )
            self._temporary.replace(self._path)

    def _written(self) -> int:
        """Return the number of frames in the finished file, by the index at its end."""
        reader = self._cv2.VideoCapture(str(self._temporary))
        count = int(reader.get(self._cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        reader.release()
        return count
