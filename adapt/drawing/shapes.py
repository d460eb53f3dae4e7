"""The 32 objects of the drawn world, as lists of polygons.

Every function draws its own two to four random shape parameters. The order of the draws is part of
the data sets' identity: changing it changes every picture that follows.
"""

import math
from collections.abc import Callable

from adapt.drawing.extra_shapes import EXTRA_OBJECTS
from adapt.drawing.geometry import (
    DARK,
    HOLE,
    MAIN,
    SECOND,
    Part,
    Rng,
    box,
    ellipse,
    polygon,
    stroke,
)


def _bottle(rng: Rng) -> list[Part]:
    neck = rng.uniform(0.12, 0.22)
    body = rng.uniform(0.34, 0.5)
    shoulder = rng.uniform(-0.35, -0.05)
    glass = polygon(
        MAIN,
        (-neck, -0.75),
        (neck, -0.75),
        (neck, shoulder - 0.2),
        (body, shoulder + 0.1),
        (body, 0.95),
        (-body, 0.95),
        (-body, shoulder + 0.1),
        (-neck, shoulder - 0.2),
    )
    cap = box(DARK, -neck - 0.03, -0.95, neck + 0.03, -0.75)
    label = box(SECOND, -body, rng.uniform(0.15, 0.3), body, rng.uniform(0.5, 0.7))
    return [glass, cap, label]


def _chair(rng: Rng) -> list[Part]:
    back = rng.uniform(-0.95, -0.7)
    half = rng.uniform(0.42, 0.55)
    seat = rng.uniform(0.0, 0.2)
    parts = [
        box(MAIN, -half, back, -half + 0.15, 0.95),
        box(SECOND, -half, seat, half, seat + 0.16),
        box(MAIN, half - 0.13, seat + 0.1, half, 0.95),
    ]
    if rng.random() < 0.5:
        parts.append(box(MAIN, -half, back, -half + 0.26, seat))
    return parts


def _clock(rng: Rng) -> list[Part]:
    minute = rng.uniform(0, 6.28)
    hour = rng.uniform(0, 6.28)
    parts = [
        ellipse(MAIN, 0, 0, 0.85, 0.85),
        ellipse(SECOND, 0, 0, 0.68, 0.68),
        stroke(DARK, 0, 0, 0.55 * math.cos(minute), 0.55 * math.sin(minute), 0.1),
        stroke(DARK, 0, 0, 0.36 * math.cos(hour), 0.36 * math.sin(hour), 0.13),
    ]
    if rng.random() < 0.5:
        bells = [ellipse(DARK, x, -0.75, 0.25, 0.2) for x in (-0.55, 0.55)]
        parts = bells + parts
    return parts


def _cup(rng: Rng) -> list[Part]:
    top = rng.uniform(0.5, 0.65)
    bottom = top * rng.uniform(0.6, 0.95)
    handle = top + 0.05
    return [
        ellipse(MAIN, handle - 0.02, 0.05, 0.36, 0.4),
        ellipse(HOLE, handle - 0.04, 0.05, 0.2, 0.24),
        polygon(
            MAIN,
            (-top - 0.15, -0.6),
            (top - 0.05, -0.6),
            (bottom - 0.05, 0.75),
            (-bottom - 0.15, 0.75),
        ),
        ellipse(SECOND, -0.1, -0.6, top + 0.05, 0.14),
    ]


def _fork(rng: Rng) -> list[Part]:
    half = rng.uniform(0.26, 0.36)
    tines = 3 if rng.random() < 0.6 else 4
    y = rng.uniform(-0.35, -0.2)
    parts = [
        box(SECOND, -0.09, y, 0.09, 0.98),
        polygon(MAIN, (-half, y - 0.1), (half, y - 0.1), (0.12, y + 0.25), (-0.12, y + 0.25)),
    ]
    for i in range(tines):
        x = -half + 0.06 + (2 * half - 0.12) * i / (tines - 1)
        parts.append(box(MAIN, x - 0.055, -0.95, x + 0.055, y - 0.05))
    return parts


def _hammer(rng: Rng) -> list[Part]:
    half = rng.uniform(0.5, 0.65)
    height = rng.uniform(0.3, 0.42)
    return [
        box(SECOND, -0.1, -0.7, 0.1, 0.98),
        polygon(
            MAIN,
            (-half, -0.9),
            (half * 0.6, -0.9),
            (half + 0.15, -0.9 + height / 2),
            (half * 0.6, -0.9 + height),
            (-half, -0.9 + height),
        ),
    ]


def _key(rng: Rng) -> list[Part]:
    ring = rng.uniform(0.3, 0.4)
    parts = [
        ellipse(MAIN, 0, -0.55, ring, ring),
        ellipse(HOLE, 0, -0.55, ring * 0.5, ring * 0.5),
        box(MAIN, -0.09, -0.2, 0.09, 0.95),
    ]
    teeth = (0.85, 0.6) if rng.random() < 0.6 else (0.85, 0.65, 0.45)
    return parts + [box(MAIN, 0.05, y - 0.08, 0.38, y + 0.06) for y in teeth]


def _lamp(rng: Rng) -> list[Part]:
    top = rng.uniform(0.25, 0.4)
    rim = rng.uniform(0.6, 0.8)
    y = rng.uniform(-0.2, 0.05)
    return [
        box(DARK, -0.06, y, 0.06, 0.85),
        ellipse(DARK, 0, 0.88, rng.uniform(0.3, 0.45), 0.13),
        polygon(MAIN, (-top, -0.9), (top, -0.9), (rim, y), (-rim, y)),
    ]


def _pencil(rng: Rng) -> list[Part]:
    half = rng.uniform(0.14, 0.24)
    return [
        box(MAIN, -half, -0.65, half, 0.55),
        box(SECOND, -half, -0.95, half, -0.75),
        box(DARK, -half, -0.78, half, -0.62),
        polygon(SECOND, (-half, 0.52), (half, 0.52), (0, 0.98)),
        polygon(DARK, (-half * 0.4, 0.82), (half * 0.4, 0.82), (0, 0.98)),
    ]


def _scissors(rng: Rng) -> list[Part]:
    spread = rng.uniform(0.2, 0.42)
    parts = []
    for side in (-1, 1):
        parts += [
            polygon(
                MAIN,
                (side * spread, -0.95),
                (side * (spread - 0.13), -0.95),
                (-side * 0.25, 0.3),
                (-side * 0.1, 0.38),
            ),
            ellipse(SECOND, -side * 0.36, 0.62, 0.3, 0.3),
            ellipse(HOLE, -side * 0.36, 0.62, 0.15, 0.15),
        ]
    return parts


def _table(rng: Rng) -> list[Part]:
    half = rng.uniform(0.8, 0.95)
    y = rng.uniform(-0.35, -0.1)
    parts = [box(MAIN, -half, y, half, y + 0.2)]
    parts += [box(SECOND, x - 0.09, y + 0.15, x + 0.09, 0.8) for x in (-half + 0.14, half - 0.14)]
    if rng.random() < 0.4:
        back_legs = (-half * 0.45, half * 0.45)
        parts += [box(SECOND, x - 0.06, y + 0.15, x + 0.06, 0.6) for x in back_legs]
    return parts


def _umbrella(rng: Rng) -> list[Part]:
    y = rng.uniform(-0.1, 0.1)
    return [
        box(DARK, -0.05, -0.95, 0.05, 0.75),
        ellipse(DARK, 0.14, 0.75, 0.19, 0.2, 0, 180),
        ellipse(HOLE, 0.14, 0.73, 0.09, 0.1, 0, 180),
        ellipse(MAIN, 0, y, 0.92, rng.uniform(0.7, 0.9), 180, 360),
        *(ellipse(HOLE, x, y + 0.02, 0.3, 0.16, 180, 360) for x in (-0.6, 0, 0.6)),
    ]


_TASK_OBJECTS: dict[str, Callable[[Rng], list[Part]]] = {
    "bottle": _bottle,
    "chair": _chair,
    "clock": _clock,
    "cup": _cup,
    "fork": _fork,
    "hammer": _hammer,
    "key": _key,
    "lamp": _lamp,
    "pencil": _pencil,
    "scissors": _scissors,
    "table": _table,
    "umbrella": _umbrella,
}

TASK_CLASSES = tuple(_TASK_OBJECTS)
"""The twelve classes of `demo-objects`, in label order."""

OBJECTS = _TASK_OBJECTS | EXTRA_OBJECTS
"""Name to outline function of all 32 objects, the classes of the task first."""
