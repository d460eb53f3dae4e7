"""Observations of sources, and a program that watches them, for tests of sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from runtime.errors import DataError
from runtime.monitoring.drift import Drift
from runtime.prediction import Prediction
from runtime.sources.live.base import LiveFrame
from runtime.watch.observation import Observation, Smoothed
from runtime.watch.status import SourceStatus

CLASSES = ("cup", "key", "mug")
FRAME = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)


def observation(
    number: int = 0,
    source: str = "gate",
    best: int = 1,
    task: str = "d-n",
    *,
    when: float = 1_800_000_000.25,
    smoothed: Smoothed | None = None,
    drift: Drift | None = None,
) -> Observation:
    """Return what was predicted for a frame: `best` is the position of its label."""
    logits = np.zeros(3, np.float32)
    logits[best] = 2
    prediction = Prediction(task, CLASSES, logits)
    frame = LiveFrame(FRAME, number, when + number, 0.0)
    return Observation(
        source, frame, prediction, milliseconds=12.5, waited=1.5, smoothed=smoothed, drift=drift
    )


def failure(number: int = 0, source: str = "gate") -> Observation:
    """Return a frame that could not be classified."""
    frame = LiveFrame(FRAME, number, 1_800_000_000.0, 0.0)
    return Observation(source, frame, error=DataError("the frame is broken"))


def status(name: str = "gate", **fields: object) -> SourceStatus:
    """Return the state of a source."""
    known = {"where": "0", "state": "running", "choice": "auto", "task": "d-n"}
    return SourceStatus(name, **{**known, **fields})  # type: ignore[arg-type]


class Program:
    """The program around the sinks: it knows its sources."""

    tasks = ("d-n", "d-r")
    can_route = True

    def __init__(self, *statuses: SourceStatus) -> None:
        self.statuses: Sequence[SourceStatus] = statuses

    def status(self) -> Sequence[SourceStatus]:
        return self.statuses

    def choose(self, source: str, task: str) -> None:
        raise AssertionError(f"a sink chose {task} for {source}")


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)
