"""The filled polygons that outlines are made of.

Coordinates are in the unit box [-1, 1]^2 with y pointing down, before any random placement.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator

HOLE, MAIN, SECOND, DARK = range(4)
"""The four tones. Parts are painted in order, so a hole cuts into what came before it."""


class Part(NamedTuple):
    """One filled polygon."""

    points: NDArray[np.float64]
    """Corners (K, 2), x then y."""
    tone: int
    """`HOLE`, `MAIN`, `SECOND` or `DARK`."""


def polygon(tone: int, *points: tuple[float, float]) -> Part:
    """Return the polygon through the given corners."""
    return Part(np.array(points, float), tone)


def box(tone: int, x0: float, y0: float, x1: float, y1: float) -> Part:
    """Return the axis-aligned rectangle between two opposite corners."""
    return polygon(tone, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(
    tone: int, cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360
) -> Part:
    """Return an ellipse, or the part of it between two angles in degrees (0 right, 90 down)."""
    angle = np.radians(np.linspace(start, end, 22))
    return Part(np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1), tone)


def stroke(tone: int, x0: float, y0: float, x1: float, y1: float, width: float) -> Part:
    """Return a straight line of the given width."""
    begin, end = np.array([x0, y0]), np.array([x1, y1])
    along = np.array([x1 - x0, y1 - y0])
    along = along / (np.hypot(*along) + 1e-9)
    side = np.array([-along[1], along[0]]) * width / 2
    return Part(np.array([begin + side, end + side, end - side, begin - side]), tone)
