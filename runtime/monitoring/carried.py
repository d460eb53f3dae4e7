"""Sum up what a task carries for monitoring, for `uda-runtime info` and `uda-adapt inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from runtime.monitoring import confidence, cusum, routing, statistics
from runtime.monitoring.confidence import Calibration

RATE = f"{1e5 * cusum.RATE:.0f} false alarms in 100,000 frames"
"""Rate of false alarms that drift thresholds are computed for."""


@dataclass(frozen=True)
class Carried:
    """A summary of a task's optional members."""

    statistics: int | None
    """Number of target images that the statistics are from; None without any."""
    drift: float | None
    """Threshold of the alarm of drift; None without one."""
    routing: bool
    """Whether the task can be chosen for a frame, in a bundle with a whitening."""
    calibration: Calibration | None
    """Temperature of the logits; None where the task is uncalibrated."""

    @property
    def scores(self) -> str:
        """Where the confidence is from, as `Prediction.calibration` says it."""
        return confidence.described(self.calibration)

    def document(self) -> dict[str, Any]:
        """Return this as JSON for programs."""
        own = self.calibration
        return {
            "statistics_images": self.statistics,
            "drift_threshold": self.drift,
            "routing": self.routing,
            "calibration": self.scores,
            "calibration_images": None if own is None else own.images,
            "temperature": None if own is None else own.temperature,
        }

    def cells(self) -> list[str]:
        """Return a row of cells, headed by `HEADER`."""
        return [
            "none" if self.statistics is None else f"{self.statistics:,} images",
            "none" if self.drift is None else f"{self.drift:.1f}",
            "yes" if self.routing else "none",
            self.scores,
        ]


NOTHING = Carried(None, None, False, None)
HEADER = ("statistics", "drift threshold", "routing", "scores")


def read(optional: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], classes: int) -> Carried:
    """Return a summary of the optional members of an artifact or a task file.

    Args:
        optional: Optional members of the file.
        tensors: Tensors of the optional members, `<member>.<name>`.
        classes: Number of the task's classes.

    Raises:
        FormatError: A member is damaged.
    """
    own = statistics.read(optional, tensors, classes)
    return Carried(
        statistics=None if own is None else own.images,
        drift=None if own is None or own.drift is None else own.drift.threshold,
        routing=routing.read(optional, tensors) is not None,
        calibration=confidence.read(optional),
    )
