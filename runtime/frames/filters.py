"""Pillow's resampling filters as banded matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.models import Interpolation

BITS = 22
"""Fractional bits of Pillow's weights."""
_REACH: dict[Interpolation, int] = {"bilinear": 1, "bicubic": 2}
"""Input pixels to each side of an output, at scale 1."""
_COLUMNS, _ROWS = 4, 8
"""Outputs per product: fewer are more calls, more multiply by more zeros. Of 1 to 28 the best for
frames of 320 x 240 to 1920 x 1080."""


@dataclass(frozen=True, eq=False)
class Block:
    """Neighbouring outputs, made by one product."""

    out: slice
    """Which elements of the output."""
    source: slice
    """The elements of the input they are made of."""
    matrix: NDArray[np.float32]
    """Their weights, to multiply columns from the left or interleaved rows from the right."""


@dataclass(frozen=True, eq=False)
class Axis:
    """How one side of a frame becomes one side of the result: N outputs of at most T inputs."""

    source: slice
    """Needed input pixels; the positions below count from its start."""
    first: NDArray[np.int64]
    """(N,) first input pixel of each output."""
    weights: NDArray[np.int64]
    """(N, T) in units of 2**-22, 0 beyond an output's own inputs."""
    limits: NDArray[np.float32]
    """(N,) distance from a whole number above which a float32 sum may round wrongly."""
    blocks: tuple[Block, ...]

    def sums(self, values: NDArray[Any], outputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the exact rounded sums (M,) for the inputs (M, T) of some outputs (M,)."""
        products: NDArray[np.int64] = values.astype(np.int64) * self.weights[outputs]
        total: NDArray[np.int64] = products.sum(1)
        total += 1 << (BITS - 1)
        total >>= BITS
        return total

    def inputs(self, outputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the input pixels (M, T) of some outputs (M,), clipped to those there are."""
        last = self.source.stop - self.source.start - 1
        indices: NDArray[np.int64] = self.first[outputs, None] + np.arange(self.weights.shape[1])
        np.minimum(indices, last, out=indices)
        return indices


def filter_weights(
    length: int, out: int, interpolation: Interpolation
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the filter with which Pillow takes `length` pixels to `out`.

    Returns:
        (out,) the first input of each output, and (out, T) its weights in units of 2**-22.
    """
    scale = length / out
    width = max(scale, 1.0)
    support = _REACH[interpolation] * width
    centre = (np.arange(out) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), length)
    position = first[:, None] + np.arange((stop - first).max())
    x = np.abs((position - centre[:, None] + 0.5) * (1.0 / width))
    if interpolation == "bilinear":
        values = np.where(x < 1, 1 - x, 0.0)
    else:
        near = (1.5 * x - 2.5) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * -0.5
        values = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    values[position >= stop[:, None]] = 0
    total = np.zeros(out)
    for column in values.T:  # not `sum`, which adds in another order and so rounds differently
        total += column
    values /= total[:, None]
    return first, np.trunc(values * 2**BITS + np.copysign(0.5, values)).astype(np.int64)


def kept_weights(
    length: int, out: int, kept: slice, interpolation: Interpolation
) -> tuple[slice, NDArray[np.int64], NDArray[np.int64]]:
    """Return the filter for some of the outputs, as `filter_weights` does for all.

    Returns:
        The inputs that are needed; (N,) the first input of each kept output, counted from their
        start; and (N, T) its weights, in units of 2**-22.
    """
    first, weights = (part[kept] for part in filter_weights(length, out, interpolation))
    start, stop = int(first[0]), min(int(first[-1]) + weights.shape[1], length)
    return slice(start, stop), first - start, weights


def make_axis(
    length: int, out: int, kept: slice, interpolation: Interpolation, *, channels: int | None = None
) -> Axis:
    """Return the filter that resizes `length` pixels to the `kept` ones of `out`.

    Args:
        length: Pixels of the input.
        out: Pixels of the whole output.
        kept: Slice of the outputs to compute.
        interpolation: Bilinear or bicubic.
        channels: Interleaved values per pixel of a row; None for columns.
    """
    source, first, weights = kept_weights(length, out, kept, interpolation)
    (count, taps), inputs = weights.shape, source.stop - source.start
    # A sum of n products, in any order, errs by less than n + 2 units in the last place (2**-24)
    # of the sum of the magnitudes; 2**-14 covers the rounding of the result. Weights that are
    # multiples of 2**-15, as at half the size, need no more than the 24 bits there are: no error.
    error = (taps + 2) * 2.0**-24 * 255 * np.abs(weights).sum(1) / 2**BITS + 2.0**-14
    limits = np.where((weights % 128 == 0).all(1), 1.0, 0.5 - error).astype(np.float32)
    step, c = (_COLUMNS, channels) if channels else (_ROWS, 1)
    blocks = []
    for low in range(0, count, step):
        high = min(low + step, count)
        begin, end = int(first[low]), min(int(first[high - 1]) + taps, inputs)
        matrix = np.zeros((c * (end - begin), c * (high - low)), np.float32)
        for output in range(low, high):
            at = int(first[output]) - begin
            values = weights[output, : end - begin - at] / 2.0**BITS
            for channel in range(c):
                row, column = c * at + channel, c * (output - low) + channel
                matrix[row : row + c * len(values) : c, column] = values
        if not channels:
            matrix = np.ascontiguousarray(matrix.T)
        blocks.append(Block(slice(c * low, c * high), slice(c * begin, c * end), matrix))
    return Axis(source, first, weights, limits, tuple(blocks))
