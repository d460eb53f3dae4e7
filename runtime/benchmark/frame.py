"""The frame to measure with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.frames.preprocess import read_image


def frame_of(image: Path | None) -> NDArray[np.uint8]:
    """Return the frame (H, W, 3) of an image file; without one, noise of 640 x 480 pixels.

    Raises:
        DataError: The file cannot be read.
        StorageError: Too many files are open.
    """
    if image is None:
        return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return read_image(image)
