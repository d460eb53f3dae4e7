"""Print a line where something changes: a source's label, its task, its state, or its drift."""

from __future__ import annotations

import sys
import threading
import time
from typing import NamedTuple

from runtime.console import echo
from runtime.streams import takes_more
from runtime.text import printable
from runtime.watch.observation import Observation
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.status import SourceStatus

LOOK = 1.0
"""Seconds after which states are looked at, where no frame comes."""
PAUSE = 1.0
"""Seconds between two lines of a source."""


class _Line(NamedTuple):
    """What is printed about a source, and what of it makes a new line where it changes."""

    changes: tuple[object, ...]
    text: str


class Terminal(Sink):
    """Prints what changed, a line a second and source at most, in a thread of its own."""

    def __init__(self, *, err: bool = False) -> None:
        """Print nothing yet.

        Args:
            err: Whether to print on stderr, where an output has the standard output for itself.
        """
        self._err = err
        self._latest: dict[str, Observation] = {}
        """By source; what came between two lines is not printed."""
        self._printed: dict[str, tuple[object, ...]] = {}
        self._states: dict[str, tuple[str, str | None]] = {}
        self._next: dict[str, float] = {}
        self._watched: Watched | None = None
        self._changed, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="terminal", daemon=True)

    def start(self, watched: Watched) -> None:
        """Start printing."""
        self._watched = watched
        self._thread.start()

    def take(self, observation: Observation) -> None:
        """Print a line soon, if something changed."""
        self._latest[observation.source] = observation
        self._changed.set()

    def close(self) -> None:
        """Print the last change, and end. Safe to call more than once."""
        self._closed.set()
        self._changed.set()
        if self._thread.ident is not None:
            self._thread.join(1)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._changed.wait(LOOK)
            self._changed.clear()
            self._print()
            self._closed.wait(0.1)  # a fast camera is looked at ten times a second
        self._print(last=True)

    def _print(self, *, last: bool = False) -> None:
        for status in () if self._watched is None else self._watched.status():
            state = status.state, status.error
            if self._states.get(status.name, ("running", None)) != state:
                self._states[status.name] = state
                self._say(_state(status))
        now = time.monotonic()
        for source, observation in list(self._latest.items()):
            if now < self._next.get(source, 0) and not last:
                continue
            line = _line(observation)
            if self._printed.get(source) != line.changes:
                self._printed[source] = line.changes
                self._next[source] = now + PAUSE
                self._say(line.text)

    def _say(self, text: str) -> None:
        try:
            # A terminal that is held (Ctrl-S) or a pipe that nobody reads: the next change is said.
            if takes_more(sys.stderr if self._err else sys.stdout, 0):
                echo(printable(text), err=self._err)
        except (OSError, ValueError):  # the terminal is gone
            self._closed.set()


def _line(observation: Observation) -> _Line:
    source, prediction = observation.source, observation.prediction
    if prediction is None:
        error = str(observation.error)
        return _Line((error,), f"{source}: error: {error}")
    smoothed = observation.smoothed
    label = prediction.label if smoothed is None else smoothed.label
    score = prediction.score if smoothed is None else smoothed.score
    known = prediction.known
    parts = [f"{'unknown, ' if known is False else ''}{label} {score:.1%}"]
    if prediction.confidence is not None and smoothed is None:
        parts.append(f"confidence {prediction.confidence:.1%}")
    parts.append(f"task {prediction.task}")
    drift = None if observation.drift is None else observation.drift.state
    if drift is not None:
        parts.append(drift)
    return _Line((label, known, prediction.task, drift), f"{source}: {'; '.join(parts)}")


def _state(status: SourceStatus) -> str:
    text = f"{status.name}: {status.state}"
    return text if status.error is None else f"{text}: {status.error}"
