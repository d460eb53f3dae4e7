"""Say on stderr what goes wrong again and again, each thing once a minute at most."""

from __future__ import annotations

import sys
import threading
import time

from runtime.console import echo
from runtime.streams import takes_more
from runtime.text import printable

MINUTE = 60.0
"""Seconds between two lines about one thing."""


class Notes:
    """Prints lines about things that have names. Safe to use from threads."""

    def __init__(self) -> None:
        """Start without having said anything."""
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def say(self, topic: str, text: object) -> bool:
        """Print a line, unless one about the same was printed within a minute.

        Args:
            topic: Name of the thing; there must not be ever new ones.
            text: Line for people.

        Returns:
            Whether it was printed.
        """
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(topic, -MINUTE) < MINUTE:
                return False
            self._last[topic] = now
        if takes_more(sys.stderr, 0):  # a camera must not wait for whoever reads it
            echo(printable(text), err=True)
        return True
