"""Read image files and describe them: size, kind, and whether they are blank."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import DataError, StorageError
from runtime.frames.decode import opened
from runtime.frames.preprocess import read_image
from runtime.storage import disk

_GREY = frozenset(("1", "L", "LA", "La", "I", "F"))
_BLANK = 2
"""Largest difference of two pixels of a blank image, in a channel of 0..255."""


@dataclass(frozen=True)
class Look:
    """One image file."""

    size: tuple[int, int] = (0, 0)
    """Width and height as stored, in pixels."""
    transparent: bool = False
    """Whether a pixel is not opaque."""
    deep: bool = False
    """Whether there are more than 8 bits per channel."""
    grey: bool = False
    """Whether it is stored without colours."""
    blank: bool = False
    """Whether all pixels have one colour, as training sees them."""
    problem: str | None = None
    """Reason why it cannot be read; the other fields are then unset."""


def look_at(paths: Sequence[Path]) -> list[Look]:
    """Read image files and return a description of each."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_look, paths))


def _look(path: Path) -> Look:
    try:
        pixels = read_image(path)
        with opened(path) as image:
            size, mode = image.size, image.mode
            deep = mode[0] in "IF" or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
            grey = mode in _GREY or mode.startswith("I;")
            return Look(size, _transparent(image), deep, grey, _blank(pixels))
    except DataError as error:
        return Look(problem=str(error))
    except StorageError:  # it says nothing of the file
        raise
    except Exception as error:  # decoders raise what they like; `read_image` allowed the file
        if disk.too_many_open(error):
            raise disk.refused(path, error) from error
        return Look(problem=f"cannot read the image '{path}': {error}")


def _transparent(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return False
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return bool(alpha.min() < 255)


def _blank(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all of (H, W, 3) is one colour; a few rows rule most images out."""
    few = pixels[:: max(len(pixels) // 8, 1)]
    return _one_colour(few) and _one_colour(pixels)


def _one_colour(pixels: NDArray[np.uint8]) -> bool:
    flat = pixels.reshape(-1, 3)
    return bool((flat.max(0).astype(int) - flat.min(0) <= _BLANK).all())
