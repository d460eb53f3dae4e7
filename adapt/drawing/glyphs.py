"""Digits and letters as tone maps, set in the fonts that come with matplotlib."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adapt.drawing.draw import CANVAS, TONE_STEP, Floats, Pose
from adapt.drawing.geometry import MAIN, Rng
from runtime.errors import DataError

POINTS = 100
"""Type size that a glyph is set in before it is scaled to its pose."""
MESH = 4
"""Cells per side of the mesh that bends a glyph."""

SOURCE_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSerif-Italic",
    "DejaVuSansMono-Bold",
)
"""Fonts of the `font` domain."""

CORPUS_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "DejaVuSansMono-Oblique",
    "DejaVuSans-Bold",
    "STIXGeneral",
    "STIXGeneralItalic",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "cmr10",
    "cmss10",
    "cmtt10",
    "cmb10",
    "cmti10",
)
"""Fonts of the pre-training corpus."""


def glyph(text: str, rng: Rng, fonts: tuple[str, ...], pose: Pose, warp: float = 0) -> Image.Image:
    """Return one character in a random font, placed and perhaps bent, as a (128, 128) tone map.

    Args:
        text: Character to draw.
        rng: Source of the font, the placement and the bending.
        fonts: Names of matplotlib fonts to choose from.
        pose: Ranges of the placement.
        warp: Standard deviation of the shift of every mesh corner, unit-box coordinates.

    Raises:
        DataError: matplotlib, which brings the fonts, is missing or incomplete.
    """
    tile = _tile(text, fonts[rng.integers(len(fonts))])
    matrix, shift = pose.draw(rng)
    inverse = np.linalg.inv(matrix * (CANVAS / tile.height))  # canvas pixels to tile pixels
    center = np.array([CANVAS / 2, CANVAS / 2]) + shift * CANVAS / 2
    origin = np.array([tile.width / 2, tile.height / 2]) - inverse @ center
    size, nearest = (CANVAS, CANVAS), Image.Resampling.NEAREST
    if warp:
        mesh = _bent_mesh(inverse, origin, rng, warp)
        return tile.transform(size, Image.Transform.MESH, mesh, nearest)
    affine = np.column_stack([inverse, origin]).ravel().tolist()
    return tile.transform(size, Image.Transform.AFFINE, affine, nearest)


def _tile(text: str, font_name: str) -> Image.Image:
    """Return the character alone with a margin of two pixels."""
    font = _font(font_name)
    probe = ImageDraw.Draw(Image.new("L", (CANVAS, CANVAS)))
    left, top, right, bottom = (int(v) for v in probe.textbbox((0, 0), text, font=font))
    tile = Image.new("L", (right - left + 4, bottom - top + 4), 0)
    ImageDraw.Draw(tile).text((2 - left, 2 - top), text, font=font, fill=MAIN * TONE_STEP)
    return tile


def _bent_mesh(
    inverse: Floats, origin: Floats, rng: Rng, warp: float
) -> list[tuple[tuple[int, int, int, int], tuple[float, ...]]]:
    """Return Pillow's mesh: canvas boxes, each with the corners of the tile area it shows."""
    grid = np.linspace(0, CANVAS, MESH + 1).round().astype(int).tolist()
    offset = rng.normal(0, warp * CANVAS / 2, (MESH + 1, MESH + 1, 2))

    def source(i: int, j: int) -> tuple[float, float]:
        x, y = inverse @ (np.array([grid[i], grid[j]]) + offset[i, j]) + origin
        return float(x), float(y)

    return [
        (
            (grid[i], grid[j], grid[i + 1], grid[j + 1]),
            source(i, j) + source(i, j + 1) + source(i + 1, j + 1) + source(i + 1, j),
        )
        for i in range(MESH)
        for j in range(MESH)
    ]


@cache
def _font(name: str) -> ImageFont.FreeTypeFont:
    path = _font_folder() / f"{name}.ttf"
    try:
        return ImageFont.truetype(str(path), POINTS)
    except OSError as error:
        raise DataError(
            f"font {path.name!r} cannot be read from the installed matplotlib; "
            "the drawn digits need it: reinstall matplotlib"
        ) from error


@cache
def _font_folder() -> Path:
    spec = find_spec("matplotlib")  # finds the package without paying for its import
    if spec is None or spec.origin is None:
        raise DataError(
            "matplotlib is not installed; the drawn digits use the fonts that come with it: "
            "run `pip install matplotlib`"
        )
    return Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
