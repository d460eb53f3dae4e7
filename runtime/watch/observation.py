"""What was predicted for one frame of a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.errors import UdaError
from runtime.monitoring.drift import Drift
from runtime.prediction import Prediction
from runtime.sources.live.base import LiveFrame


class Smoothed(NamedTuple):
    """The label by the mean of the softmax scores of a source's last frames under one task."""

    label: str
    score: float
    """In [0, 1]."""
    frames: int
    """Number of frames that it is the mean of."""


@dataclass(frozen=True, eq=False)
class Observation:
    """A frame of a source with its prediction, or with the reason why there is none."""

    source: str
    """Name of the source."""
    frame: LiveFrame
    prediction: Prediction | None = None
    error: UdaError | None = None
    milliseconds: float = 0.0
    """Latency: from the frame in to the prediction out, without its time in the queue."""
    waited: float = 0.0
    """Milliseconds that it waited in the queue."""
    switched: bool = False
    """Whether the source's task is another than that of its frame before."""
    smoothed: Smoothed | None = None
    """None without smoothing."""
    drift: Drift | None = None
    """None where drift is not watched, or the task carries no limits for it."""

    def to_dict(self, top: int = 1) -> dict[str, Any]:
        """Return a row for a line of JSON; what is not known is left out.

        Args:
            top: Number of most likely classes.
        """
        row: dict[str, Any] = {
            "source": self.source,
            "frame": self.frame.number,
            "time": round(self.frame.time, 3),
        }
        if self.frame.name is not None:
            row["image"] = self.frame.name
        if self.prediction is not None:
            row |= self.prediction.to_dict(top)
            row |= {"ms": round(self.milliseconds, 3), "waited_ms": round(self.waited, 3)}
        if self.smoothed is not None:
            row["smoothed"] = self.smoothed._asdict()
        if self.drift is not None:
            row["drift"] = self.drift.state
        return row if self.error is None else {**row, "error": str(self.error)}
