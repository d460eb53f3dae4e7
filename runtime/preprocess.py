"""Frames and image files to the pixels a graph takes.

The only implementation: training evaluates with it and export verifies with it, so a device sees
exactly the pixels the reported accuracy was measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from runtime.errors import DataError
from runtime.spec import Preprocess

MAX_PIXELS = 80_000_000
"""Of an image file; more is taken for a bomb that would fill the memory."""
_MAX_RATIO = 100
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def check_frame(frame: object) -> NDArray[np.uint8]:
    """Return `frame` if it is an RGB image, else say what is wrong with it.

    Args:
        frame: Hopefully (H, W, 3) uint8.

    Raises:
        DataError: It is not.
    """
    if not isinstance(frame, np.ndarray):
        raise DataError(
            f"a frame must be a numpy array (H, W, 3) uint8, found {type(frame).__name__}"
        )
    if frame.dtype != np.uint8:
        raise DataError(
            f"a frame must be uint8 in 0..255, found {frame.dtype}; "
            "convert it, for example (frame * 255).astype('uint8') for floats in 0..1"
        )
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise DataError(f"a frame must be (H, W, 3) RGB, found shape {frame.shape}")
    if 0 in frame.shape:
        raise DataError(f"a frame must have pixels, found shape {frame.shape}")
    return frame


def preprocess(frame: NDArray[np.uint8], spec: Preprocess) -> NDArray[np.uint8]:
    """Resize a frame to the size a graph takes, antialiased as Pillow does it.

    Args:
        frame: (H, W, 3) uint8, RGB.
        spec: Size S, interpolation, and whether to squash or to crop the centre.

    Returns:
        (S, S, 3) uint8. The frame itself when it already has that size.

    Raises:
        DataError: The frame is no RGB image, or too narrow to crop.
    """
    height, width, _ = check_frame(frame).shape
    if height == width == spec.size:
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame))
    target = (spec.size, spec.size)
    if spec.resize == "crop":
        # The long side is cut to whole pixels before the crop, as CLIP's own pipeline does.
        short = min(width, height)
        if max(width, height) > _MAX_RATIO * short:
            raise DataError(
                f"a frame of {width} x {height} pixels is too narrow to crop; needed a ratio of at "
                f"most {_MAX_RATIO}; cut it first, or train with resize=squash"
            )
        target = (spec.size * width // short, spec.size * height // short)
    resized = image.resize(target, _FILTERS[spec.interpolation])
    left, top = (round((side - spec.size) / 2) for side in target)
    return np.asarray(resized)[top : top + spec.size, left : left + spec.size]


def preprocess_batch(frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> NDArray[np.uint8]:
    """Return at least one frame, each as `preprocess` makes it, as one batch (N, S, S, 3).

    Raises:
        DataError: A frame is no RGB image, or too narrow to crop.
    """
    pixels = [preprocess(frame, spec) for frame in frames]
    return np.ascontiguousarray(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode an image file to (H, W, 3) uint8 RGB, upright as its EXIF orientation says.

    Raises:
        DataError: The file is missing, no image, truncated or absurdly large.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"it has {image.width} x {image.height} pixels, too many")
            upright: Any = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA") and "transparency" in upright.info:
                upright = upright.convert("RGBA")
            if upright.mode.startswith("I;16"):  # Pillow would clip instead of scaling
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.asarray(upright.convert("RGB"))
    except Exception as error:  # decoders raise what they like on damaged files
        reason = str(error) or type(error).__name__
        remedy = "repair or remove the file" if path.is_file() else "check the path: it is no file"
        raise DataError(f"cannot read the image '{path}': {reason}; {remedy}") from error
