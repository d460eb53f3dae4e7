"""Tell frames that show nothing: of one colour, like those of a covered lens, or broken off."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FEW, _GLANCE, _LOOK = 24, 64, 256
"""Pixels along each side that are looked at, evenly spread: at first, if these may be blank, and to
make sure."""
_CELLS = 16
"""Cells along each side."""
_FLAT = 2.0
"""Most that the mean colours of a flat frame's cells spread: a standard deviation, of 255."""
_NOISE = 12.0
"""Most that its pixels spread, as those of a sensor do in the dark."""
_FILLS = ((128, 128, 128), (0, 135, 0))
"""Colours that decoders of JPEG and of video fill the rest of a frame with."""
_NEAR = 3
_BROKEN = 0.25
"""Least share of the rows that is filled."""


def blank(frame: NDArray[np.uint8]) -> bool:
    """Return whether a frame (H, W, 3), RGB, shows nothing: flat, or broken off.

    A frame is flat if it has one colour apart from a little noise, and broken off if a decoder
    filled its lower part, a quarter or more.
    """
    rows, columns = (max(1, n // _FEW) for n in frame.shape[:2])
    varied = frame[::rows, ::columns, 1].std() > 2 * _NOISE  # green, most of the brightness
    if varied and not any(_is_filled(frame[-1, :1], np.array(fill, np.int16)) for fill in _FILLS):
        return False
    return _is_blank(_spread(frame, _GLANCE)) and _is_blank(_spread(frame, _LOOK))


def _spread(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    rows, columns = (np.linspace(0, n - 1, side).astype(np.intp) for n in frame.shape[:2])
    return frame[rows].take(columns, 1)


def _is_blank(some: NDArray[np.uint8]) -> bool:
    """Return whether pixels (n, n, 3) are those of a blank frame."""
    return _is_flat(some) or any(_is_broken(some, np.array(fill, np.int16)) for fill in _FILLS)


def _is_flat(some: NDArray[np.uint8]) -> bool:
    pixels = some.astype(np.float32)
    if pixels.std((0, 1)).max() > _NOISE:
        return False
    each = len(some) // _CELLS
    cells = pixels.reshape(_CELLS, each, _CELLS, each, 3).mean((1, 3))
    return bool(cells.std((0, 1)).max() <= _FLAT)


def _is_broken(some: NDArray[np.uint8], fill: NDArray[np.int16]) -> bool:
    below = some[-int(_BROKEN * len(some)) :]
    return _is_filled(below[-1], fill) and _is_filled(below, fill) and not _is_filled(some[0], fill)


def _is_filled(some: NDArray[np.uint8], fill: NDArray[np.int16]) -> bool:
    return bool((np.abs(some - fill) <= _NEAR).all())
