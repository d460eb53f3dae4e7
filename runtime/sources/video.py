"""Video files, read ahead on a thread of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

from runtime.errors import UdaError
from runtime.models import Background
from runtime.sources.ahead import Ahead
from runtime.sources.base import Input, Item, Source
from runtime.sources.capture import MISSES, Capture, Frame


class Video(Source):
    """Reads video files, one after another."""

    def __init__(self, inputs: Sequence[Input], background: Background) -> None:
        """Open nothing yet.

        Args:
            inputs: Video files.
            background: Ignored, as no frame of a video is transparent.
        """
        super().__init__()
        self._inputs = inputs
        self._open = ExitStack()

    @property
    def count(self) -> int | None:
        """The number of frames as the headers say; None if one does not."""
        total = 0
        for given in self._inputs:
            try:
                with closing(Capture(given.name)) as capture:
                    if capture.count is None:
                        return None
                    total += capture.count
            except UdaError:
                total += 1  # its error
        return total

    def __iter__(self) -> Iterator[Item]:
        """Yield the frames in order, see `Source`."""
        for given in self._inputs:
            try:
                capture = Capture(given.name)
            except UdaError as error:
                yield Item(given, error=error)
                continue
            with self._open:
                self._open.callback(capture.close)
                yield from self._play(given, capture)

    def close(self) -> None:
        """Stop reading and close the file. Safe to call more than once."""
        self._open.close()

    def _play(self, given: Input, capture: Capture) -> Iterator[Item]:
        ahead = Ahead(capture.read, itertools.count(), 1, _size)
        self._open.callback(ahead.close)
        good = damaged = misses = 0
        end = 0.0
        for number, (frame, seconds) in enumerate(ahead):
            if frame is None:
                misses += 1
                if misses == MISSES:
                    break
                continue
            damaged, misses, good = damaged + misses, 0, good + 1
            end = max(end, seconds)
            yield Item(given, frame, number=number, seconds=seconds, rate=capture.rate)
        error = capture.verdict(good, damaged, end)
        if error is not None:
            yield Item(given, error=error)
        elif not capture.near(good):
            self.notes.append(
                f"the video '{given.name}' has {good:,} frames, though its header says "
                f"{capture.count:,}"
            )


def _size(frame: Frame) -> int:
    return 0 if frame[0] is None else frame[0].nbytes
