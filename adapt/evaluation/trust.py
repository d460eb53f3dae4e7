"""How far the scores of a variant can be trusted, on labelled test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.data.base import UNKNOWN
from adapt.evaluation.predictions import Predictions
from runtime.monitoring.confidence import UNCALIBRATED, Calibration, described
from runtime.monitoring.reliability import Bin, area, bins, calibration_error, risks

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the predictions, surest first, whose accuracy is shown."""


@dataclass(frozen=True)
class Trust:
    """Calibration, and risk against coverage. Shares are in percent."""

    calibration: str
    """What the confidences are from, as `Prediction.calibration` says it."""
    ece: float
    """Expected calibration error of the confidences, or of the scores if uncalibrated; 15 bins."""
    aurc: float
    """Area under the risk-coverage curve, risk in percent."""
    bins: tuple[Bin, ...]
    accuracies: tuple[tuple[float, float], ...]
    """Pairs of a coverage and the accuracy of that share of the predictions, the surest ones."""

    @property
    def calibrated(self) -> bool:
        """Whether the confidences are calibrated ones."""
        return self.calibration != UNCALIBRATED

    def as_dict(self) -> dict[str, Any]:
        """Return everything, JSON-serialisable."""
        return asdict(self)


def trust(
    found: Predictions, labels: NDArray[np.int64], calibration: Calibration | None
) -> Trust | None:
    """Return how far confidences can be trusted; None where no label is known.

    Args:
        found: Predictions of the test images.
        labels: Their classes (M,); images of class UNKNOWN (-1) do not count.
        calibration: Temperature that the confidences are from, if there is one.
    """
    known = labels != UNKNOWN
    if not known.any():
        return None
    right, sure = found.classes[known, 0] == labels[known], found.confidences[known]
    risk = risks(sure, right)
    counts = [max(round(share * len(risk)), 1) for share in COVERAGES]
    return Trust(
        calibration=described(calibration),
        ece=100 * calibration_error(sure, right),
        aurc=100 * area(sure, right),
        bins=tuple(bins(sure, right)),
        accuracies=tuple(
            (100 * share, 100 * (1 - float(risk[count - 1])))
            for share, count in zip(COVERAGES, counts, strict=True)
        ),
    )


HEADER = ("the surest", "accuracy %")


def rows(found: Trust) -> Sequence[Sequence[str]]:
    """Return the accuracies by coverage as cells of a table, for people."""
    return [[f"{share:.0f} %", f"{accuracy:.2f}"] for share, accuracy in found.accuracies]
