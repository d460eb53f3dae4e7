"""A street that is drawn frame by frame, and looks different every twelve seconds."""

from __future__ import annotations

import math
import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from runtime.sources.live.scenery import HEIGHT, LOOKS, WIDTH, Look, ground, sky_and_houses
from runtime.sources.live.traffic import KINDS, glow, sprite

SECONDS = 12.0
"""Time that a look lasts."""
_FADE = 1.5
"""Seconds of it in which the next one comes."""
_LANES = ((298, -1, 84.0), (346, 1, 108.0))
"""Where the wheels of a lane are, the direction in which it drives, and pixels per second."""
_EACH = 3
"""Vehicles in a lane."""
_LAP = 900
"""Pixels that a vehicle drives until it comes again."""
_FLAKES = 90


class Street:
    """One street, always the same for a number."""

    def __init__(self, number: int) -> None:
        """Choose its houses and its traffic.

        Args:
            number: Which street.
        """
        self._seed = number
        chance = random.Random(number)
        self._start = chance.uniform(0, SECONDS * len(LOOKS)) if number else 0.0
        names = [*KINDS, *chance.choices(KINDS, k=_EACH * len(_LANES) - len(KINDS))]
        chance.shuffle(names)
        self._traffic = [
            (name, at // _EACH, _LAP / _EACH * (at % _EACH) + chance.uniform(0, 110))
            for at, name in enumerate(names)
        ]
        self._walkers = [(chance.uniform(16, 30), chance.uniform(0, _LAP)) for _ in range(3)]

    def draw(self, seconds: float) -> NDArray[np.uint8]:
        """Return the frame (360, 640, 3), RGB, of a time since the start."""
        seconds += self._start
        part, number = divmod(seconds, SECONDS)[::-1]
        look = LOOKS[int(number) % len(LOOKS)]
        image = self._scene(look, seconds)
        if part > SECONDS - _FADE:
            after = LOOKS[(int(number) + 1) % len(LOOKS)]
            share = (part - SECONDS + _FADE) / _FADE
            image = Image.blend(image, self._scene(after, seconds), share)
        return np.array(image)

    def look(self, seconds: float) -> str:
        """Return the name of the look of a time, before it fades."""
        return LOOKS[int((seconds + self._start) / SECONDS) % len(LOOKS)].name

    def _scene(self, look: Look, seconds: float) -> Image.Image:
        image = _background(self._seed, look.name).copy()
        for at, (speed, start) in enumerate(self._walkers):
            x = int((start + speed * seconds) % _LAP) - 60
            step = int(4 * seconds + at) % 4
            _put(image, sprite("walker", at, look.name, step), x if at % 2 else WIDTH - x, 186)
        for at, (name, lane, start) in enumerate(self._traffic):
            bottom, direction, speed = _LANES[lane]
            x = int((start + speed * seconds) % _LAP) - 180
            part = sprite(name, at, look.name, int(8 * seconds) % 4)
            if direction < 0:
                part, x = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT), WIDTH - x - part.width
            _put(image, part, x, bottom - part.height)
            if look.lamps and name != "bicycle":
                light = glow(direction)
                ahead = x + part.width - 10 if direction > 0 else x - light.width + 10
                _put(image, light, ahead, bottom - 42)
        if look.flakes:
            self._snow(image, seconds)
        if look.sketch:
            return _sketched(image)
        return ImageChops.add(image, _grain(int(seconds * 25) % 4, look.noise), 1, -look.noise)

    def _snow(self, image: Image.Image, seconds: float) -> None:
        places = np.random.default_rng(self._seed).uniform(0, 1, (_FLAKES, 3))
        depth = 0.5 + places[:, 2]
        x = (places[:, 0] * WIDTH + 18 * np.sin(seconds + 9 * places[:, 2])) % WIDTH
        y = (places[:, 1] * HEIGHT + 70 * depth * seconds) % HEIGHT
        for left, top, size in zip(x, y, 1 + 2 * depth, strict=True):
            box = (int(left), int(top), math.ceil(left + size), math.ceil(top + size))
            image.paste((244, 247, 252), box)


def _put(image: Image.Image, part: Image.Image, x: int, y: int) -> None:
    """Lay a part over a picture; what is outside is cut off."""
    image.paste(part, (x, y), part)


@lru_cache(maxsize=16)
def _background(seed: int, name: str) -> Image.Image:
    look = next(look for look in LOOKS if look.name == name)
    image = sky_and_houses(seed, look)
    ground(image, seed, look)
    return image


@lru_cache(maxsize=16)
def _grain(number: int, strength: int) -> Image.Image:
    """Return the noise of a sensor, around its strength."""
    noise = np.random.default_rng(number).integers(0, 2 * strength + 1, (HEIGHT, WIDTH, 3))
    return Image.fromarray(noise.astype(np.uint8))


def _sketched(image: Image.Image) -> Image.Image:
    """Return a picture as a pencil would draw it."""
    grey = np.asarray(image.convert("L"), np.int16)
    edge = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(
        np.diff(grey, axis=1, append=grey[:, -1:])
    )
    paper = 250 - np.minimum(3 * edge, 210) - (255 - grey) // 10
    tone = np.clip(paper, 20, 255).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(tone)] * 3)
