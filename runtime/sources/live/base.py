"""The interface of one connection to a live source, and the frames that it gives."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.closing import Closing


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


class Connection(Closing):
    """An open camera, stream, file or folder. Used by one thread; `close` may come from another."""

    live: bool = True
    """Whether its frames come at their own pace, and whether it is opened again when it ends."""
    rate: float | None = None
    """Frames per second, where it says so; the pace at which a file is played."""

    @abstractmethod
    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Wait for the next frame, and return it with its file's path if it has one.

        Returns:
            (H, W, 3) RGB; None where there are no more, or none came within a second or so.

        Raises:
            DataError: The connection is lost.
        """

    @abstractmethod
    def close(self) -> None:
        """Release files and devices; a `read` that waits ends soon. Safe to call more than once."""
