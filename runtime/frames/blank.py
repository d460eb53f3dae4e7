"""Recognise frames that show nothing: of one colour, as with a covered lens, or cut off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEW, _SOME, _MANY = 24, 64, 256
"""Evenly spread pixels along each side in the three passes. Most frames need the first one alone,
only blank ones need all three."""
_CELLS = 16
"""Cells along each side, whose mean colours are compared."""
_FLAT = 2.0
"""Largest standard deviation of a flat frame's mean colours, in [0, 255]."""
_NOISE = 12.0
"""Largest standard deviation of a flat frame's pixels: a sensor is noisy in the dark."""
_FILLS = ((128, 128, 128), (0, 135, 0))
"""Colours with which decoders of JPEG and of video fill the missing part of a frame."""
_NEAR = 3
"""Largest difference from a fill in each colour: decoders round."""
_FILLED = 0.25
"""Least share of rows that is filled in a frame that was cut off."""


def blank(frame: NDArray[np.uint8]) -> bool:
    """Return whether a frame (H, W, 3), RGB, shows nothing: it is flat, or cut off.

    A frame is flat if it has one colour apart from a little noise, and cut off if a decoder filled
    its lower part, a quarter or more.
    """
    rows, columns = (max(1, n // _FEW) for n in frame.shape[:2])
    varied = frame[::rows, ::columns, 1].std() > 2 * _NOISE  # green, most of the brightness
    if varied and not any(_is_filled(frame[-1, :1], np.array(fill, np.int16)) for fill in _FILLS):
        return False
    return _is_blank(_sampled(frame, _SOME)) and _is_blank(_sampled(frame, _MANY))


def _sampled(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    rows, columns = (np.linspace(0, n - 1, side).astype(np.intp) for n in frame.shape[:2])
    return frame[rows].take(columns, 1)


def _is_blank(some: NDArray[np.uint8]) -> bool:
    """Return whether pixels (n, n, 3) are those of a blank frame."""
    return _is_flat(some) or any(_is_cut_off(some, np.array(fill, np.int16)) for fill in _FILLS)


def _is_flat(some: NDArray[np.uint8]) -> bool:
    pixels = some.astype(np.float32)
    if pixels.std((0, 1)).max() > _NOISE:
        return False
    each = len(some) // _CELLS
    cells = pixels.reshape(_CELLS, each, _CELLS, each, 3).mean((1, 3))
    return bool(cells.std((0, 1)).max() <= _FLAT)


def _is_cut_off(some: NDArray[np.uint8], fill: NDArray[np.int16]) -> bool:
    below = some[-int(_FILLED * len(some)) :]
    return _is_filled(below[-1], fill) and _is_filled(below, fill) and not _is_filled(some[0], fill)


def _is_filled(some: NDArray[np.uint8], fill: NDArray[np.int16]) -> bool:
    return bool((np.abs(some - fill) <= _NEAR).all())
