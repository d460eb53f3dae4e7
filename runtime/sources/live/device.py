"""A camera of this machine: its number, or its file such as `/dev/v4l/by-id/...`."""

from __future__ import annotations

import os
import stat
import sys
from typing import Any

from runtime.errors import ConfigError
from runtime.sources.live.base import Settings
from runtime.sources.live.opened import Opened

_MOST = 9999
_VIDEO = 81
"""Linux's number of the driver of cameras."""


class Device(Opened):
    """A camera; it may be plugged in later."""

    def __init__(self, where: str, settings: Settings) -> None:
        """Check the number, see `Connection`."""
        if where.isdecimal() and int(where) > _MOST:
            raise ConfigError(f"expected the number of a camera, 0 to {_MOST}, found {where}")
        super().__init__(where, settings)

    def _opened(self) -> Any:
        capture = self._cv2.VideoCapture()
        number = self.where.isdecimal()
        kind = self._cv2.CAP_V4L2 if sys.platform == "linux" else self._cv2.CAP_ANY
        if number or _fault(self.where) is None:
            capture.open(int(self.where) if number else self.where, kind)
            capture.set(self._cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, not an older one
        return capture

    def _reason(self) -> str:
        path = f"/dev/video{self.where}" if self.where.isdecimal() else self.where
        fault = _fault(path) if sys.platform == "linux" else None
        return fault or (
            "it gives no pictures; check that no other program has it, and that it is not the "
            "second, silent device of a camera (ls /dev/v4l/by-id)"
        )


def _fault(path: str) -> str | None:
    """Return why a file is not a camera that can be opened, as far as the system knows."""
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"{reason}; check that the camera is plugged in (ls /dev/v4l/by-id)"
    # Opening another device may start it, or wait for ever.
    if not stat.S_ISCHR(found.st_mode) or os.major(found.st_rdev) != _VIDEO:
        return "it is not a camera; name one of /dev/video0, /dev/video1, ..."
    if not os.access(path, os.R_OK | os.W_OK):
        return "permission denied; add the user to the group of the camera (usually video)"
    return None
