"""Count what a sink loses, and say so on stderr once a minute at most."""

from __future__ import annotations

import contextlib
import threading
import time

from runtime.console import count_of, echo
from runtime.text import printable
from runtime.watch.notes import MINUTE


class Trouble:
    """What a sink could not deliver. Safe to use from threads; only `say` prints."""

    def __init__(self, name: str, noun: str) -> None:
        """Start without any.

        Args:
            name: Name of the sink's option, such as `--jsonl`.
            noun: What it delivers, in the singular.
        """
        self.lost = 0
        """Number of things that were not delivered and will not be."""
        self._name, self._noun = name, noun
        self._lock = threading.Lock()
        self._error: str | None = None
        self._said_error = False
        self._said_lost = 0
        self._next = float("-inf")

    @property
    def failing(self) -> bool:
        """Whether the last delivery failed."""
        return self._error is not None

    def lose(self, count: int = 1) -> None:
        """Count what is not delivered."""
        with self._lock:
            self.lost += count

    def failed(self, error: Exception) -> None:
        """Note why the last delivery failed."""
        self._error = printable(str(error) or type(error).__name__)

    def well(self) -> None:
        """Note that the last delivery did not fail."""
        self._error = None

    def say(self, *, last: bool = False) -> None:
        """Print a line if there is news and the last one is a minute ago.

        Args:
            last: Whether to print the news in any case, as the sink ends.
        """
        with self._lock:
            error, lost = self._error, self.lost
            news = error is not None or self._said_error or lost > self._said_lost
            if last and error is not None and self._said_error and lost == self._said_lost:
                news = False
            if not news or (time.monotonic() < self._next and not last):
                return
            recovered = self._said_error and error is None
            self._next = time.monotonic() + MINUTE
            self._said_error, self._said_lost = error is not None, lost
        lost_text = f"{count_of(lost, self._noun)} lost so far"
        if error is not None:
            line = f"warning: {self._name}: {error}; {lost_text}"
        elif recovered:
            line = f"{self._name}: goes on; {lost_text}"
        else:
            line = f"warning: {self._name}: too slow for all that comes; {lost_text}"
        with contextlib.suppress(OSError, ValueError):  # stderr is gone
            echo(line, err=True)
