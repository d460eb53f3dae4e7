"""The interface of a CUDA device: memory at fixed addresses and one stream.

Everything that a session does on the device goes onto that one stream, so it happens in the order
in which it was called, and nothing has to wait for the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.mutex import Mutex


@dataclass(frozen=True)
class DeviceArray:
    """An array in the device's memory; who made it keeps the memory."""

    address: int
    """Address as kernels and engines take it."""
    dtype: str
    """NumPy's name of the type: `uint8`, `float16` or `float32`."""
    shape: tuple[int, ...]
    """Row-major, without gaps."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class Buffer(Protocol):
    """Device memory at one address, a multiple of 256."""

    address: int
    nbytes: int

    def close(self) -> None:
        """Free the memory once the stream has passed it. Safe to call more than once."""


class Mailbox(Protocol):
    """Memory for data that goes between host and device in every frame.

    On a device with memory of its own these are page-locked host memory, device memory, and copies
    in the order of the stream. Where host and device share one memory it is there once, and
    nothing is copied.
    """

    address: int
    """Address as the device sees it, a multiple of 256."""
    nbytes: int
    host: NDArray[np.uint8]
    """(nbytes,) as the host sees it. To be written only when nothing on the stream reads it."""

    def push(self, nbytes: int) -> None:
        """Put the first bytes onto the device, in the order of the stream."""

    def pull(self, nbytes: int) -> None:
        """Bring the first bytes to the host; they are there after `Device.synchronize`."""

    def close(self) -> None:
        """Free the memory once the stream has passed it. Safe to call more than once."""


class Graph(Protocol):
    """Work on the stream that was recorded once, with the addresses it had then."""

    def launch(self) -> None:
        """Put all of it onto the stream."""

    def close(self) -> None:
        """Release it. Safe to call more than once."""


class Device(Protocol):
    """One GPU. Methods may be called from any thread; what goes onto the stream, by one at a time.

    All methods raise a BackendError when the driver reports an error.
    """

    index: int
    name: str
    """Name of the GPU, from the driver."""
    capability: tuple[int, int]
    """Compute capability: (8, 7) is sm_87."""
    driver: int
    """Newest CUDA version the driver takes: 13000 is 13.0."""
    integrated: bool
    """Whether host and device share one memory, as on a Jetson."""
    stream: int
    """Handle of the one stream, a `cudaStream_t`."""
    whole_gpu: Mutex
    """To be held by what may wait for the whole GPU, which must not be while work is recorded."""

    @property
    def recordable(self) -> bool:
        """Whether work can be recorded without waiting for what has the whole GPU."""

    def activate(self) -> None:
        """Make the device current for the calling thread, as libraries require before a call."""

    def allocate(self, nbytes: int) -> Buffer:
        """Return device memory, of undefined content. Slow: not for every frame."""

    def mailbox(self, nbytes: int, *, copied: bool = False) -> Mailbox:
        """Return memory that both sides reach. Slow: not for every frame.

        Args:
            nbytes: Size in bytes.
            copied: Whether it is copied also where host and device share one memory: what a device
                reads several times, since it reads page-locked memory without its cache there.
        """

    def upload(self, array: NDArray[np.generic], address: int) -> None:
        """Copy a contiguous array to device memory and wait until it is there.

        Uses a stream of its own, so that it neither waits for frames nor holds them up. Nothing on
        the stream may use that memory yet.
        """

    def download(self, address: int, array: NDArray[np.generic]) -> None:
        """Wait for the stream, then copy device memory to a contiguous array."""

    def copy(self, source: int, target: int, nbytes: int) -> None:
        """Copy from device memory to device memory, in the order of the stream."""

    def record(self, work: Callable[[], None]) -> Graph:
        """Return what `work` puts onto the stream as a graph; nothing of it is run.

        `work` may not wait for the stream, and must have run once before: libraries load code and
        allocate memory the first time.
        """

    def synchronize(self) -> None:
        """Wait until everything on the stream is done."""

    def close(self) -> None:
        """Wait for the stream, then free memory and device. Safe to call more than once."""
