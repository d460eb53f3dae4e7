"""Draw the figures of a run over its epochs: one small chart each, as the numbers of an SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapt.settings.selectors import SELECTORS

AREA = {"width": 300, "height": 130, "left": 80, "top": 6, "bottom": 112}
"""Size of a chart, and where its curve may be, in its own units."""
_MARGIN = 8
"""Distance of the curve from the ends of its area."""
_POINTS = 400
"""Most points of a curve; of longer runs, evenly spaced epochs are drawn."""


@dataclass(frozen=True)
class Mark:
    """One epoch of a curve that is pointed at."""

    name: str
    epoch: int
    value: str
    x: float
    y: float


@dataclass(frozen=True)
class Curve:
    """One figure over the epochs."""

    name: str
    hint: str
    """What is better, or empty."""
    low: str
    """Least value."""
    high: str
    """Largest value."""
    first: int
    """First epoch."""
    last: int
    """Last epoch."""
    path: str
    """Value of the attribute `d` of an SVG path."""
    marks: tuple[Mark, ...]


def curves(history: Sequence[Mapping[str, Any]], chosen: int, best: int | None) -> list[Curve]:
    """Return a chart of every figure of a run: accuracy, scores without labels, losses, density.

    Args:
        history: Rows of the epochs, see `adapt.training.record.epoch_row`.
        chosen: Epoch whose weights were saved.
        best: Epoch that the test labels would have chosen, if there are any.
    """
    marked = {"chosen": chosen, **({} if best is None else {"oracle-best": best})}
    plain = {
        "accuracy": ("accuracy, %", "higher is better", 1.0),
        "density": ("encoder changed, %", "", 100.0),
        "survival": ("survival in mixed precision, %", "", 100.0),
    }
    found = []
    for key, (name, hint, factor) in plain.items():
        values = [None if row[key] is None else factor * row[key] for row in history]
        if key == "density" and not any(values):
            continue  # the encoder is not trained
        found.append(_curve(name, hint, history, values, marked if key == "accuracy" else {}))
    for group, title in (("scores", "score"), ("losses", "loss")):
        for name in dict.fromkeys(name for row in history for name in row[group]):
            hint = _direction(name) if group == "scores" else ""
            values = [row[group].get(name) for row in history]
            found.append(_curve(f"{title}: {name}", hint, history, values, {"chosen": chosen}))
    return [curve for curve in found if curve]


def _direction(name: str) -> str:
    if name not in SELECTORS:
        return ""
    return "higher is better" if SELECTORS[name] else "lower is better"


def _curve(
    name: str,
    hint: str,
    history: Sequence[Mapping[str, Any]],
    values: Sequence[float | None],
    marked: Mapping[str, int],
) -> Curve | None:
    """Return the chart of one figure; None where no epoch has it."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    epochs = [row["epoch"] for row in history]
    low, high = min(known), max(known)

    def x(index: int) -> float:
        share = index / (len(epochs) - 1) if len(epochs) > 1 else 0.5
        first, last = AREA["left"] + _MARGIN, AREA["width"] - _MARGIN
        return round(first + share * (last - first), 1)

    def y(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        bottom, top = AREA["bottom"] - _MARGIN, AREA["top"] + _MARGIN
        return round(bottom - share * (bottom - top), 1)

    marks = []
    for title, epoch in marked.items():
        index = epochs.index(epoch) if epoch in epochs else -1
        value = values[index] if index >= 0 else None
        if value is not None:
            marks.append(Mark(title, epoch, number(value), x(index), y(value)))
    shown = _thinned(len(epochs))
    points = [None if (v := values[i]) is None else (x(i), y(v)) for i in shown]
    return Curve(
        name, hint, number(low), number(high), epochs[0], epochs[-1], _path(points), tuple(marks)
    )


def _thinned(count: int) -> list[int]:
    if count <= _POINTS:
        return list(range(count))
    return [round(i * (count - 1) / (_POINTS - 1)) for i in range(_POINTS)]


def _path(points: Iterable[tuple[float, float] | None]) -> str:
    """Return lines through the points, with gaps where a value is unknown."""
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{point[0]} {point[1]}")
        pen = "L"
    return "".join(parts)


def number(value: float) -> str:
    """Return a figure with three or four digits that count."""
    if value == 0:
        return "0"
    if 0.01 <= abs(value) < 10_000:
        return f"{value:.4g}" if abs(value) < 100 else f"{value:.1f}"
    return f"{value:.2e}"
