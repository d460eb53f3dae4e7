"""The 20 objects that are only in the pre-training corpus, as lists of polygons."""

import math
from collections.abc import Callable

import numpy as np

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


def _star(rng: Rng) -> list[Part]:
    inner = rng.uniform(0.38, 0.5)
    angle = np.arange(10) * math.pi / 5 - math.pi / 2
    radius = np.where(np.arange(10) % 2, inner, 1) * 0.95
    return [Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), MAIN)]


def _heart(rng: Rng) -> list[Part]:
    t = np.linspace(0, 2 * math.pi, 40)
    height = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [Part(np.stack([16 * np.sin(t) ** 3 / 17, -height / 17], 1), MAIN)]


def _house(rng: Rng) -> list[Part]:
    half = rng.uniform(0.6, 0.8)
    eaves = rng.uniform(-0.25, 0)
    return [
        box(MAIN, -half, eaves, half, 0.9),
        polygon(SECOND, (-half - 0.15, eaves), (half + 0.15, eaves), (0, -0.95)),
        box(DARK, -0.15, 0.35, 0.18, 0.9),
    ]


def _tree(rng: Rng) -> list[Part]:
    if rng.random() < 0.5:
        crown = ellipse(MAIN, 0, -0.3, rng.uniform(0.55, 0.8), 0.62)
        return [box(DARK, -0.13, 0.2, 0.13, 0.95), crown]
    tiers = ((0.75, 0.6), (0.6, 0.15), (0.42, -0.25))
    return [
        box(DARK, -0.12, 0.5, 0.12, 0.95),
        *(polygon(MAIN, (-half, y), (half, y), (0, y - 0.7)) for half, y in tiers),
    ]


def _fish(rng: Rng) -> list[Part]:
    return [
        ellipse(MAIN, -0.15, 0, 0.7, rng.uniform(0.35, 0.5)),
        polygon(SECOND, (0.4, 0), (0.95, -0.45), (0.95, 0.45)),
        ellipse(DARK, -0.5, -0.1, 0.1, 0.1),
    ]


def _flower(rng: Rng) -> list[Part]:
    petals = rng.integers(5, 8)
    angles = [2 * math.pi * i / petals for i in range(petals)]
    return [
        box(DARK, -0.06, 0, 0.06, 0.98),
        *(ellipse(MAIN, 0.36 * math.cos(a), -0.4 + 0.36 * math.sin(a), 0.25, 0.25) for a in angles),
        ellipse(SECOND, 0, -0.4, 0.2, 0.2),
    ]


def _car(rng: Rng) -> list[Part]:
    return [
        box(MAIN, -0.95, -0.05, 0.95, 0.4),
        polygon(SECOND, (-0.6, -0.05), (-0.35, -0.5), (0.35, -0.5), (0.65, -0.05)),
        ellipse(DARK, -0.5, 0.42, 0.24, 0.24),
        ellipse(DARK, 0.5, 0.42, 0.24, 0.24),
    ]


def _boat(rng: Rng) -> list[Part]:
    return [
        polygon(MAIN, (-0.9, 0.35), (0.9, 0.35), (0.55, 0.85), (-0.55, 0.85)),
        box(DARK, -0.06, -0.95, 0.06, 0.35),
        polygon(SECOND, (0.08, -0.9), (0.75, 0.2), (0.08, 0.2)),
    ]


def _balloon(rng: Rng) -> list[Part]:
    return [
        stroke(DARK, 0, 0.3, rng.uniform(-0.2, 0.2), 0.98, 0.06),
        ellipse(MAIN, 0, -0.3, rng.uniform(0.5, 0.62), 0.65),
        polygon(MAIN, (-0.1, 0.44), (0.1, 0.44), (0, 0.28)),
    ]


def _flag(rng: Rng) -> list[Part]:
    top, bottom = rng.uniform(-0.9, -0.6), rng.uniform(-0.1, 0.1)
    return [
        box(DARK, -0.7, -0.95, -0.58, 0.98),
        polygon(MAIN, (-0.58, -0.9), (0.8, top), (0.8, bottom), (-0.58, 0)),
    ]


def _mushroom(rng: Rng) -> list[Part]:
    return [
        box(SECOND, -0.22, -0.05, 0.22, 0.9),
        ellipse(MAIN, 0, 0, 0.85, rng.uniform(0.65, 0.85), 180, 360),
        ellipse(SECOND, -0.3, -0.3, 0.13, 0.12),
        ellipse(SECOND, 0.25, -0.4, 0.14, 0.12),
    ]


def _ladder(rng: Rng) -> list[Part]:
    half = rng.uniform(0.3, 0.45)
    return [
        box(MAIN, -half - 0.08, -0.98, -half + 0.08, 0.98),
        box(MAIN, half - 0.08, -0.98, half + 0.08, 0.98),
        *(box(SECOND, -half, y - 0.06, half, y + 0.06) for y in (-0.65, -0.25, 0.15, 0.55)),
    ]


def _sun(rng: Rng) -> list[Part]:
    rays = rng.integers(8, 12)
    angles = [6.283 * i / rays for i in range(rays)]
    return [
        *(stroke(SECOND, 0, 0, 0.95 * math.cos(a), 0.95 * math.sin(a), 0.13) for a in angles),
        ellipse(MAIN, 0, 0, 0.55, 0.55),
    ]


def _moon(rng: Rng) -> list[Part]:
    return [
        ellipse(MAIN, 0, 0, 0.85, 0.85),
        ellipse(HOLE, rng.uniform(0.3, 0.45), -0.1, 0.7, 0.7),
    ]


def _arrow(rng: Rng) -> list[Part]:
    return [
        box(MAIN, -0.95, -0.17, 0.35, 0.17),
        polygon(MAIN, (0.3, -0.5), (0.95, 0), (0.3, 0.5)),
    ]


def _envelope(rng: Rng) -> list[Part]:
    return [
        box(MAIN, -0.9, -0.55, 0.9, 0.6),
        polygon(SECOND, (-0.9, -0.55), (0.9, -0.55), (0, rng.uniform(0, 0.2))),
    ]


def _spoon(rng: Rng) -> list[Part]:
    return [
        box(SECOND, -0.08, -0.2, 0.08, 0.98),
        ellipse(MAIN, 0, -0.55, rng.uniform(0.25, 0.34), 0.4),
    ]


def _bed(rng: Rng) -> list[Part]:
    return [
        box(DARK, -0.95, -0.45, -0.82, 0.7),
        box(MAIN, -0.9, 0.05, 0.95, 0.45),
        box(DARK, 0.82, -0.1, 0.95, 0.7),
        box(SECOND, -0.82, -0.15, -0.35, 0.08),
    ]


def _glasses(rng: Rng) -> list[Part]:
    rim = rng.uniform(0.3, 0.4)
    return [
        ellipse(MAIN, -0.48, 0, rim, rim),
        ellipse(MAIN, 0.48, 0, rim, rim),
        ellipse(SECOND, -0.48, 0, rim * 0.7, rim * 0.7),
        ellipse(SECOND, 0.48, 0, rim * 0.7, rim * 0.7),
        box(MAIN, -0.15, -0.08, 0.15, 0.03),
    ]


def _ice_cream(rng: Rng) -> list[Part]:
    return [
        polygon(SECOND, (-0.42, 0), (0.42, 0), (0, 0.98)),
        ellipse(MAIN, 0, -0.25, rng.uniform(0.45, 0.55), 0.5),
    ]


EXTRA_OBJECTS: dict[str, Callable[[Rng], list[Part]]] = {
    "star": _star,
    "heart": _heart,
    "house": _house,
    "tree": _tree,
    "fish": _fish,
    "flower": _flower,
    "car": _car,
    "boat": _boat,
    "balloon": _balloon,
    "flag": _flag,
    "mushroom": _mushroom,
    "ladder": _ladder,
    "sun": _sun,
    "moon": _moon,
    "arrow": _arrow,
    "envelope": _envelope,
    "spoon": _spoon,
    "bed": _bed,
    "glasses": _glasses,
    "ice cream": _ice_cream,
}
"""Name to outline function."""
