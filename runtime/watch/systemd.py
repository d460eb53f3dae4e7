"""Tell systemd that the program is ready, alive and ending, if systemd started it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from runtime.text import printable
from runtime.watch.status import SourceStatus


class Notifier:
    """Sends states to the socket that systemd names; does nothing without one."""

    def __init__(self) -> None:
        """Read systemd's variables."""
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        self.patience: float | None = None
        """Seconds within which systemd must hear that the program is alive; None if it need not."""
        if pid == str(os.getpid()) and microseconds.isdecimal() and int(microseconds):
            self.patience = int(microseconds) / 1e6
        self._sent = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether half of that time has passed, or five seconds."""
        return time.monotonic() - self._sent >= min(5.0, (self.patience or 60.0) / 2)

    def send(self, *states: str) -> None:
        """Send states, such as `READY=1`."""
        self._sent = time.monotonic()
        if not self._address:
            return
        address = self._address
        with (
            contextlib.suppress(OSError),  # it restarts, say; the cameras go on
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link,
        ):
            link.setblocking(False)
            link.connect("\0" + address[1:] if address.startswith("@") else address)
            link.send("\n".join(states).encode())


def status_line(sources: Sequence[SourceStatus]) -> str:
    """Return `STATUS=` with what the sources do, on one line."""
    parts = [
        f"{each.name} {each.state}, {each.predicted:,} of {each.captured:,} by "
        f"{each.task or each.choice}"
        for each in sources[:8]
    ]
    more = [f"and {len(sources) - 8} more"] if len(sources) > 8 else []
    return printable("STATUS=" + "; ".join(parts + more))
