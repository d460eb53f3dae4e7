"""Frames on their way to an encoder: resized by the host, or by the device that will read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.cuda.resize import DeviceResizer
from runtime.frames.preprocess import check_frame, geometry, preprocess_batch
from runtime.spec import Preprocess


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames that a device is going to resize: sound ones."""

    frames: tuple[NDArray[np.uint8], ...]
    spec: Preprocess


Pixels = NDArray[np.uint8] | Frames
"""(N, S, S, 3), or what will be."""


class Preprocessor:
    """Makes frames the input of an encoder, where the encoder runs."""

    def __init__(self, device: CudaDevice | None) -> None:
        """Take the device, or None for the host."""
        self._resizer = None if device is None else DeviceResizer(device)

    def read(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Do what needs no device. Thread-safe.

        Args:
            frames: At least one.
            spec: What the encoder takes.

        Raises:
            DataError: A frame is no RGB image, or too narrow to crop.
        """
        if self._resizer is None:
            return preprocess_batch(frames, spec)
        for frame in frames:
            height, width, _ = check_frame(frame).shape
            geometry(width, height, spec)
        return Frames(tuple(frames), spec)

    def place(self, pixels: Pixels) -> NDArray[np.uint8] | DeviceArray:
        """Return what an engine takes. One caller at a time.

        Raises:
            BackendError: The device failed.
        """
        if isinstance(pixels, Frames):
            assert self._resizer is not None
            return self._resizer(pixels.frames, pixels.spec)
        return pixels

    def close(self) -> None:
        """Free memory. Twice is harmless."""
        if self._resizer is not None:
            self._resizer.close()
