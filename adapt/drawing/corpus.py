"""Draw the captioned pre-training corpus: objects, digits and letters in four styles.

None of the adaptation domains is drawn here; `clipart` and `product` are close to two of the
styles, `art`, `real` and handwriting are not.
"""

import numpy as np

from adapt.drawing.draw import (
    COLORS,
    Floats,
    Pixels,
    Pose,
    Scene,
    finish,
    flat,
    gradient,
    luminance,
    paint,
    random_color,
    shrink,
    smooth_noise,
    tone_map,
)
from adapt.drawing.geometry import Rng
from adapt.drawing.glyphs import CORPUS_FONTS, glyph
from adapt.drawing.shapes import OBJECTS

DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "abcefhkmst"
GLYPH_SHARE = 0.35
"""Fraction of the pictures that show a digit or a letter."""
STYLES = {"clip": 0.3, "sketch": 0.25, "photo": 0.25, "render": 0.2}
"""Style to its share of the pictures."""
PREFIXES = {
    "clip": ("clip art of", "an illustration of", "a graphic of"),
    "sketch": ("a sketch of", "a drawing of", "a line drawing of"),
    "photo": ("a photo of", "a picture of", "a photograph of"),
    "render": ("a product photo of", "a rendering of", "a catalog photo of"),
}
"""Caption openings that name the style."""
PLAIN_PREFIXES = ("an image of", "a photo of", "a picture of")
"""Caption openings of any style, so that the model cannot read the style off the words."""

OBJECT_POSE = Pose(rotation=0.25, scale=(0.55, 0.9), shift=0.15, shear=0.15)
GLYPH_POSE = Pose(rotation=0.15, scale=(0.55, 0.95), shift=0.15, shear=0.2)
GLYPH_WARP = 0.04


def captioned(seed: int, count: int) -> tuple[Pixels, list[str]]:
    """Return pictures (count, 32, 32, 3) and their captions.

    The grammar stays a plain "a {noun}" even for "a ice cream": the prompts of the tasks do too.
    """
    rng = np.random.default_rng(seed)
    pairs = [captioned_picture(rng) for _ in range(count)]
    return np.stack([shrink(image) for image, _ in pairs]), [caption for _, caption in pairs]


def captioned_picture(rng: Rng) -> tuple[Pixels, str]:
    """Return one picture (64, 64, 3) and its caption."""
    is_glyph = bool(rng.random() < GLYPH_SHARE)
    if is_glyph:
        text, noun = _character(rng)
        warp = GLYPH_WARP if rng.random() < 0.5 else 0
        tones = glyph(text, rng, CORPUS_FONTS, GLYPH_POSE, warp)
    else:
        noun = list(OBJECTS)[rng.integers(len(OBJECTS))]
        tones = tone_map(OBJECTS[noun](rng), rng, OBJECT_POSE)
    style = str(rng.choice(list(STYLES), p=list(STYLES.values())))
    color_name = list(COLORS)[rng.integers(len(COLORS))]
    color = np.array(COLORS[color_name], float) + rng.normal(0, 12, 3)
    if style == "clip":
        scene = _clip_art(rng, color)
    elif style == "sketch":
        scene = _sketch(rng, is_glyph)
    elif style == "photo":
        scene = _photo(rng, color)
    else:
        scene = _rendering(rng, color)
    image = finish(paint(scene, tones), rng, scene.blur, scene.noise)

    prefixes = PREFIXES[style] if rng.random() < 0.5 else PLAIN_PREFIXES
    prefix = prefixes[rng.integers(3)]
    if is_glyph:
        return image, f"{prefix} {noun}"
    if style != "sketch" and rng.random() < 0.5:
        return image, f"{prefix} a {color_name} {noun}"
    return image, f"{prefix} a {noun}"


def _character(rng: Rng) -> tuple[str, str]:
    """Return a digit or capital letter and its name in a caption."""
    index = int(rng.integers(len(DIGIT_NAMES) + len(LETTERS)))
    if index >= len(DIGIT_NAMES):
        letter = LETTERS[index - len(DIGIT_NAMES)]
        return letter.upper(), f"the letter {letter}"
    kind = "number" if rng.random() < 0.5 else "digit"
    return str(index), f"the {kind} {DIGIT_NAMES[index]}"


def _clip_art(rng: Rng, color: Floats) -> Scene:
    """Flat colour, often outlined, on a ground that differs in brightness."""
    white = np.array([255.0, 255.0, 255.0])
    ground = (white, white, random_color(rng, 120, 250))[rng.integers(3)]
    if rng.random() < 0.25:
        ground = random_color(rng, 0, 90)
    if abs(luminance(ground) - luminance(color)) < 40:
        ground = white if luminance(color) < 160 else random_color(rng, 0, 60)
    fills = (color, random_color(rng), random_color(rng, 0, 90))
    outline = 3 if rng.random() < 0.5 else 0
    return Scene(flat(ground), fills, outline, (20, 20, 20))


def _sketch(rng: Rng, is_glyph: bool) -> Scene:
    """Lines only, dark on light or the reverse; glyphs are more often filled than outlined."""
    inverted = rng.random() < 0.3
    paper = rng.uniform(0, 50) if inverted else rng.uniform(215, 255)
    ink = (rng.uniform(190, 255) if inverted else rng.uniform(0, 80),) * 3
    outline = 3 if rng.random() < 0.6 else 5
    noise = rng.uniform(0, 8)
    ground = flat((paper,) * 3)
    if is_glyph and rng.random() < 0.6:
        return Scene(ground, (np.array(ink),) * 3, noise=noise)
    return Scene(ground, (None, None, None), outline, ink, noise=noise)


def _photo(rng: Rng, color: Floats) -> Scene:
    """Cloudy ground, lit object, blur and noise."""
    ground = flat(random_color(rng, 30, 225))
    ground = ground + smooth_noise(rng, int(rng.integers(3, 7)), rng.uniform(10, 45))
    if abs(luminance(ground.mean((0, 1))) - luminance(color)) < 45:
        ground = ground + (90 if luminance(color) < 128 else -90)
    second = color * rng.uniform(0.5, 0.8) + rng.uniform(0, 60)
    fills = (color, second, random_color(rng, 0, 90))
    shading = gradient(rng, rng.uniform(0, 40))
    blur, noise = rng.uniform(0, 0.9), rng.uniform(0, 14)
    return Scene(ground, fills, shading=shading, blur=blur, noise=noise)


def _rendering(rng: Rng, color: Floats) -> Scene:
    """Near-white ground, shaded object."""
    ground = flat((rng.uniform(225, 255),) * 3) + gradient(rng, 8)
    if luminance(color) > 190:
        color = color * 0.75
    fills = (color, color * 0.7 + rng.uniform(0, 60), random_color(rng, 0, 90))
    return Scene(ground, fills, shading=gradient(rng, rng.uniform(20, 60)))
