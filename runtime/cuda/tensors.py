"""Several arrays in one piece of device memory, each aligned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice

_ALIGNED = 256
"""Alignment in bytes that TensorRT requires of every address."""


def offsets_of(sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return the aligned offsets of pieces of these sizes, and the size of all together."""
    offsets, end = {}, 0
    for name, nbytes in sizes.items():
        offsets[name] = end
        end += -(-nbytes // _ALIGNED) * _ALIGNED
    return offsets, end


class Tensors:
    """Small arrays on the device, in one piece: a task's tokens, or its head."""

    def __init__(self, device: CudaDevice, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Copy them there.

        Raises:
            BackendError: There is no room for them.
        """
        offsets, total = offsets_of({name: array.nbytes for name, array in arrays.items()})
        self._device = device
        self._buffer = device.allocate(total)
        self.nbytes = total
        self.handles: Mapping[str, Any] = {
            name: DeviceArray(self._buffer.address + offsets[name], array.dtype.name, array.shape)
            for name, array in arrays.items()
        }
        for name, array in arrays.items():
            device.upload(np.ascontiguousarray(array), self.handles[name].address)

    def copy_from(self, other: Tensors) -> None:
        """Take over the values of tensors of the same names and shapes, in the stream's order.

        Raises:
            BackendError: The driver reports an error.
        """
        self._device.copy(other._buffer.address, self._buffer.address, self.nbytes)

    def close(self) -> None:
        """Free the memory when the stream has passed it. Safe to call more than once."""
        self._buffer.close()
