"""Latency, novelty and task of one camera over the last minutes."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import NamedTuple

from runtime.watch.observation import Observation

SECONDS = 2
"""Width of a point in time."""
POINTS = 150
"""Number of points that are kept: five minutes."""
_LATENCIES, _NOVELTIES = 1024, 8
"""Most values of a point; comparing a frame with a task's images takes up to 0.1 ms."""


class Point(NamedTuple):
    """What a camera did within two seconds."""

    number: int
    """Seconds on the monotonic clock, divided by `SECONDS`."""
    frames: int
    """Number of predictions."""
    median: float
    """p50 of the latency, in milliseconds."""
    p99: float
    """p99 of the latency, in milliseconds."""
    novelty: float | None
    """Median of some frames; None where the task has no statistics."""
    task: str
    """Task of most frames."""


class _Open:
    """A point that is not over yet."""

    def __init__(self, number: int) -> None:
        self.number, self.frames = number, 0
        self.latencies: list[float] = []
        self.novelties: list[float] = []
        self.tasks: Counter[str] = Counter()

    def add(self, observation: Observation) -> None:
        prediction = observation.prediction
        assert prediction is not None
        self.frames += 1
        self.tasks[prediction.task] += 1
        if len(self.latencies) < _LATENCIES:
            self.latencies.append(observation.milliseconds)
        if len(self.novelties) < _NOVELTIES and (novelty := prediction.novelty) is not None:
            self.novelties.append(novelty)

    def point(self) -> Point | None:
        latencies, novelties = sorted(self.latencies), sorted(self.novelties)
        if not latencies:
            return None
        return Point(
            self.number,
            self.frames,
            round(_quantile(latencies, 0.5), 2),
            round(_quantile(latencies, 0.99), 2),
            round(_quantile(novelties, 0.5), 3) if novelties else None,
            max(list(self.tasks.items()), key=lambda pair: pair[1])[0],
        )


class Series:
    """The points of one camera. One thread adds, any thread reads."""

    def __init__(self) -> None:
        self._open = _Open(0)
        self._points: deque[Point] = deque(maxlen=POINTS)

    def add(self, observation: Observation) -> None:
        """Take an observation that has a prediction."""
        number = current()
        if number != self._open.number:
            if (point := self._open.point()) is not None:
                self._points.append(point)
            self._open = _Open(number)
        self._open.add(observation)

    def points(self, since: int = 0) -> list[Point]:
        """Return the points in order, the open one among them.

        Args:
            since: Number of the first one.
        """
        last = self._open.point()
        points = [*list(self._points), *([last] if last is not None else [])]
        first = max(since, current() - POINTS)
        return [point for point in points if point.number > first]


def current() -> int:
    """Return the number of the point that is open now."""
    return int(time.monotonic() // SECONDS)


def _quantile(ordered: list[float], share: float) -> float:
    """Return a quantile of ordered values, interpolated as NumPy does."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
