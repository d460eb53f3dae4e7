"""Hear signals: end, or take over tasks.

No handler takes a lock, as it may have interrupted its holder.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Signals:
    """What signals have asked for, as plain fields."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.stop: int | None = None
        """Number of the signal that asked to end; None while there is none."""
        self._refresh = False
        self._woken: socket.socket | None = None
        self._terminal = os.isatty(2)

    @contextlib.contextmanager
    def taken(self) -> Iterator[Signals]:
        """Hear SIGINT, SIGTERM and SIGHUP while the block runs; call it on the main thread."""
        wake, self._woken = socket.socketpair()
        former: dict[int, Any] = {}
        with wake, self._woken:
            wake.setblocking(False)
            self._woken.setblocking(False)
            before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            try:
                for name, handler in (
                    ("SIGINT", self._end),
                    ("SIGTERM", self._end),
                    ("SIGHUP", self._take_over),
                ):
                    number = getattr(signal, name, None)
                    # The background of a shell ignores Ctrl-C, and it stays so.
                    if number is None or (
                        name == "SIGINT" and signal.getsignal(number) is signal.SIG_IGN
                    ):
                        continue
                    former[number] = signal.signal(number, handler)
                yield self
            finally:
                for number, handler in former.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(before)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Let SIGHUP not end the program before it is heard: what is opened is new anyway."""
        number = getattr(signal, "SIGHUP", None)
        if number is None or self._terminal:  # which may be closed meanwhile
            yield
            return
        former = signal.signal(number, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(number, former)

    def wait(self, seconds: float) -> None:
        """Wait until a signal comes, or for so many seconds."""
        assert self._woken is not None
        if select.select([self._woken], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)

    def refresh(self) -> bool:
        """Return whether SIGHUP asked to take over tasks since the last call.

        A terminal that was closed asks to end instead.
        """
        asked, self._refresh = self._refresh, False
        if asked and self._terminal and not os.isatty(2):
            self.stop = self.stop or signal.SIGHUP
            return False
        return asked

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self.stop is not None:  # the second one: at once
            os._exit(128 + number)
        self.stop = number

    def _take_over(self, number: int, frame: FrameType | None) -> None:
        self._refresh = True
