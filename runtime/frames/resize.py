"""Pillow's antialiased downscaling, bit for bit, as banded matrix products.

Pillow filters the rows, rounds to 8 bits, filters the columns and rounds again, with weights of 22
fractional bits. Here both passes are float32 products of the pixels with the same weights, computed
only for what is kept of the result. Float32 errs by a known bound; the few sums so near to a half
that the error could turn their rounding are made again in integers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.frames.filters import Axis, make_axis
from runtime.models import Interpolation

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_PRODUCT = 1 << 18
"""Multiplications in one product: OpenBLAS gives larger ones to threads of its own, which would
take the cores from the engine."""
_STRIP = 1 << 22
"""Bytes of pixels that are float32 at a time."""
_DOUBTFUL = 16
"""Where one sum in so many is doubtful, as in a picture of two colours, all are made again."""
_LONGEST = 8192
"""Pixels of a side. With it, the weights of a frame size take at most 3 MB; half of one at full HD.
"""


def by_pillow(
    frame: NDArray[np.uint8],
    target: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: Interpolation,
    reducing_gap: float | None = None,
) -> NDArray[np.uint8]:
    """Resize a frame with Pillow itself, exact unless there is a gap."""
    left, top, right, bottom = window
    image = Image.fromarray(np.ascontiguousarray(frame))
    resized = image.resize(target, _FILTERS[interpolation], reducing_gap=reducing_gap)
    return np.asarray(resized)[top:bottom, left:right]


class Resizer:
    """Makes frames of one size into a part of a resized image, as Pillow does it.

    The first frame goes through Pillow itself: the images of a data set may all have sizes of their
    own, and making the weights costs more than a frame.
    """

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        window: tuple[int, int, int, int],
        interpolation: Interpolation,
    ) -> None:
        """Choose the way.

        Args:
            source: Width and height of the frames.
            target: Width and height of the whole result.
            window: Left, top, right and bottom of the part of it that is wanted.
            interpolation: Bilinear or bicubic.
        """
        self._source, self._target, self._window = source, target, window
        self._interpolation: Interpolation = interpolation
        self._axes: tuple[Axis, Axis] | None = None
        self._pays = _pays(source, target, interpolation)
        self._seen = False

    def __call__(self, frame: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the part of the resized frame.

        Args:
            frame: (H, W, 3) uint8 of the source size and of any strides.

        Returns:
            (bottom - top, right - left, 3) whole numbers in 0..255, uint8 or float32, fresh.
        """
        left, top, right, bottom = self._window
        if not (self._pays and self._seen):
            self._seen = True
            return by_pillow(frame, self._target, self._window, self._interpolation)
        if self._axes is None:  # two threads may both make them: the same ones
            (width, height), (wide, high) = self._source, self._target
            self._axes = (
                make_axis(width, wide, slice(left, right), self._interpolation, channels=3),
                make_axis(height, high, slice(top, bottom), self._interpolation),
            )
        columns, rows = self._axes
        middle = _filter_rows(frame[rows.source, columns.source], columns)
        return _filter_columns(middle, rows).reshape(bottom - top, right - left, 3)


@lru_cache(maxsize=16)
def resizer(
    source: tuple[int, int],
    target: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: Interpolation,
) -> Resizer:
    """Return a `Resizer`; the 16 used last are kept, with their weights."""
    return Resizer(source, target, window, interpolation)


def _pays(source: tuple[int, int], target: tuple[int, int], interpolation: Interpolation) -> bool:
    """Say whether products make the same pixels as Pillow, and sooner.

    `python -m benchmarks.preprocess` found, on one core of an x86-64 server with AVX-512 and to
    224 x 224, products 1.4 (bilinear) and 1.8 times (bicubic) as fast as Pillow for squashed frames
    of 1920 x 1080, 2.2 and 2.9 times for cropped ones, 1.6 and 1.9 times for bicubic ones of
    640 x 480. Nearer to the size of the result Pillow is level or ahead, as it is where a filter is
    much longer than the products are wide. ARM is not measured; products may gain less there.
    """
    (width, height), (wide, high) = source, target
    if not (wide <= width <= _LONGEST and high <= height <= _LONGEST):
        return False
    if height - high >= 2 * (width - wide):
        return False  # Pillow 13 filters the columns of tall frames first, older ones do not
    least = 8 if interpolation == "bilinear" else 3
    return width * height >= least * wide * high and width <= 64 * wide and height <= 64 * high


def _filter_rows(source: NDArray[np.uint8], axis: Axis) -> NDArray[np.float32]:
    """Return (H, 3 N) for (H, W, 3)."""
    height, width, _ = source.shape
    out = np.empty((height, 3 * len(axis.first)), np.float32)
    widest = max(block.matrix.size for block in axis.blocks)
    strip = max(1, min(_PRODUCT // widest, _STRIP // (12 * width)))
    limits = np.repeat(axis.limits, 3)
    all_pixels = np.empty((min(strip, height), width, 3), np.float32)
    all_sums = np.empty((len(all_pixels), out.shape[1]), np.float32)
    for begin in range(0, height, strip):
        part = source[begin : begin + strip]
        np.copyto(all_pixels[: len(part)], part)
        pixels, sums = all_pixels[: len(part)].reshape(len(part), -1), all_sums[: len(part)]
        for block in axis.blocks:
            np.matmul(pixels[:, block.source], block.matrix, out=sums[:, block.out])
        result = out[begin : begin + strip]
        hits = _round(sums, result, limits)
        if hits.size > result.size // _DOUBTFUL:
            exact = pixels.astype(np.float64)
            for block in axis.blocks:
                result[:, block.out] = np.floor(exact[:, block.source] @ block.matrix + 0.5)
        elif hits.size:
            line, element = np.divmod(hits, out.shape[1])
            output, channel = np.divmod(element, 3)
            values = part[line[:, None], axis.inputs(output), channel[:, None]]
            result[line, element] = axis.sums(values, output)
    return np.clip(out, 0, 255, out=out)


def _filter_columns(source: NDArray[np.float32], axis: Axis) -> NDArray[np.float32]:
    """Return (N, C) for (H, C)."""
    width = source.shape[1]
    out = np.empty((len(axis.first), width), np.float32)
    sums = np.empty_like(out)
    widest = max(block.matrix.size for block in axis.blocks)
    strip = max(1, _PRODUCT // widest)
    for begin in range(0, width, strip):
        part = slice(begin, begin + strip)
        for block in axis.blocks:
            np.matmul(block.matrix, source[block.source, part], out=sums[block.out, part])
    hits = _round(sums, out, axis.limits[:, None])
    if hits.size > out.size // _DOUBTFUL:
        exact = source.astype(np.float64)
        for block in axis.blocks:
            out[block.out] = np.floor(block.matrix @ exact[block.source] + 0.5)
    elif hits.size:
        output, column = np.divmod(hits, width)
        values = source[axis.inputs(output), column[:, None]]
        out[output, column] = axis.sums(values, output)
    return np.clip(out, 0, 255, out=out)


def _round(
    sums: NDArray[np.float32], out: NDArray[np.float32], limits: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Round `sums` into `out` and return the flat indices of doubtful values; changes `sums`."""
    np.floor(np.add(sums, np.float32(0.5), out=out), out=out)
    np.abs(np.subtract(sums, out, out=sums), out=sums)
    return np.flatnonzero(sums > limits)
