"""Draw how far scores can be trusted: accuracy by score, and accuracy of the surest predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapt.evaluation.trust import Trust
from adapt.report.curves import AREA

_UNCALIBRATED = (
    "The scores are uncalibrated, so they are not probabilities; sorting 50 images with uda-adapt "
    "spot-check calibrates them."
)


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in its units."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Chart:
    """One chart, as the numbers of an SVG."""

    name: str
    hint: str
    label: str
    """Description for those who cannot see it."""
    low: str
    """Value at the bottom."""
    high: str
    """Value at the top."""
    left: str
    right: str
    bars: Sequence[Bar] = ()
    line: str = ""
    """Value of the attribute `d` of an SVG path."""
    ideal: str = ""
    """Likewise, for perfectly calibrated scores."""


@dataclass(frozen=True)
class Reliability:
    """What a page shows of the scores of a variant."""

    text: str
    charts: tuple[Chart, ...]


def reliability(found: Trust) -> Reliability:
    """Return the charts of a variant's scores, and a sentence about them.

    Args:
        found: Calibration, and risk against coverage, of the scores.
    """
    calibrated = f"The confidences are calibrated on {found.calibration}."
    text = (
        f"{calibrated if found.calibrated else _UNCALIBRATED} Expected calibration error (ECE) "
        f"{found.ece:.1f} %, area under the risk-coverage curve (AURC) {found.aurc:.1f} %; lower "
        "is better."
    )
    return Reliability(text, (_by_score(found), _by_coverage(found)))


def _x(share: float) -> float:
    return round(AREA["left"] + share * (AREA["width"] - AREA["left"]), 1)


def _y(share: float) -> float:
    return round(AREA["bottom"] - share * (AREA["bottom"] - AREA["top"]), 1)


def _by_score(found: Trust) -> Chart:
    bars = [
        Bar(
            x=_x(one.low),
            y=_y(one.accuracy),
            width=round(_x(one.high) - _x(one.low) - 1, 1),
            height=round(AREA["bottom"] - _y(one.accuracy), 1),
            title=f"{one.count} of score {one.score:.0%}: {one.accuracy:.0%} right",
        )
        for one in found.bins
        if one.count
    ]
    return Chart(
        name=f"accuracy by {'confidence' if found.calibrated else 'score'}, %",
        hint="dashed: perfectly calibrated",
        label=f"accuracy by score; expected calibration error {found.ece:.1f} %",
        low="0",
        high="100",
        left="0",
        right="100",
        bars=bars,
        ideal=f"M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}",
    )


def _by_coverage(found: Trust) -> Chart:
    points = sorted(found.accuracies)
    values = [accuracy for _, accuracy in points]
    low, high = min(values), max(values)
    first = points[0][0]

    def point(share: float, accuracy: float) -> str:
        height = (accuracy - low) / (high - low) if high > low else 0.5
        return f"{_x((share - first) / (100 - first))} {_y(0.08 + 0.84 * height)}"

    drawn = "L".join(point(*one) for one in points)
    return Chart(
        name="accuracy of the surest, %",
        hint="by share of predictions kept",
        label=(
            f"accuracy of the surest predictions, from {values[0]:.1f} % of {first:.0f} % to "
            f"{values[-1]:.1f} % of all"
        ),
        low=f"{low:.0f}",
        high=f"{high:.0f}" if high > low else "",
        left=f"{first:.0f} %",
        right="all",
        line=f"M{drawn}",
    )
