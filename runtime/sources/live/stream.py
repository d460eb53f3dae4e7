"""A camera in the network: an address of RTSP or HTTP."""

from __future__ import annotations

import socket
import time
from typing import Any
from urllib.parse import SplitResult, urlsplit

from runtime.errors import ConfigError, DataError
from runtime.sources.live.address import redacted
from runtime.sources.live.base import Connection, Settings
from runtime.sources.live.opened import Opened
from runtime.sources.live.opening import OPENING, PORTS, ask, turn

_GRACE = 2.0
"""Seconds more than a stall after which a read ends by itself, on a thread that was left behind."""
_SLOW = 5.0
"""Seconds after which an address that could not be opened is asked before it is opened again."""
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
        self._worked = self._silent = False

    def resume(self, earlier: Connection) -> None:
        """Remember whether the address has ever been right, and whether it did not answer."""
        if isinstance(earlier, Stream):
            self._worked, self._silent = earlier._worked, earlier._silent

    def open(self) -> None:
        """Connect, see `Connection`.

        Raises:
            DataError: It cannot be opened now.
        """
        if self._silent:
            try:
                ask(self._parts)
            except (OSError, UnicodeError) as error:
                raise DataError(f"cannot open '{self.shown}': {self._unanswered(error)}") from error
        super().open()
        self._worked = True

    def _opened(self) -> Any:
        cv2 = self._cv2
        limits = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: OPENING,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: self.settings.stall + _GRACE,
        }
        flat = [int(number) for key, limit in limits.items() for number in (key, 1000 * limit)]
        with turn(self):
            self._silent = True  # until it is known: the call may hang
            capture = cv2.VideoCapture(self.where, cv2.CAP_FFMPEG, flat)
            self._silent = not capture.isOpened() and time.monotonic() - self.began > _SLOW
        return capture

    def _reason(self) -> str:
        """Return why, as far as the network knows: OpenCV does not say."""
        if self._worked:  # a camera may serve one visitor at a time: let the question not be it
            return "it does not answer, or not with a video; check that the camera is on"
        parts = self._parts
        port = parts.port or PORTS[parts.scheme]
        try:
            socket.create_connection((parts.hostname or "", port), _ASKING).close()
        except (OSError, UnicodeError) as error:
            return self._unanswered(error)
        there = self._there
        return f"{there} answers, but with no video; check path, user and password of the address"

    @property
    def _there(self) -> str:
        return f"{self._parts.hostname}:{self._parts.port or PORTS[self._parts.scheme]}"

    def _unanswered(self, error: OSError | UnicodeError) -> str:
        reason = getattr(error, "strerror", None) or str(error)
        return f"{self._there}: {reason}; check that the camera is on, and its address"


def _split(where: str) -> SplitResult:
    """Return the parts of an address.

    Raises:
        ConfigError: It is not one of RTSP or HTTP.
    """
    shown = redacted(where)
    try:
        parts = urlsplit(where)
        known = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is not a number, half of an IPv6 address
        known = False
    if not known or not where.isprintable() or " " in where:
        raise ConfigError(
            f"'{shown}' is not an address that can be watched; expected one of "
            f"{', '.join(f'{scheme}://' for scheme in PORTS)} with a host, or the path of a file; "
            "other protocols need a GStreamer pipeline"
        )
    return parts
