"""Convert filters to the blocked layout of ONNX Runtime's CPU convolutions.

ONNX Runtime lays constant filters out like this when it opens a graph. It leaves filters that are
inputs alone, and convolves 20 to 35 % slower with them. So a bundle may hold a second encoder graph
that asks for blocked filters, whose layout is a permutation within each tensor. The weights are
permuted once when a bundle is opened, a patch's positions once when its task is loaded, and a
switch is the same scatter either way.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import raised_by

# One node, `ReorderInput` of `com.microsoft.nchwc`: (1, 64, 1, 2) float32 x -> y. How it orders
# 0, 1, 2, ... tells the block size, which ONNX Runtime chooses by the processor and does not say.
_PROBE = base64.b64decode(
    "CAg6aAopCgF4EgF5IgxSZW9yZGVySW5wdXQ6E2NvbS5taWNyb3NvZnQubmNod2MSAXBaGwoBeBIWChQIARIQCgIIAQoC"
    "CEAKAggBCgIIAmIbCgF5EhYKFAgBEhAKAggBCgIIQAoCCAEKAggCQgQKABASQhcKE2NvbS5taWNyb3NvZnQubmNod2MQ"
    "AQ=="
)


def block_size(library: Any) -> int:
    """Return the number of channels in a block on this processor; 1 where nothing is blocked.

    Args:
        library: Module `onnxruntime`.
    """
    options = library.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = library.InferenceSession(_PROBE, options, providers=["CPUExecutionProvider"])
        x = np.arange(128, dtype=np.float32).reshape(1, 64, 1, 2)
        order = session.run(None, {"x": x})[0].reshape(-1)
    except Exception as error:  # this build or this processor has no blocked operators
        if not raised_by(error, "onnxruntime"):
            raise
        return 1
    # Pixel 0 of every channel of the first block comes first; these are even.
    block = int(np.argmax(order % 2 != 0))
    # Bundles promise channels in multiples of 16.
    return block if block in (2, 4, 8, 16) else 1


def fits(shape: tuple[int, ...], block: int) -> bool:
    """Return whether filters (O, I, H, W) can be laid out in blocks."""
    o, i, _, _ = shape
    return o % block == 0 and (i < block or i % block == 0)


def to_blocks(filters: NDArray[Any], block: int) -> NDArray[Any]:
    """Return filters (O, I, H, W) in the blocked order, as a fresh array of the same shape.

    The order is `(O/B, I/B, H, W, B of I, B of O)`, or `(O/B, I, H, W, B of O)` if I < B.
    """
    o, i, h, w = filters.shape
    if i < block:
        split = filters.reshape(o // block, block, i, h, w).transpose(0, 2, 3, 4, 1)
    else:
        split = filters.reshape(o // block, block, i // block, block, h, w)
        split = split.transpose(0, 2, 4, 5, 3, 1)
    return np.ascontiguousarray(split).reshape(filters.shape)


def from_blocks(filters: NDArray[Any], block: int) -> NDArray[Any]:
    """Undo `to_blocks`; the result is a fresh array."""
    o, i, h, w = filters.shape
    if i < block:
        split = filters.reshape(o // block, i, h, w, block).transpose(0, 4, 1, 2, 3)
    else:
        split = filters.reshape(o // block, i // block, h, w, block, block)
        split = split.transpose(0, 5, 1, 4, 2, 3)
    return np.ascontiguousarray(split).reshape(filters.shape)


def positions(
    indices: NDArray[np.integer[Any]], shape: tuple[int, ...], block: int
) -> NDArray[np.int64]:
    """Return the flat positions after `to_blocks` of entries at flat `indices` before."""
    o, i, y, x = np.unravel_index(indices.astype(np.int64), shape)
    _, channels, height, width = shape
    inner = block if channels >= block else 1
    groups = (o // block) * (channels // inner) + i // inner
    return (((groups * height + y) * width + x) * inner + i % inner) * block + o % block
