"""Draw labels and scores into frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from runtime.errors import ConfigError
from runtime.prediction import Prediction
from runtime.text import printable

_WIDTH = 320
"""Least width of what is drawn, in pixels: smaller frames are enlarged, so that text fits."""
_LARGEST = 1280
"""Longest side that a frame is enlarged to."""
_TEXT, _PER_LINE = 16, 30
"""Least size of text, in pixels, and how many times that fits into the width at least."""
_SHARE = 3
"""The text covers at most one in so many parts of the frame's height, or is put below it."""
_FONTS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "arial.ttf"),
    *("NotoSansCJK-Regular.ttc", "DroidSansFallback.ttf", "wqy-zenhei.ttc", "msyh.ttc"),
    "Arial Unicode.ttf",
)
"""Fonts of systems, for letters that Pillow's own lacks: those beyond ASCII."""
_DARK = 0.3
"""Brightness of the frame behind the text."""


def check_text() -> None:
    """Check that this Pillow can draw text.

    Raises:
        ConfigError: It was built without FreeType.
    """
    if not features.check("freetype2"):
        raise ConfigError(
            "drawing text needs FreeType, which this Pillow was built without; install a wheel of "
            "Pillow: pip install --force-reinstall pillow"
        )


def captions(prediction: Prediction, top: int) -> list[str]:
    """Return the lines to draw for a prediction: a class with its score each, best first.

    Args:
        prediction: Prediction of a session.
        top: Number of most likely classes.
    """
    lines = [f"{label} {score:.1%}" for label, score in prediction.top(top)]
    if prediction.known is False:
        lines[0] = f"unknown, {lines[0]}"  # in front, where a narrow frame does not cut it off
    return lines


def annotate(frame: NDArray[np.uint8], lines: Sequence[str]) -> Image.Image:
    """Return a frame with lines of text at its bottom edge, or below it where it is low.

    Frames of one size give images of one size for the same number of lines.

    Args:
        frame: (H, W, 3), RGB.
        lines: Text; what does not fit into the width is cut, and letters that no font has are
            escaped.
    """
    image = _enlarged(Image.fromarray(frame))
    size = max(_TEXT, image.width // _PER_LINE)
    step = math.ceil(1.35 * size)
    height = step * len(lines) + step // 4
    if _SHARE * height > image.height:
        below = Image.new("RGB", (image.width, image.height + height))
        below.paste(image)
        image = below
    top = image.height - height
    strip = image.crop((0, top, image.width, image.height))
    image.paste(strip.point(lambda value: value * _DARK), (0, top))
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        font, text = _lettering(line, size)
        text = _fitting(text, font, image.width - size)
        origin = (size // 2, top + step // 8 + number * step)
        draw.text(origin, text, fill=(255, 255, 255), font=font)
    return image


def _enlarged(image: Image.Image) -> Image.Image:
    """Return an image that is wide enough for text, a black margin to its right if need be."""
    if image.width >= _WIDTH:
        return image
    factor = max(1, min(math.ceil(_WIDTH / image.width), _LARGEST // max(image.size)))
    image = image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)
    if image.width >= _WIDTH:
        return image
    wide = Image.new("RGB", (_WIDTH, image.height))
    wide.paste(image)
    return wide


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return as much of a text as fits into a width, in pixels."""
    if font.getlength(text) <= width:
        return text
    text = text[: width // 2]  # no letter is narrower than two pixels
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _lettering(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """Return a font and a text that it can draw: escapes stand for what no font here has."""
    text = printable(text)
    for name in ("", *_FONTS):
        font = _font(name, size)
        if font is not None and all(_has(name, letter) for letter in text):
            return font, text
    font = _font("", size)
    assert font is not None
    return font, text.encode("ascii", "backslashreplace").decode()


@lru_cache(maxsize=32)
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return a font of this system by its file, or Pillow's own; None if there is none."""
    if name:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            return None
    font = ImageFont.load_default(size)
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


@lru_cache(maxsize=4096)
def _has(name: str, letter: str) -> bool:
    """Return whether a font has a character: it draws one box for all that it lacks."""
    font = _font(name, _TEXT)
    if font is None or letter.isspace():
        return font is not None
    return bytes(font.getmask(letter)) != bytes(font.getmask("\U0010fffd"))
