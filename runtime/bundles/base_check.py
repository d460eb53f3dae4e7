"""Use a base that was verified before at once, and verify it again in the background."""

from __future__ import annotations

import atexit
import os
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from runtime.bundles.entries import FileRef
from runtime.bundles.weights_file import check_weights
from runtime.errors import FormatError, UdaError
from runtime.storage.stamps import Stamp
from runtime.workers import Worker, lower_priority

SMALL = 1 << 24
"""Bytes of a base below which a stamp does not pay: it is verified whenever it is opened."""
DELAY = 2.0
"""Seconds before the work in the background starts: it would slow the first prediction down."""


class BaseCheck:
    """The verification of one bundle's base file, for as long as sessions use it.

    Its work starts with the first read of the file.
    """

    def __init__(self, path: Path, ref: FileRef) -> None:
        """Do nothing yet.

        Args:
            path: Path of the file.
            ref: Size and digest of the file.
        """
        self._path, self._ref = path, ref
        self._stamp = Stamp(path, ref.sha256)
        self._verified: os.stat_result | None = None
        self._file: BinaryIO | None = None
        self._worker: Worker | None = None
        self._unstarted = [True]  # taken once: a list, since its `pop` is atomic
        self._users = 0
        self._closed = False
        self._process = os.getpid()
        self.error: FormatError | None = None
        """Error of the file, once damage was found."""

    def holds(self, file: int, found: os.stat_result) -> bool:
        """Return whether an open file of this status need not be verified before it is used.

        If so, this very file is verified in the background, whatever comes to lie at its path.
        """
        if self._ref.bytes < SMALL or not self._stamp.holds(found):
            return False
        if self._file is None:  # else it is this file: the stamp names its inode
            self._file = open(os.dup(file), "rb")
        return self._start()

    def remember(self, found: os.stat_result) -> None:
        """Note that the open file of this status was verified."""
        if self._ref.bytes >= SMALL:
            self._verified = found
            self._start()

    def join(self) -> None:
        """Count another session that uses the file."""
        self._users += 1

    def leave(self) -> None:
        """Count one session fewer; the last one ends the work in the background."""
        self._users -= 1
        if self._users <= 0:
            self.close()

    def close(self) -> None:
        """End the work in the background. Safe to call more than once."""
        self._closed = True
        if self._worker is not None and os.getpid() == self._process:
            self._worker.join()
            self._stamp.unmark()
            atexit.unregister(self.close)

    def _start(self) -> bool:
        """Start the work, once; return whether it was started."""
        with suppress(IndexError):  # of several threads, one takes it
            self._unstarted.pop()
            atexit.register(self.close)  # Python may not end while a thread reads
            self._worker = Worker(self._run, "uda-verify")
        return self._worker is not None

    def _run(self) -> None:
        lower_priority()
        if self._verified is not None:
            self._stamp.write(self._verified)
        self._stamp.mark(checked=self._verified is not None)
        if self._verified is not None:
            return
        with self._file or nullcontext():
            self._check()

    def _check(self) -> None:
        """Verify the file once the first prediction has surely been made."""
        start = time.monotonic() + DELAY
        while not self._closed and time.monotonic() < start:
            time.sleep(0.01)  # an event's lock would stay held after an interrupt
        try:
            file = self._path, self._ref.bytes, self._ref.sha256
            if check_weights(*file, lambda: self._closed, self._file):
                self._stamp.mark(checked=True)
            else:  # else damage would never be found where processes end soon
                self._stamp.remove()
        except FormatError as error:
            self._stamp.remove()
            self.error = error
        except (UdaError, MemoryError):
            self._stamp.remove()  # so that the next start verifies it before it is used
