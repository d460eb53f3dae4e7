"""The interface of one connection to a live source, and the frames that it gives."""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.closing import Closing
from runtime.errors import DataError
from runtime.models import Background


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame as it was captured."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    number: int
    """Frames of the source before it, also over earlier connections, dropped ones included."""
    time: float
    """When it was captured, in seconds since 1970."""
    captured: float
    """The same as a reading of `time.perf_counter`, to tell latencies."""
    name: str | None = None
    """Path of the image file that it was read from, if any."""


class Counts(NamedTuple):
    """Where the frames of a camera are, all read at one moment.

    `Camera.counts()` returns them, and what is called as `Camera(..., wake=...)` hears, without
    arguments and from the camera's thread, that a frame came into the queue or the state changed.
    """

    captured: int
    """All of them; those that are none of the others were taken out of the queue."""
    skipped: int
    """Left out because of `every`."""
    dropped: int
    """Dropped from the queue, also when it was closed."""
    waiting: int
    """In the queue."""


@dataclass(frozen=True)
class Settings:
    """How sources are read."""

    fast: bool = False
    """Whether a video file is read as fast as its frames are taken, without dropping any, instead
    of being played at its own rate."""
    background: Background = "white"
    """Colour behind transparent pixels of pictures in a folder."""
    stall: float = 10.0
    """Seconds without a frame after which a camera is connected again."""


class UnreadableFile(DataError):
    """One file of a folder cannot be read; the connection stands."""


class Connection(Closing):
    """A camera, stream, file or folder. Used by one thread; only `stop` may come from another.

    A lost connection is not opened again: another one to the same address takes its place.
    """

    live: bool = True
    """Whether its frames come at their own pace, and whether there is another one after it."""
    idle: bool = False
    """Whether it may have no frame for a long time, as a folder; else that is a stall."""
    lossless: bool = False
    """Whether its next frame waits for room in the queue, instead of dropping older ones."""

    def __init__(self, where: str, settings: Settings) -> None:
        """Check an address, and open nothing yet.

        Args:
            where: Address of the source.
            settings: How it is read.

        Raises:
            ConfigError: The address is not one, or what it needs is not installed.
            DataError: There is no such file.
        """
        self.where, self.settings = where, settings
        self.began = 0.0
        """When its turn came to connect, on the monotonic clock; infinite while it waits for it."""
        self.stopping = threading.Event()
        """Set when no more frames are wanted; `open` and `read` then return soon, if they can."""

    @abstractmethod
    def open(self) -> None:
        """Connect. Called once, before the first `read`.

        Raises:
            DataError: It cannot be opened now.
        """

    @abstractmethod
    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Wait for the next frame, and return it with its file's path if it has one.

        Returns:
            (H, W, 3) RGB, fresh. None where a live one has none after a second or so, and where
            another one has no more.

        Raises:
            UnreadableFile: One file has no frame; the next ones may.
            UdaError: The connection is lost.
        """

    def resume(self, earlier: Connection) -> None:  # noqa: B027 - most have nothing to remember
        """Go on where an earlier connection to the same address ended. Called before `open`."""

    def stop(self) -> None:
        """Have `open` or `read` return soon. From any thread, never waits, more than once."""
        self.stopping.set()

    @abstractmethod
    def close(self) -> None:
        """Release files and devices. Safe to call more than once."""
