"""The looks of the drawn street, and what stands still in it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
WIDTH, HEIGHT = 640, 360
FINE = 2
"""Everything is drawn at so many times its size, and made smaller: smooth edges."""
_HORIZON, _KERB, _ROAD = 214, 222, 246
_WALLS: tuple[Colour, ...] = (
    *((196, 112, 88), (222, 190, 140), (150, 166, 178)),
    *((206, 154, 120), (170, 132, 150), (232, 220, 200)),
)
_LAMP: Colour = (255, 214, 130)


@dataclass(frozen=True)
class Look:
    """How the street looks for a while."""

    name: str
    sky: tuple[Colour, Colour]
    """At the top, and at the horizon."""
    tint: Colour
    """What the colours of day are multiplied by, 255 being one."""
    lamps: bool = False
    haze: float = 0.0
    """Share of the horizon's colour in what is far away."""
    flakes: bool = False
    white: bool = False
    """Whether snow lies."""
    sketch: bool = False
    noise: int = 3


_DAY_SKY: tuple[Colour, Colour] = ((84, 158, 226), (204, 230, 246))
LOOKS = (
    Look("day", _DAY_SKY, (255, 255, 255)),
    Look("dusk", ((70, 58, 122), (252, 158, 98)), (236, 176, 158), lamps=True, noise=5),
    Look("night", ((6, 9, 26), (26, 34, 70)), (72, 80, 122), lamps=True, noise=9),
    Look("fog", ((188, 194, 200), (214, 218, 221)), (224, 226, 228), haze=0.62),
    Look(
        "snow",
        ((168, 184, 204), (222, 230, 238)),
        (232, 238, 248),
        haze=0.18,
        flakes=True,
        white=True,
    ),
    Look("sketch", _DAY_SKY, (255, 255, 255), sketch=True),
)


def tinted(image: Image.Image, tint: Colour) -> Image.Image:
    """Return a picture in the light of a look; transparency stays."""
    light = ImageChops.multiply(image.convert("RGB"), Image.new("RGB", image.size, tint))
    if image.mode == "RGBA":
        light.putalpha(image.getchannel("A"))
    return light


def sky_and_houses(seed: int, look: Look) -> Image.Image:
    """Return the picture above the street."""
    rows = np.linspace(0, 1, FINE * HEIGHT)[:, None, None] * HEIGHT / _HORIZON
    top, low = (np.array(colour, np.float32) for colour in look.sky)
    shades = (top + (low - top) * rows.clip(0, 1)).astype(np.uint8)
    image = Image.fromarray(np.repeat(shades, FINE * WIDTH, 1))
    chance = random.Random(seed)
    pen = ImageDraw.Draw(image)
    _above(pen, look)
    _towers(image, look, chance)
    x = -20
    while x < WIDTH:
        width, height = chance.randint(70, 120), chance.randint(80, 150)
        wall, windows = chance.choice(_WALLS), random.Random(chance.random())
        _house(pen, look, windows, (x, _HORIZON - height, x + width, _HORIZON), wall)
        x += width + chance.choice((0, 0, 0, 14))
    return image.reduce(FINE)


def ground(image: Image.Image, seed: int, look: Look) -> None:
    """Draw the pavement, the road, trees and lamps into a picture."""
    chance = random.Random(seed + 1)
    layer = Image.new("RGBA", (FINE * WIDTH, FINE * HEIGHT))
    pen = ImageDraw.Draw(layer)
    snow = look.white
    _box(pen, (0, _HORIZON, WIDTH, _ROAD), (226, 230, 236) if snow else (176, 172, 166))
    _box(pen, (0, _ROAD - 4, WIDTH, _ROAD), (206, 208, 212) if snow else (132, 130, 128))
    _box(pen, (0, _ROAD, WIDTH, HEIGHT), (126, 130, 138) if snow else (74, 76, 82))
    for x in range(-20, WIDTH, 64):
        _box(pen, (x, 300, x + 34, 303), (230, 226, 206))
    for x in range(30 + chance.randint(0, 40), WIDTH, 150):
        leaf = (232, 238, 244) if snow else (70, 128 + chance.randint(-20, 20), 62)
        _box(pen, (x - 3, 176, x + 3, _KERB), (96, 70, 50))
        for _ in range(7):
            dx, dy, r = chance.randint(-17, 17), chance.randint(-24, 8), chance.randint(11, 17)
            shade = chance.randint(-16, 16)
            _ball(pen, x + dx, 166 + dy, r, tuple(c + shade for c in leaf))
    poles = range(104, WIDTH, 190)
    for x in poles:
        _box(pen, (x - 1, 128, x + 2, _KERB), (64, 66, 72))
        _box(pen, (x, 128, x + 20, 130), (64, 66, 72))
    part = tinted(layer.reduce(FINE), look.tint)
    image.paste(part, (0, 0), part)
    if look.lamps:
        light = Image.new("RGBA", image.size, (*_LAMP, 0))
        mask = Image.new("L", image.size, 0)
        shine = ImageDraw.Draw(mask)
        for x in poles:
            shine.polygon([(x + 14, 132), (x + 24, 132), (x + 74, 256), (x - 36, 256)], fill=64)
        light.putalpha(mask.filter(ImageFilter.GaussianBlur(9)))
        image.paste(light, (0, 0), light)
        for x in poles:
            ImageDraw.Draw(image).ellipse((x + 14, 128, x + 24, 134), fill=(255, 240, 200))


def _above(pen: ImageDraw.ImageDraw, look: Look) -> None:
    if look.name == "night":
        chance = random.Random(0)
        for _ in range(110):
            x, y, light = chance.randrange(WIDTH), chance.randrange(140), chance.randint(90, 230)
            _box(pen, (x, y, x + 0.5, y + 0.5), (light, light, light))
        _ball(pen, 520, 52, 20, (238, 236, 220))
        _ball(pen, 529, 46, 18, (10, 14, 34))
    elif look.name == "dusk":
        _ball(pen, 150, 150, 34, (255, 206, 140))
    elif not look.haze:
        _ball(pen, 520, 56, 26, (255, 240, 170))
        for x, y in ((90, 50), (300, 34), (430, 84)):
            for dx, r in ((-26, 12), (-8, 18), (14, 15), (30, 10)):
                _ball(pen, x + dx, y - r // 3, r, (244, 248, 252))


def _towers(image: Image.Image, look: Look, chance: random.Random) -> None:
    """Draw a skyline far away."""
    far = _mixed(_lit((122, 140, 166), look), look.sky[1], max(0.45, look.haze))
    pen = ImageDraw.Draw(image)
    for x in range(0, WIDTH, 34):
        _box(pen, (x, chance.randint(46, 130), x + chance.randint(18, 34), _HORIZON), far)


def _house(
    pen: ImageDraw.ImageDraw,
    look: Look,
    chance: random.Random,
    box: tuple[int, int, int, int],
    wall: Colour,
) -> None:
    left, top, right, bottom = box
    shade = _mixed(_lit(wall, look), look.sky[1], look.haze)
    _box(pen, box, shade)
    roof = (236, 241, 247) if look.white else (104, 62, 54)
    _box(pen, (left - 2, top - 7, right + 2, top), _mixed(_lit(roof, look), look.sky[1], look.haze))
    for y in range(top + 12, bottom - 34, 28):
        for x in range(left + 10, right - 14, 22):
            glass = _mixed(_lit((96, 124, 150), look), look.sky[1], look.haze)
            bright = chance.random() < 0.55
            _box(pen, (x, y, x + 11, y + 16), _LAMP if look.lamps and bright else glass)
    door = (left + right) // 2
    _box(pen, (door - 8, bottom - 28, door + 8, bottom), _lit((92, 58, 44), look))


def _lit(colour: Colour, look: Look) -> Colour:
    red, green, blue = (a * b // 255 for a, b in zip(colour, look.tint, strict=True))
    return red, green, blue


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (int(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def _box(pen: ImageDraw.ImageDraw, box: tuple[float, ...], colour: tuple[int, ...]) -> None:
    left, top, right, bottom = (int(FINE * number) for number in box)
    pen.rectangle((left, top, right - 1, bottom - 1), colour)


def _ball(
    pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: tuple[int, ...]
) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse([FINE * number for number in box], colour)
