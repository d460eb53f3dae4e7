"""Draw pictures of the adaptation domains: four of objects, two of digits.

`clipart` and `product` resemble pre-training styles and are easy; `art`, `real` and `hand` do not
and need adaptation.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from adapt.drawing.draw import (
    COLORS,
    SIZE,
    Floats,
    Pixels,
    Pose,
    Scene,
    edge_mask,
    finish,
    flat,
    gradient,
    luminance,
    paint,
    random_color,
    smooth_noise,
    tone_map,
    tone_masks,
)
from adapt.drawing.geometry import Part, Rng
from adapt.drawing.glyphs import SOURCE_FONTS, glyph
from adapt.drawing.shapes import OBJECTS

CLIPART_POSE = Pose(rotation=0.15, scale=(0.65, 0.85), shift=0.08, shear=0.05)
PRODUCT_POSE = Pose(rotation=0.1, scale=(0.7, 0.9), shift=0.05, shear=0.05)
ART_POSE = Pose(rotation=0.3, scale=(0.6, 0.9), shift=0.12, shear=0.15)
REAL_POSE = Pose(rotation=0.4, scale=(0.5, 0.85), shift=0.2, shear=0.25)
FONT_POSE = Pose(rotation=0.12, scale=(0.6, 0.85), shift=0.1, shear=0.08)
ART_WOBBLE = 0.025
HAND_SIDE = 52
"""Side in pixels that an 8 x 8 handwritten digit is enlarged to."""


def draw_object(domain: str, name: str, rng: Rng) -> Pixels:
    """Return one picture (64, 64, 3) of an object in one of the domains of `OBJECT_DOMAINS`."""
    parts = OBJECTS[name](rng)
    hues = list(COLORS.values())[:-2]  # black and white would vanish on some grounds
    color = np.array(hues[rng.integers(len(hues))], float) + rng.normal(0, 15, 3)
    return OBJECT_DOMAINS[domain](parts, color, rng)


def draw_font_digit(digit: int, rng: Rng) -> Pixels:
    """Return a printed digit, dark on light, as (64, 64, 3)."""
    tones = glyph(str(digit), rng, SOURCE_FONTS, FONT_POSE)
    paper, ink = rng.uniform(200, 255), rng.uniform(0, 70)
    scene = Scene(flat((paper,) * 3), (np.full(3, ink),) * 3)
    return finish(paint(scene, tones), rng, noise=rng.uniform(0, 5))


def enlarge_hand_digit(strokes: Floats) -> Pixels:
    """Return a scanned 8 x 8 digit (values 0..16), light on dark, as (64, 64, 3)."""
    small = Image.fromarray((strokes / 16 * 255).astype(np.uint8))
    large = small.resize((HAND_SIDE, HAND_SIDE), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (SIZE, SIZE), 0)
    margin = (SIZE - HAND_SIDE) // 2
    canvas.paste(large, (margin, margin))
    return np.repeat(np.asarray(canvas)[..., None], 3, 2)


def _clipart(parts: list[Part], color: Floats, rng: Rng) -> Pixels:
    """Saturated flat fill with a thick dark outline on white."""
    tones = tone_map(parts, rng, CLIPART_POSE)
    fills = (color, random_color(rng, 80, 250), np.array([60, 60, 60]))
    return finish(paint(Scene(flat((255, 255, 255)), fills, 5, (15, 15, 15)), tones), rng)


def _product(parts: list[Part], color: Floats, rng: Rng) -> Pixels:
    """Greyish shaded object on near-white, with a soft shadow below."""
    tones = tone_map(parts, rng, PRODUCT_POSE)
    ground = flat((rng.uniform(240, 255),) * 3)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    shadow = np.exp(-(((x - 0.5) / 0.28) ** 2) - ((y - 0.92) / 0.06) ** 2)
    body = np.array([rng.uniform(70, 170)] * 3) * 0.6 + color * 0.4
    fills = (body, body * 0.7 + 40, body * 0.4)
    shading = gradient(rng, rng.uniform(30, 60))
    scene = Scene(ground - 60 * shadow[..., None], fills, shading=shading)
    return finish(paint(scene, tones), rng, blur=0.4, noise=2)


def _art(parts: list[Part], color: Floats, rng: Rng) -> Pixels:
    """Wobbly outline in uneven paint, low contrast, few colours, canvas grain."""
    tones = tone_map(parts, rng, ART_POSE, ART_WOBBLE)
    main, second, dark = (mask[..., None] for mask in tone_masks(tones))
    edge = edge_mask(tones, 3)[..., None] if rng.random() < 0.5 else None
    ground_color, ink_color = random_color(rng, 40, 220), random_color(rng, 20, 240)
    brightness = luminance(ground_color)
    if abs(brightness - luminance(ink_color)) < 70:
        ink_color = np.clip(ink_color * 0.4 + (110 if brightness < 128 else -30), 5, 250)
    ground = flat(ground_color) + smooth_noise(rng, 7, 25)
    ink = flat(ink_color) + smooth_noise(rng, 7, 28)
    image = ground * (1 - (main + second + dark))
    image = image + main * ink + second * (ink * 0.6 + color * 0.4) + dark * ink * 0.5
    if edge is not None:
        image = image * (1 - 0.7 * edge) + 0.7 * edge * random_color(rng, 0, 90)
    pixels = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    strokes = np.asarray(pixels.filter(ImageFilter.ModeFilter(3))).astype(np.float32)
    posterised = np.round(strokes / 40) * 40
    grain = smooth_noise(rng, 32, 18, channels=1)
    return finish(posterised + grain[..., None], rng, noise=4)


def _real(parts: list[Part], color: Floats, rng: Rng) -> Pixels:
    """Cluttered ground, wide poses, uneven light, sometimes a bar in front, blur and noise."""
    ground = flat(random_color(rng, 40, 210))
    ground = ground + smooth_noise(rng, int(rng.integers(4, 12)), rng.uniform(25, 60))
    ground = _cluttered(ground, rng)
    tones = tone_map(parts, rng, REAL_POSE)
    brightness = luminance(ground.mean((0, 1)))
    if abs(luminance(color) - brightness) < 40:
        color = np.clip(color + (80 if brightness < 128 else -80), 10, 245)
    fills = (color, color * 0.6 + rng.uniform(0, 60), color * 0.3)
    shading = gradient(rng, rng.uniform(20, 60)) + smooth_noise(rng, 5, 18)
    image = paint(Scene(ground, fills, shading=shading), tones)
    if rng.random() < 0.25:
        width = int(rng.integers(5, 10))
        begin = int(rng.integers(10, SIZE - 10 - width))
        bar = random_color(rng, 30, 220)
        if rng.random() < 0.5:
            image[begin : begin + width] = bar
        else:
            image[:, begin : begin + width] = bar
    exposed = image * rng.uniform(0.7, 1.1)
    return finish(exposed, rng, blur=rng.uniform(0.4, 1.1), noise=rng.uniform(6, 16))


def _cluttered(ground: Floats, rng: Rng) -> Floats:
    """Return the ground (64, 64, 3) with one to three blurred polygons and up to two lines."""
    image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 4)):
        cx, cy = rng.uniform(0, SIZE, 2)
        radius = rng.uniform(4, 18)
        angles = np.sort(rng.uniform(0, 6.28, rng.integers(3, 7)))
        corners = [(cx + radius * math.cos(a), cy + radius * math.sin(a)) for a in angles]
        canvas.polygon(corners, fill=_clutter_color(rng))
    for _ in range(rng.integers(0, 3)):
        begin, end = tuple(rng.uniform(0, SIZE, 2)), tuple(rng.uniform(0, SIZE, 2))
        fill = _clutter_color(rng)
        canvas.line([begin, end], fill=fill, width=int(rng.integers(1, 4)))
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2)))
    return np.asarray(blurred).astype(np.float32)


def _clutter_color(rng: Rng) -> tuple[int, int, int]:
    red, green, blue = random_color(rng, 30, 220).tolist()
    return int(red), int(green), int(blue)


OBJECT_DOMAINS: dict[str, Callable[[list[Part], Floats, Rng], Pixels]] = {
    "clipart": _clipart,
    "product": _product,
    "art": _art,
    "real": _real,
}
"""Domain to the function that paints it."""
