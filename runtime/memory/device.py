"""GPU memory, for engines on its stream; weights, tokens and heads are uploaded once.

A switch is then two kernels on the stream, and a copy within the device if the encoder takes
tokens: nothing is copied from the host, and nobody waits. Frames are resized there as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.arena import Arena
from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.cuda.resize import DeviceResizer
from runtime.cuda.tensors import Tensors
from runtime.frames.preprocess import check_frame, geometry
from runtime.memory.base import Arrays, Frames, Pixels
from runtime.memory.weights import Weights
from runtime.models import Preprocess


class DeviceMemory:
    """Memory of one GPU; see `runtime.memory.base.Memory`."""

    def __init__(self, device: CudaDevice) -> None:
        """Take ownership of a device, which is closed with this."""
        self.device = device
        self._resizer = DeviceResizer(device)

    def expect(self, batch: int) -> None:
        """Allocate the pixels of a batch, so that their address does not change."""
        self._resizer.batch = max(self._resizer.batch, batch)

    def weights(self, base: Weights, again: Callable[[], Weights]) -> Arena:
        """Copy the base to the device.

        Raises:
            BackendError: There is no room for it.
        """
        return Arena(self.device, base.views(), lambda: again().views())

    def tensors(self, arrays: Arrays) -> Tensors:
        """Copy arrays to the device.

        Raises:
            BackendError: There is no room for them.
        """
        return Tensors(self.device, arrays)

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Check at least one frame; the device resizes it in `ready`.

        Raises:
            DataError: A frame is not an RGB image, or too narrow to crop.
        """
        for frame in frames:
            height, width, _ = check_frame(frame).shape
            geometry(width, height, spec)
        return Frames(tuple(frames), spec)

    def ready(self, pixels: Pixels) -> NDArray[np.uint8] | DeviceArray:
        """Queue the resizing of frames on the stream; an array is uploaded with the engine's run.

        Raises:
            BackendError: The device failed.
        """
        if isinstance(pixels, Frames):
            return self._resizer(pixels.frames, pixels.spec)
        return pixels

    def close(self) -> None:
        """Wait for the stream, free all memory and close the device.

        Safe to call more than once.
        """
        self._resizer.close()
        self.device.close()
