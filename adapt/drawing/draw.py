"""Turn polygons into a styled picture: placement, tone maps, masks, colours and finishing.

A picture is drawn at 128 x 128, averaged down to 64 x 64, coloured there, and stored at 32 x 32.
Random numbers are taken in a fixed order, because the data sets are defined by their seeds.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from adapt.drawing.geometry import DARK, MAIN, SECOND, Part, Rng

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

SIZE = 64
"""Side in pixels of a picture while it is coloured."""
CANVAS = 128
"""Side in pixels of a tone map."""
STORED = 32
"""Side in pixels of a stored picture."""
TONE_STEP = 60
"""Grey value per tone in a tone map, so that tone t is the value 60 t."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (210, 40, 40),
    "green": (50, 160, 60),
    "blue": (50, 80, 200),
    "yellow": (235, 205, 50),
    "orange": (240, 140, 40),
    "purple": (140, 60, 170),
    "pink": (240, 140, 180),
    "brown": (130, 85, 50),
    "gray": (130, 130, 130),
    "black": (30, 30, 30),
    "white": (245, 245, 245),
}
"""Colour words and their RGB values, 0 to 255."""


@dataclass(frozen=True)
class Pose:
    """Ranges of a random affine placement; every value is drawn uniformly."""

    rotation: float
    """Largest rotation either way, radians."""
    scale: tuple[float, float]
    """Smallest and largest size; 1 fills the picture."""
    shift: float
    """Largest shift along x and along y; 1 is half a picture."""
    shear: float
    """Largest horizontal shear either way."""

    def draw(self, rng: Rng) -> tuple[Floats, Floats]:
        """Return one placement: a matrix (2, 2) and a shift (2,), in unit-box coordinates."""
        angle = rng.uniform(-self.rotation, self.rotation)
        cos, sin = math.cos(angle), math.sin(angle)
        size = rng.uniform(*self.scale)
        aspect = math.exp(rng.uniform(-0.12, 0.12))
        shear = rng.uniform(-self.shear, self.shear)
        matrix = (
            np.array([[cos, -sin], [sin, cos]])
            @ np.array([[1, shear], [0, 1]])
            @ np.diag([size * aspect, size / aspect])
        )
        shift = [rng.uniform(-self.shift, self.shift) for _ in range(2)]
        return matrix, np.array(shift)


@dataclass
class Scene:
    """Colours, shading and noise of a picture: everything but its shape."""

    ground: Floats
    """Background (64, 64, 3), 0 to 255."""
    fills: tuple[Floats | None, Floats | None, Floats | None]
    """Colour (3,) of the main, second and dark tone; None leaves the background."""
    outline: int = 0
    """Width of the outline in tone-map pixels, odd; 0 for none."""
    outline_color: tuple[float, float, float] = (0, 0, 0)
    """RGB, 0 to 255."""
    shading: Floats | float = 0
    """Added to every fill, broadcastable to (64, 64, 3)."""
    blur: float = 0
    """Radius of the final Gaussian blur, pixels."""
    noise: float = 0
    """Standard deviation of the final pixel noise, grey levels."""


def tone_map(parts: list[Part], rng: Rng, pose: Pose, wobble: float = 0) -> Image.Image:
    """Return the parts, placed and perhaps mirrored, as a (128, 128) image of tones.

    Args:
        parts: Polygons in painting order.
        rng: Source of the placement, the mirroring and the wobble.
        pose: Ranges of the placement.
        wobble: Standard deviation of a shift of every corner, unit-box coordinates.
    """
    matrix, shift = pose.draw(rng)
    mirrored = rng.random() < 0.5
    image = Image.new("L", (CANVAS, CANVAS), 0)
    canvas = ImageDraw.Draw(image)
    for points, tone in parts:
        corners = points * [-1, 1] if mirrored else points
        if wobble and len(corners) < 12:  # straight edges need a middle to bend at
            middles = (corners + np.roll(corners, -1, 0)) / 2
            corners = np.concatenate([corners, middles], 1).reshape(-1, 2)
        corners = corners @ matrix.T + shift
        if wobble:
            corners = corners + rng.normal(0, wobble, corners.shape)
        outline = [(x, y) for x, y in (corners + 1) * CANVAS / 2]
        canvas.polygon(outline, fill=tone * TONE_STEP)
    return image


def tone_masks(tones: Image.Image) -> list[Floats]:
    """Return how much of each pixel the main, second and dark tone cover: three (64, 64), 0..1."""
    values = np.asarray(tones)
    return [_average(values == tone * TONE_STEP) for tone in (MAIN, SECOND, DARK)]


def edge_mask(tones: Image.Image, width: int) -> Floats:
    """Return how much of each pixel lies on an edge between tones: (64, 64), 0..1."""
    high = np.asarray(tones.filter(ImageFilter.MaxFilter(width)))
    low = np.asarray(tones.filter(ImageFilter.MinFilter(width)))
    return _average(high != low)


def paint(scene: Scene, tones: Image.Image) -> Floats:
    """Return the coloured picture (64, 64, 3) float, before blur and noise."""
    image: Floats = scene.ground.astype(np.float32)
    for mask, color in zip(tone_masks(tones), scene.fills, strict=True):
        if color is not None:
            cover = mask[..., None]
            fill = np.asarray(color, np.float32) + scene.shading
            image = image * (1 - cover) + cover * fill
    if scene.outline:
        cover = edge_mask(tones, scene.outline)[..., None]
        image = image * (1 - cover) + cover * np.asarray(scene.outline_color, np.float32)
    return image


def finish(image: Floats, rng: Rng, blur: float = 0, noise: float = 0) -> Pixels:
    """Add noise, clip and blur: (64, 64, 3) uint8."""
    if noise:
        image = image + rng.normal(0, noise, image.shape)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if blur:
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur)))
    return pixels


def shrink(image: Pixels) -> Pixels:
    """Area-average (64, 64, 3) to the stored (32, 32, 3), rounding halves to even."""
    factor = SIZE // STORED
    blocks = image.reshape(STORED, factor, STORED, factor, 3)
    small: Pixels = blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)
    return small


def smooth_noise(rng: Rng, cells: int, amplitude: float, channels: int = 3) -> Floats:
    """Return a random field interpolated from cells x cells values, within about +-amplitude.

    The result is (64, 64, 3), or (64, 64) for one channel.
    """
    grid = rng.uniform(0, 255, (cells, cells, channels)).astype(np.uint8)
    image = Image.fromarray(grid if channels == 3 else grid[..., 0])
    field = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return (field - 127.5) / 127.5 * amplitude


def gradient(rng: Rng, amplitude: float) -> Floats:
    """Return a linear light fall-off in a random direction: (64, 64, 1)."""
    angle = rng.uniform(0, 6.28)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE - 0.5
    field = (x * math.cos(angle) + y * math.sin(angle)) * 2 * amplitude
    light: Floats = field[..., None].astype(np.float32)
    return light


def flat(color: Floats | tuple[float, float, float]) -> Floats:
    """Return a picture (64, 64, 3) of one colour."""
    return np.ones((SIZE, SIZE, 3), np.float32) * np.asarray(color, np.float32)


def random_color(rng: Rng, low: float = 20, high: float = 245) -> Floats:
    """Return a colour (3,) with every channel uniform between low and high."""
    return rng.uniform(low, high, 3)


def luminance(color: Floats) -> float:
    """Return the perceived brightness of a colour (3,), 0 to 255."""
    return float(np.dot(color, [0.3, 0.59, 0.11]))


def _average(mask: NDArray[np.bool_]) -> Floats:
    factor = CANVAS // SIZE
    cover: Floats = mask.reshape(SIZE, factor, SIZE, factor).mean((1, 3)).astype(np.float32)
    return cover
