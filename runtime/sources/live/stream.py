"""A camera in the network: an address of RTSP or HTTP."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import SplitResult, urlsplit

from runtime.errors import ConfigError
from runtime.sources.live.address import redacted
from runtime.sources.live.base import Connection, Settings
from runtime.sources.live.opened import Opened

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
OPENING = 15.0
"""Seconds that connecting may take."""
_GRACE = 2.0
"""Seconds more than a stall after which a read ends by itself, on a thread that was left behind."""
_ASKING = 3.0
"""Seconds that the question may take why a camera cannot be opened."""


class Stream(Opened):
    """Frames of an address, read by OpenCV's FFmpeg.

    FFmpeg itself opens no local file that a page, a playlist or a redirect of such an address
    names; other schemes, such as `file:` and `concat:`, are refused.
    """

    def __init__(self, where: str, settings: Settings) -> None:
        """Check the address, see `Connection`."""
        self._parts = _split(where)
        super().__init__(where, settings)
        self._worked = False

    def resume(self, earlier: Connection) -> None:
        """Remember whether the address has ever been right."""
        self._worked = isinstance(earlier, Stream) and earlier._worked

    def open(self) -> None:
        """Connect, see `Connection`.

        Raises:
            DataError: It cannot be opened now.
        """
        super().open()
        self._worked = True

    def _opened(self) -> Any:
        cv2 = self._cv2
        limits = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPENING,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: self.settings.stall + _GRACE,
        }
        flat = [int(number) for key, limit in limits.items() for number in (key, 1000 * limit)]
        return cv2.VideoCapture(self.where, cv2.CAP_FFMPEG, flat)

    def _reason(self) -> str:
        """Return why, as far as the network knows: OpenCV does not say."""
        if self._worked:  # a camera may serve one visitor at a time: let the question not be it
            return "it does not answer, or not with a video; check that the camera is on"
        parts = self._parts
        port = parts.port or _PORTS[parts.scheme]
        there = f"{parts.hostname}:{port}"
        try:
            socket.create_connection((parts.hostname or "", port), _ASKING).close()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"{there}: {reason}; check that the camera is on, and its address"
        return f"{there} answers, but with no video; check path, user and password of the address"


def _split(where: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        ConfigError: It is not one of RTSP or HTTP.
    """
    shown = redacted(where)
    try:
        parts = urlsplit(where)
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, half of an IPv6 address
        known = False
    if not known or not where.isprintable() or " " in where:
        raise ConfigError(
            f"'{shown}' is not an address that can be watched; expected one of "
            f"{', '.join(f'{scheme}://' for scheme in _PORTS)} with a host, or the path of a file; "
            "other protocols need a GStreamer pipeline"
        )
    return parts
