"""What a task carries so that a device can tell when to trust its answers, for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from runtime.monitoring import confidence, cusum, routing, statistics

RATE = f"{1e5 * cusum.RATE:.0f} false alarms in 100,000 frames"
"""What thresholds of drift are computed for."""


@dataclass(frozen=True)
class Carried:
    """The optional members of a task, in short."""

    statistics: int | None
    """Number of target images that the statistics are from; None without any."""
    drift: float | None
    """Threshold of the alarm; None without one."""
    routing: bool
    """Whether the task can be chosen for a frame, in a bundle with a whitening."""
    calibration: int | None
    """Number of sorted images that the temperature is from; None where it is uncalibrated."""
    temperature: float | None

    @property
    def scores(self) -> str:
        """Where the confidence is from, as `Prediction.calibration` says it."""
        if self.calibration is None:
            return confidence.UNCALIBRATED
        return f"{self.calibration} sorted images"

    def document(self) -> dict[str, Any]:
        """Return this as JSON for programs."""
        return {
            "statistics_images": self.statistics,
            "drift_threshold": self.drift,
            "routing": self.routing,
            "calibration": self.scores,
            "calibration_images": self.calibration,
            "temperature": self.temperature,
        }

    def cells(self) -> list[str]:
        """Return the cells of `HEADER`."""
        return [
            "none" if self.statistics is None else f"{self.statistics:,} images",
            "none" if self.drift is None else f"{self.drift:.1f}",
            "yes" if self.routing else "none",
            self.scores,
        ]


NOTHING = Carried(None, None, False, None, None)
HEADER = ("statistics", "drift threshold", "routing", "scores")


def read(optional: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], classes: int) -> Carried:
    """Return what the optional members of an artifact or a task file are.

    Args:
        optional: Optional members of the file.
        tensors: Tensors of the optional members, `<member>.<name>`.
        classes: Number of the task's classes.

    Raises:
        FormatError: A member is damaged.
    """
    own = statistics.read(optional, tensors, classes)
    calibration = confidence.read(optional)
    return Carried(
        statistics=None if own is None else own.images,
        drift=None if own is None or own.drift is None else own.drift.threshold,
        routing=routing.read(optional, tensors) is not None,
        calibration=None if calibration is None else calibration.images,
        temperature=None if calibration is None else calibration.temperature,
    )
