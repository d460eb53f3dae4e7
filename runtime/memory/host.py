"""Host memory, for engines on the CPU that read NumPy arrays without a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.frames.preprocess import preprocess_batch
from runtime.memory.base import Arrays, Inputs
from runtime.memory.weights import Weights
from runtime.models import Preprocess


class HostTensors:
    """Small arrays in one piece, so that one copy replaces all of them."""

    def __init__(self, arrays: Arrays) -> None:
        """Copy arrays, all of one type."""
        self._flat: NDArray[Any] = np.concatenate(
            [array.reshape(-1) for array in arrays.values()] or [np.empty(0, np.float32)]
        )
        ends = np.cumsum([array.size for array in arrays.values()])
        parts = np.split(self._flat, ends)
        self.nbytes = self._flat.nbytes
        self.handles: Inputs = {
            name: part.reshape(array.shape)
            for (name, array), part in zip(arrays.items(), parts, strict=False)
        }

    def copy_from(self, other: HostTensors) -> None:
        """Copy the values of tensors of the same names, types and shapes."""
        np.copyto(self._flat, other._flat)

    def close(self) -> None:
        """Do nothing: the memory is freed with the last reference."""


class HostMemory:
    """NumPy's arrays; see `runtime.memory.base.Memory`."""

    def weights(self, base: Weights, again: Callable[[], Weights]) -> Weights:
        """Return the base itself: its undo never leaves memory, so it is not read `again`."""
        return base

    def tensors(self, arrays: Arrays) -> HostTensors:
        """Return a copy of arrays, all of one type, in one piece."""
        return HostTensors(arrays)

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> NDArray[np.uint8]:
        """Return at least one frame as (N, S, S, 3).

        Raises:
            DataError: A frame is not an RGB image, or too narrow to crop.
        """
        return preprocess_batch(frames, spec)

    def ready(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return pixels as they are."""
        return pixels

    def close(self) -> None:
        """Do nothing."""
