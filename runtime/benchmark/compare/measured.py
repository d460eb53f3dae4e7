"""The plan of a comparison, and the measurements of each candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from runtime.benchmark.compare.agreement import Agreement
from runtime.benchmark.compare.candidates import Candidate

_CALLS = 10
"""Predictions in a turn, and smallest number of rounds, where there are enough samples."""


@dataclass(frozen=True)
class ComparePlan:
    """What to measure of every candidate."""

    tasks: tuple[str, ...]
    """Tasks to hold in memory and to switch between; the first one classifies the timed frames."""
    batch: int = 8
    """Number of frames in a call for the images per second."""
    samples: int = 100
    """Number of timed predictions, and of timed switches where there are several tasks."""
    warmup: int = 10
    """Number of predictions before these; each turn warms up as well."""
    threads: int | None = None
    engines: str | None = None
    verify: str = "changed"
    """As for `Session.open`."""
    seed: int = 0

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return min(self.samples, max(_CALLS, -(-self.samples // _CALLS)))

    def calls(self, number: int) -> int:
        """Return the number of timed predictions in a turn of a round."""
        first, last = (self.samples * n // self.rounds for n in (number, number + 1))
        return last - first


@dataclass
class Measured:
    """The measurements of one candidate so far."""

    candidate: Candidate
    failure: str = ""
    """Why it was given up; empty while it runs."""
    opened: dict[str, Any] = field(default_factory=dict)
    """Version, times of opening, bytes of the tasks."""
    turns: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    """Seconds by kind of call, by round."""
    memory: dict[str, int | None] = field(default_factory=dict)
    answers: dict[str, Agreement] = field(default_factory=dict)
    """Counts by task."""

    def seconds(self, kind: str) -> list[float]:
        """Return the seconds of all calls of a kind."""
        return [each for turn in self.turns.values() for each in turn[kind]]
