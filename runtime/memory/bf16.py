"""Hold float32 values that bfloat16 has as well in two bytes: their upper halves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError


def narrowed(
    values: NDArray[np.float32], what: str, out: NDArray[np.uint16] | None = None
) -> NDArray[np.uint16]:
    """Return the bits of bfloat16 values, as an array of the same shape; nothing is rounded.

    Args:
        values: Contiguous array.
        what: What the values are, for the message.
        out: Array to write to and return; None for a fresh one.

    Raises:
        FormatError: A value is not a bfloat16 value.
    """
    bits = values.view(np.uint32)
    if np.bitwise_or.reduce(bits, axis=None) & 0xFFFF:
        wrong = values[(bits & 0xFFFF) != 0].flat[0]
        raise FormatError(
            f"{what} holds {wrong:.9g}, expected bfloat16 values as the bundle's precision says; "
            "copy the bundle again, or export it again"
        )
    out = np.empty(values.shape, np.uint16) if out is None else out
    return np.right_shift(bits, 16, out=out, casting="unsafe")


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Undo `narrowed`; the result is a fresh array."""
    wide = bits.astype(np.uint32)
    values: NDArray[np.float32] = np.left_shift(wide, 16, out=wide).view(np.float32)
    return values
