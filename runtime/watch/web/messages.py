"""What a page is sent: lengths, a JSON document and perhaps a picture."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.text import printable
from runtime.watch.observation import Observation
from runtime.watch.sinks.base import Watched
from runtime.watch.status import SourceStatus
from runtime.watch.web.cameras import Camera
from runtime.watch.web.series import POINTS, SECONDS, current

TOP = 3
"""Number of most likely classes of a frame."""
_LENGTHS = struct.Struct("<II")
_EVERY = 1.0
"""Seconds between two states."""


def message(document: Mapping[str, Any], picture: bytes = b"") -> bytes:
    """Return a message: two lengths of four bytes (little-endian), JSON, and a picture."""
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # an engine gave NaN, at which a browser would end the stream
        known = json.loads(json.dumps(document), parse_constant=lambda _: None)
        text = json.dumps(known, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(text), len(picture)) + text + picture


def frame(observation: Observation) -> dict[str, Any]:
    """Return what the page says about a frame; what is not known is left out."""
    row: dict[str, Any] = {
        "kind": "frame",
        "source": observation.source,
        "number": observation.frame.number,
        "ms": round(observation.milliseconds, 2),
    }
    found = observation.prediction
    if found is not None:
        top = [[printable(name), round(score, 4)] for name, score in found.top(TOP)]
        values = {"confidence": found.confidence, "novelty": found.novelty}
        row |= {"task": printable(found.task), "top": top, "calibration": found.calibration}
        row |= {name: round(value, 4) for name, value in values.items() if value is not None}
        if found.known is not None:
            row["known"] = found.known
    if observation.smoothed is not None:
        label, score, frames = observation.smoothed
        row["smoothed"] = [printable(label), round(score, 4), frames]
    if observation.error is not None:
        row["error"] = printable(observation.error)
    return row


class States:
    """Builds the state of all cameras, once a second for all viewers together."""

    def __init__(
        self, watched: Watched, cameras: Mapping[str, Camera], fixed: Mapping[str, Any]
    ) -> None:
        """Build nothing yet.

        Args:
            watched: Program that is watched.
            cameras: Cameras by name.
            fixed: Further members of each state.
        """
        self._watched, self._cameras, self._fixed = watched, cameras, fixed
        self._built, self._latest = 0.0, b""

    def latest(self) -> bytes:
        """Return a message that is at most a second old; the same object until there is another."""
        now = time.monotonic()
        if not self._latest or now - self._built >= _EVERY:
            self._latest, self._built = self._message(current() - 2), now
        return self._latest

    def whole(self) -> bytes:
        """Return a message with all points of the last minutes."""
        return self._message(0)

    def outdate(self) -> None:
        """Have the next message built anew."""
        self._latest = b""

    def _message(self, since: int) -> bytes:
        statuses = self._watched.status()
        return message(
            {
                "kind": "state",
                **self._fixed,
                "tasks": list(self._watched.tasks),
                "auto": self._watched.can_route,
                "now": current(),
                "seconds": SECONDS,
                "points": POINTS,
                "cameras": [self._camera(status, since) for status in statuses],
            }
        )

    def _camera(self, status: SourceStatus, since: int) -> dict[str, Any]:
        camera = self._cameras.get(status.name)
        age = None if camera is None else camera.age
        counts = ("captured", "predicted", "failed", "skipped", "dropped", "waiting")
        return {
            "name": status.name,
            "where": printable(status.where),
            "state": status.state,
            "choice": status.choice,
            "task": status.task,
            "error": None if status.error is None else printable(status.error),
            "age": None if age is None else round(age, 1),
            "counts": {name: getattr(status, name) for name in (*counts, "switches", "reconnects")},
            "drifts": _drifts(status),
            "harvested": status.harvested,
            "points": [] if camera is None else camera.series.points(since),
        }


def _drifts(status: SourceStatus) -> Sequence[dict[str, Any]]:
    return [
        {
            "task": task,
            "state": drift.state,
            "level": round(drift.level, 3),
            "alarms": drift.alarms,
        }
        for task, drift in list(status.drifts.items())
    ]
