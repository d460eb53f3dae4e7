"""Marks on a stream, for which the host or another stream can wait."""

from __future__ import annotations

import contextlib

from runtime.cuda.driver import call
from runtime.errors import BackendError

_NO_TIMING = 2
"""CU_EVENT_DISABLE_TIMING: makes an event cheaper."""


class CudaEvent:
    """A mark that moves to the end of a stream when it is recorded."""

    def __init__(self, stream: int) -> None:
        """Make it, for a stream of the device that is current.

        Raises:
            BackendError: The driver reports an error.
        """
        self._stream = stream
        self._event: object | None = call("cuEventCreate", _NO_TIMING)

    def record(self) -> None:
        """Mark what is on the stream now.

        Raises:
            BackendError: The driver reports an error.
        """
        call("cuEventRecord", self._event, self._stream)

    def wait(self) -> None:
        """Wait until the stream has passed the mark; at once if there is none.

        Raises:
            BackendError: The driver reports an error.
        """
        call("cuEventSynchronize", self._event)

    def hold(self, stream: int) -> None:
        """Let another stream wait until this one has passed the mark.

        Raises:
            BackendError: The driver reports an error.
        """
        call("cuStreamWaitEvent", stream, self._event, 0)

    def close(self) -> None:
        """Release it; who waits goes on waiting. Safe to call more than once."""
        event, self._event = self._event, None
        if event is not None:
            with contextlib.suppress(BackendError):  # the device has failed, and this with it
                call("cuEventDestroy", event)
