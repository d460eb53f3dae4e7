"""Standard streams whose failures do not stop a command."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class Output(io.FileIO):
    """A stream that discards what is written after it has failed.

    A pipe that its reader has closed counts as success: `| head -1` has read enough.
    """

    failure: OSError | None = None
    """Reason why something was not written."""
    unread = False
    """Whether it is a pipe that its reader has closed."""

    def write(self, data: Any) -> int:
        """Write bytes, or discard them."""
        try:
            while (written := super().write(data)) is None:  # a pipe that is full, and not blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            self.unread = isinstance(error, BrokenPipeError)
            if not self.unread:
                self.failure = error
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return memoryview(data).nbytes


def takes_more(stream: TextIO, seconds: float) -> bool:
    """Return whether a few kilobytes can be written to a stream without waiting for its reader.

    Args:
        stream: Standard stream.
        seconds: Time to wait until it can.
    """
    try:
        return bool(select.select([], [stream], [], seconds)[1])
    except (OSError, ValueError):  # no descriptor, or a system that cannot tell
        return True


@contextlib.contextmanager
def lasting() -> Iterator[Output | None]:
    """Keep stdout and stderr usable while the block runs, and yield the raw stream of stdout.

    A character that the encoding lacks is escaped. A closed stream discards everything; its
    descriptor is taken, so that no file opened later gets it, and with it what a library prints.
    """
    former = sys.stdout, sys.stderr
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    own = tuple(_lasting(stream) for stream in former)
    sys.stdout, sys.stderr = own
    try:
        raw = getattr(getattr(own[0], "buffer", None), "raw", None)
        yield raw if isinstance(raw, Output) else None
    finally:
        for stream in own:
            stream.flush()
        sys.stdout, sys.stderr = former


def unread() -> bool:
    """Return whether the standard output is a pipe that its reader has closed."""
    return getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "unread", False)


def _lasting(stream: TextIO | None) -> TextIO:
    if stream is None:  # closed
        return open(os.devnull, "w")
    try:
        number = stream.fileno()
    except (AttributeError, OSError):  # a test's
        return stream
    stream.flush()
    raw = io.BufferedWriter(Output(number, "wb", closefd=False))
    return io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True)
