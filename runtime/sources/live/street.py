"""Draw a street whose look changes between day, dusk, night and fog."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
WIDTH, HEIGHT = 640, 360
LOOKS = ("day", "dusk", "night", "fog")
SECONDS = 12.0
"""Time that a look lasts."""
_FADE = 1.5
"""Seconds of it in which the next one comes."""
_SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((88, 160, 224), (206, 232, 246)),
    "dusk": ((58, 44, 104), (250, 150, 92)),
    "night": ((8, 10, 28), (28, 34, 66)),
    "fog": ((186, 192, 198), (212, 216, 220)),
}


class Street:
    """One street, always the same for a number."""

    def __init__(self, number: int) -> None:
        """Choose its houses.

        Args:
            number: Which street.
        """
        chance = random.Random(number)
        self._shift = chance.uniform(0, 100) if number else 0.0
        self._houses = [
            (chance.randint(60, 110), chance.randint(90, 190), chance.randrange(3))
            for _ in range(12)
        ]

    def draw(self, seconds: float) -> NDArray[np.uint8]:
        """Return the frame (H, W, 3) of a time."""
        part, number = math.modf(seconds / SECONDS)
        look = LOOKS[int(number) % len(LOOKS)]
        image = Image.new("RGB", (WIDTH, HEIGHT), _SKIES[look][0])
        pen = ImageDraw.Draw(image)
        x = int(seconds * 60) % (WIDTH + 120) - 120
        pen.rectangle((0, 260, WIDTH, HEIGHT), (70, 70, 74))
        pen.rectangle((x, 270, x + 110, 310), (200, 60, 50))
        return np.array(image)
