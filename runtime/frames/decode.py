"""Decode image files of any size and mode to RGB.

The range of grey values follows from the type of the mode if it can, else from the values
themselves; an image whose range stays unclear is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from runtime.errors import DataError
from runtime.models import Background
from runtime.storage.files import open_regular

MAX_PIXELS = 210_000_000
"""Most pixels of an image file: phone cameras have up to 200 million. More looks like a bomb."""
_WHOLE = 80_000_000
"""Pixels above which a JPEG file is decoded at 1/2, 1/4 or 1/8 of its size, which costs little."""
_LARGE = 32_000_000
"""Pixels above which images are decoded one at a time, so that threads do not fill the memory."""
_BYTES = 14
"""Bytes of memory per pixel while a file is decoded; 10 without transparency."""
COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
"""Colours behind transparent pixels; with `drop` these show the colour that they hide."""
_PREMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
_STEPS = {"L;2": 85, "L;4": 17}
"""Factors that scale PNG's grey values of 2 or 4 bits to 8 bits."""
_BITS_PER_SAMPLE = 258
"""TIFF's tag."""
_ADVICE = "convert it to 8 or 16 bits"
_OPENING, _ONE_LARGE = threading.Lock(), threading.Lock()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file of at most MAX_PIXELS; Pillow's own limit is lower.

    Args:
        path: Path of the file.

    Raises:
        DataError: The image has more pixels, or is PostScript.
        OSError: The path cannot be read, or is not a regular file.
    """
    # A stream instead of the path: Pillow maps some formats, and a mapped file that is truncated
    # kills the process.
    with open_regular(path) as stream:
        with _OPENING:  # a limit of the whole program: lifted while a header is read, not longer
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(stream)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        if image.format == "EPS":  # whatever it is called; Pillow would start Ghostscript
            raise DataError("it is PostScript, a program to run; convert it to PNG")
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"it has {image.width} x {image.height} pixels, too many: at most "
                f"{MAX_PIXELS / 1e6:.0f} million are read; shrink the picture, or remove it"
            )
        yield image


def rgb(image: Image.Image, background: Background) -> NDArray[np.uint8]:
    """Return the pixels of an opened picture, (H, W, 3), upright as its EXIF orientation says.

    Args:
        image: Image of any mode; it is changed in place.
        background: Colour behind transparent pixels.

    Raises:
        DataError: The range of its values is unclear, or it does not fit into the memory.
    """
    _reduce(image)
    pixels = image.width * image.height
    if pixels <= _LARGE:
        return _rgb(image, background)
    if pixels * _BYTES > _memory():
        raise DataError(
            f"it has {image.width} x {image.height} pixels, too many for the "
            f"{_memory() / 2**30:.1f} GiB of memory of this machine; shrink the picture"
        )
    with _ONE_LARGE:
        return _rgb(image, background)


def _reduce(image: Image.Image) -> None:
    """Let a large JPEG be decoded at the largest of 1/2, 1/4 and 1/8 that is not large."""
    width, height = image.size
    if width * height > _WHOLE:
        shrink = next((n for n in (2, 4) if width * height <= n * n * _WHOLE), 8)
        image.draft(None, (width // shrink, height // shrink))  # other formats ignore it


def _memory() -> float:
    """Return the bytes of this machine's memory."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # no POSIX
        return math.inf


def _rgb(image: Image.Image, background: Background) -> NDArray[np.uint8]:
    _scale_key(image)
    bits = _grey_bits(image)
    ImageOps.exif_transpose(image, in_place=True)
    if bits or image.mode in ("I", "F"):
        image = _eight_bits(image, bits)
    image = _without_alpha(image, background)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _without_alpha(image: Image.Image, background: Background) -> Image.Image:
    if not image.has_transparency_data:
        return image
    if image.mode in _PREMULTIPLIED:
        image = image.convert(_PREMULTIPLIED[image.mode])
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    if background == "drop":
        return image
    canvas = Image.new("RGB", image.size, COLOURS[background])
    canvas.paste(image, mask=image)  # rounded, never truncated
    return canvas


def _scale_key(image: Image.Image) -> None:
    """Bring the transparent colour of a PNG file to the 8 bits that its pixels are read with."""
    key, tiles = image.info.get("transparency"), getattr(image, "tile", None)
    raw = tiles[0][3] if image.format == "PNG" and tiles else None
    if isinstance(key, int) and raw in _STEPS:
        image.info["transparency"] = key * _STEPS[raw]
    elif isinstance(key, tuple) and raw == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _grey_bits(image: Image.Image) -> int:
    """Return the number of bits of a grey value by its type; 0 where the type does not say."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        return 12 if tags.get(_BITS_PER_SAMPLE) == (12,) else 16
    # Pillow stretches these to 16 bits.
    return 16 if image.mode == "I" and image.format in ("PNG", "PPM") else 0


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Return a grey picture of more than 8 bits as one of mode L, or LA if it has a key."""
    values = np.asarray(image)
    shift = bits - 8 if bits else _shift(values) if image.mode == "I" else 0
    grey = (values >> shift).astype(np.uint8) if image.mode != "F" else _from_floats(values)
    found, key = Image.fromarray(grey), image.info.get("transparency")
    if isinstance(key, int):
        found.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return found


def _shift(values: NDArray[np.int32]) -> int:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise DataError(
            f"its grey values of 32 bits go from {low} to {high}, expected 0 to 255 or 0 to 65535; "
            f"{_ADVICE}"
        )
    return 8 if high > 0xFF else 0


def _from_floats(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 255):  # NaN is neither
        raise DataError(
            f"its grey values are floats from {low:g} to {high:g}, expected 0 to 1 or 0 to 255; "
            f"{_ADVICE}"
        )
    return np.rint(values * 255 if high <= 1 else values).astype(np.uint8)
