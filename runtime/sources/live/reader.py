"""Read one connection on a thread of its own, which can be left behind where a driver hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError, UdaError
from runtime.sources.live.address import redacted
from runtime.sources.live.base import Connection, UnreadableFile
from runtime.sources.live.latest import Latest

_ROOM = 0.5
"""Seconds after which a thread that waits for room in a queue looks whether it is to end."""
Give = Callable[[NDArray[np.uint8], "str | None"], None]
"""Takes a frame (H, W, 3) and its path."""


class Reader:
    """Opens a connection, and gives its frames until it ends, is lost, or is to stop."""

    def __init__(
        self,
        connection: Connection,
        frames: Latest,
        *,
        begin: Callable[[], object],
        give: Give,
        on_unreadable: Callable[[UnreadableFile], object],
        wake: threading.Event,
    ) -> None:
        """Start the thread.

        Args:
            connection: Connection that is not open yet; the thread closes it.
            frames: Queue that has room, before a lossless connection is read.
            begin: Called once, before the first frame.
            give: Takes each frame; neither is called any more once `stop` has returned.
            on_unreadable: Called with the error of each file that cannot be read.
            wake: Set when the first frame has come, and when the thread has ended.
        """
        self.connection = connection
        self._frames, self._begin, self._give = frames, begin, give
        self._on_unreadable, self._wake = on_unreadable, wake
        self._giving, self._given_up = threading.Lock(), False
        self.alive = time.monotonic()
        """When it last showed that it does not hang."""
        self.opened = self.ended = False
        self.first: float | None = None
        """When its first frame came."""
        self.error: UdaError | None = None
        """Why the connection was lost."""
        self.thread = threading.Thread(target=self._run, name="uda-camera-read", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Let it give no more frames, and end as soon as it can. Does not wait for that."""
        self.connection.stop()
        with self._giving:  # held for as long as a frame is put into a queue
            self._given_up = True

    def _run(self) -> None:
        try:
            self.connection.open()
            self.opened, self.alive = True, time.monotonic()
            while not self.connection.stopping.is_set() and self._one():
                pass
        except UdaError as error:
            self.error = error
        except Exception as error:  # a library's own, of whatever class
            why = redacted(f"{type(error).__name__}: {error}")
            self.error = DataError(f"cannot read the camera: {why}")
        finally:
            try:
                self.connection.close()
            finally:
                self.ended = True
                self._wake.set()

    def _one(self) -> bool:
        """Give the next frame; return whether there may be more."""
        while self.connection.lossless and not self._frames.wait_for_room(_ROOM):
            self.alive = time.monotonic()
            if self.connection.stopping.is_set():
                return False
        error, found = None, None
        try:
            found = self.connection.read()
        except UnreadableFile as unreadable:
            error = unreadable
        with self._giving:
            if self._given_up:
                return False
            if found is not None or error is not None or self.connection.idle:
                self._seen()
            if found is not None:
                self._give(*found)
        if error is not None:
            self._on_unreadable(error)
        return found is not None or error is not None or self.connection.live

    def _seen(self) -> None:
        self.alive = time.monotonic()
        if self.first is None:
            self._begin()
            self.first = self.alive
            self._wake.set()
