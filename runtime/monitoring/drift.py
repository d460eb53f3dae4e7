"""Tell whether a camera still sees what its task was adapted to.

Longer than most files: a public class, with the file that its state is saved in.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from runtime.errors import ConfigError, FormatError, TaskError
from runtime.monitoring.cusum import Limits
from runtime.monitoring.gaussian import unit
from runtime.monitoring.statistics import TaskStatistics
from runtime.monitoring.watched import Watched
from runtime.mutex import Mutex
from runtime.storage.fields import build
from runtime.storage.files import read_bytes
from runtime.storage.json_text import parse
from runtime.storage.writing import write_bytes

State = Literal["not enough frames yet", "steady", "drifting"]
NOT_ENOUGH: State = "not enough frames yet"
STEADY: State = "steady"
DRIFTING: State = "drifting"
EVERY = 10
"""One frame in so many is looked at: those of a video are nearly alike."""
MAX_BYTES = 16 << 20
"""Largest file of a state."""
_MOST = 1 << 53
"""Largest number of frames: JSON's numbers are exact up to it."""


@dataclass(frozen=True)
class Drift:
    """What a monitor says about one camera and one task."""

    task: str
    state: State
    level: float
    """Sum of the CUSUM, as a share of what raises the alarm, in [0, 1]."""
    frames: int
    """Number of frames that were looked at."""
    alarms: int
    """How often the state became `drifting`."""


@dataclass(frozen=True)
class _Watch:
    """State of one task."""

    of: str
    """Digest of the task's limits: a replaced task is watched anew."""
    level: float = 0.0
    base: float = 0.0
    """Level under the untouched base, for frames that a router routed."""
    frames: int = 0
    alarms: int = 0
    drifting: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.level <= 1 and 0 <= self.base <= 1):
            raise ValueError(f"levels are {self.level:g} and {self.base:g}, expected 0 to 1")
        if not (0 <= self.alarms <= self.frames <= _MOST):
            raise ValueError(f"{self.frames} frames with {self.alarms} alarms")
        if self.drifting and not self.alarms:
            raise ValueError("it is drifting without an alarm")


@dataclass(frozen=True)
class _Document:
    """Content of a file with the state of a monitor."""

    kind: Literal["uda-drift"]
    schema: Literal[1]
    every: int
    waiting: int
    """Frames to skip before the next one is looked at."""
    base_waiting: int
    """Likewise under the untouched base, where a router has looked through it."""
    tasks: dict[str, _Watch]

    def __post_init__(self) -> None:
        waiting = (self.waiting, self.base_waiting)
        if not (1 <= self.every <= _MOST and all(0 <= each < self.every for each in waiting)):
            raise ValueError(f"it waits for {waiting} of {self.every} frames")


class DriftMonitor:
    """Watches one camera, under whatever tasks classify its frames. Safe to use from threads.

    A CUSUM (Page 1954) over the Mahalanobis distances of the features: `drifting` is said when they
    have been unusually far from the task's own images for long enough, and `steady` again when its
    sum is back at 0. Where a `Router` chose the task, what it saw through the untouched base is
    watched too: it finds some changes sooner. The thresholds come with the task: 2 false alarms in
    100,000 frames that are looked at, for streams that show a class for up to 30 of them in a row,
    drawn from images that the task was adapted to. Held-out images of the demo gave up to 19 there,
    and 37 where every run has 30 frames (`python -m benchmarks.monitoring`, three seeds).

    Example:
        monitor = DriftMonitor()  # one for each camera
        for frame in camera:
            if monitor.see(session.predict(frame)).state == "drifting":
                ...
    """

    def __init__(self, every: int = EVERY) -> None:
        """Start without having seen a frame.

        Args:
            every: Looks at one frame in so many; 1 suits images that come one by one.

        Raises:
            ConfigError: It is below 1.
        """
        if type(every) is not int or not 1 <= every <= _MOST:
            raise ConfigError(f"every must be a whole number of at least 1, found {every!r:.40}")
        self._every, self._waiting, self._base_waiting = every, 0, 0
        self._tasks: dict[str, _Watch] = {}
        self._digests: dict[str, tuple[Limits, str]] = {}
        self._mutex = Mutex()

    def see(self, prediction: Watched) -> Drift:
        """Take the next frame's prediction, and say what its task's state is.

        Args:
            prediction: Prediction of a session.

        Raises:
            TaskError: The task carries no limits of drift.
        """
        statistics, features = prediction.statistics, prediction.features
        if statistics is None or statistics.drift is None or features is None:
            raise TaskError(
                f"task '{prediction.task}' has no limits of drift to watch; train it with at least "
                "20 target images and this version, and export it again"
            )
        limits = statistics.drift
        with self._mutex:
            watch = self._watch(prediction.task, statistics, limits)
            excess = None if self._base_waiting else _excess(prediction)
            if not self._waiting or excess is not None:
                looks = not self._waiting
                watch = _after(watch, statistics, limits, prediction, looks, excess)
                self._tasks[prediction.task] = watch
            self._waiting = (self._waiting or self._every) - 1
            base_waiting = self._base_waiting if excess is None else self._every
            self._base_waiting = max(base_waiting - 1, 0)
            return _drift(prediction.task, watch, limits)

    def reset(self, task: str | None = None) -> None:
        """Forget what was seen under a task, or under all, for example after the camera was moved.

        Args:
            task: Id of a task; None for all.
        """
        with self._mutex:
            for name in list(self._tasks) if task is None else [task]:
                self._tasks.pop(name, None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file, whole or not at all.

        Raises:
            StorageError: The file cannot be written.
        """
        with self._mutex:
            waiting = self._waiting, self._base_waiting
            found = _Document("uda-drift", 1, self._every, *waiting, dict(self._tasks))
        write_bytes(Path(path), json.dumps(asdict(found)).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DriftMonitor:
        """Return a monitor that goes on from a saved state.

        A task whose statistics have changed since is watched anew.

        Raises:
            FormatError: The file is missing, damaged or of another version.
        """
        path = Path(path)
        try:
            content = parse(read_bytes(path, MAX_BYTES))
        except ValueError as error:
            raise FormatError(
                f"'{path}' is not the state of a DriftMonitor ({error}); delete it to start anew"
            ) from error
        found = build(_Document, content, f"'{path}'")
        monitor = cls(found.every)
        monitor._waiting, monitor._base_waiting = found.waiting, found.base_waiting
        monitor._tasks = dict(found.tasks)
        return monitor

    def _watch(self, task: str, statistics: TaskStatistics, limits: Limits) -> _Watch:
        """Return the state of a task, a new one if its statistics have changed."""
        known = self._digests.get(task)
        if known is None or known[0] is not limits:
            known = self._digests[task] = limits, _digest(statistics, limits)
        watch = self._tasks.get(task)
        return watch if watch is not None and watch.of == known[1] else _Watch(known[1])


def _excess(prediction: Watched) -> float | None:
    """Return the frame's excess under the base, see `Route`; None if no router looked at it."""
    route = prediction.route
    return route.frame_excess if route is not None and route.task == prediction.task else None


def _after(
    watch: _Watch,
    statistics: TaskStatistics,
    limits: Limits,
    prediction: Watched,
    looks: bool,
    excess: float | None,
) -> _Watch:
    """Return the state of a task after one more frame.

    Args:
        watch: State before.
        statistics: Statistics of the task.
        limits: Its limits of drift.
        prediction: Prediction for the frame.
        looks: Whether to look at its features.
        excess: Its excess under the base; None to leave that out.
    """
    predicted, level, base = int(prediction.logits.argmax()), watch.level, watch.base
    if looks:
        rows = unit(np.asarray(prediction.features))[None]
        level = limits.rise(level, float(statistics.gaussian.distances(rows)[0]), predicted)
    if prediction.route is None:  # without a router, nothing would ever lower it
        base = 0.0
    elif excess is not None and statistics.base_drift is not None:
        base = statistics.base_drift.rise(base, excess, predicted)
    raised = not watch.drifting and max(level, base) >= 1
    return _Watch(
        of=watch.of,
        level=level,
        base=base,
        frames=min(watch.frames + looks, _MOST),
        alarms=watch.alarms + raised,
        drifting=raised or (watch.drifting and max(level, base) > 0),
    )


def _drift(task: str, watch: _Watch, limits: Limits) -> Drift:
    enough = watch.frames >= limits.enough
    state = DRIFTING if watch.drifting else STEADY if enough else NOT_ENOUGH
    return Drift(task, state, max(watch.level, watch.base), watch.frames, watch.alarms)


def _digest(statistics: TaskStatistics, limits: Limits) -> str:
    arrays, thresholds = [statistics.gaussian.mean], []
    for each in filter(None, (limits, statistics.base_drift)):
        arrays += [each.means, each.deviations]
        thresholds.append(each.threshold)
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(content + repr(thresholds).encode()).hexdigest()[:16]
