"""Draw contact sheets: some images of a class side by side in one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import DataError
from runtime.frames.preprocess import read_image

TILE, COLUMNS, ROWS = 72, 6, 2
"""Side of a tile in pixels, tiles in a row, and rows of a sheet."""
_GAP = 2
_QUALITY = 80


def spaced(paths: Sequence[Path]) -> list[Path]:
    """Return the images that go on a sheet: evenly spaced ones, the first and the last among them.

    Args:
        paths: All images of a class.
    """
    count = min(len(paths), COLUMNS * ROWS)
    return [paths[i] for i in np.linspace(0, len(paths) - 1, count).round().astype(int).tolist()]


def sheet(paths: Sequence[Path]) -> bytes:
    """Return some images as training sees them, with their aspect ratio, in one JPEG file.

    A crossed-out tile stands for one that cannot be read.

    Args:
        paths: Images to show, from one to `COLUMNS * ROWS`.
    """
    columns, step = min(len(paths), COLUMNS), TILE + _GAP
    rows = -(-len(paths) // COLUMNS)
    page = Image.new("RGB", (columns * step - _GAP, rows * step - _GAP), (228, 228, 231))
    for number, path in enumerate(paths):
        tile = _tile(path)
        left = number % COLUMNS * step + (TILE - tile.width) // 2
        page.paste(tile, (left, number // COLUMNS * step + (TILE - tile.height) // 2))
    stream = io.BytesIO()
    page.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _tile(path: Path) -> Image.Image:
    try:
        image = Image.fromarray(read_image(path, draft=TILE))
    except DataError:
        eye = np.eye(TILE, dtype=np.uint8)
        return Image.fromarray(255 - 160 * np.maximum(eye, eye[::-1])).convert("RGB")
    scale = TILE / max(image.size)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    filter_ = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize(size, filter_)
