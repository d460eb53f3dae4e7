"""Device memory, and pinned memory that host and device share."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.driver import call
from runtime.errors import BackendError

_MAPPED = 2
"""CU_MEMHOSTALLOC_DEVICEMAP: the device reaches the host's memory by an address of its own."""


class CudaBuffer:
    """Device memory at one address."""

    def __init__(self, address: int, nbytes: int, free: Callable[[CudaBuffer], None]) -> None:
        """Take over memory.

        Args:
            address: Address of the first byte.
            nbytes: Size in bytes.
            free: Frees it when the stream has passed, once.
        """
        self.address, self.nbytes, self._free = address, nbytes, free

    def close(self) -> None:
        """Free the memory once the stream has passed it. Safe to call more than once."""
        with contextlib.suppress(BackendError):  # the device has failed, and its memory with it
            self._free(self)


class CudaMailbox:
    """Page-locked host memory, and device memory unless the device reaches the host's."""

    def __init__(
        self,
        nbytes: int,
        stream: int,
        buffer: CudaBuffer | None,
        free: Callable[[CudaMailbox], None],
    ) -> None:
        """Allocate the host's side.

        Args:
            nbytes: Size in bytes.
            stream: Stream that orders the copies.
            buffer: The device's side; None where both are one.
            free: Frees the host's side when the stream has passed, once.

        Raises:
            BackendError: There is no room.
        """
        self.nbytes, self._stream, self._buffer, self._free = nbytes, stream, buffer, free
        self.pinned = int(call("cuMemHostAlloc", nbytes, _MAPPED))
        """Address of the host's side, as the host sees it."""
        self.host: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * nbytes).from_address(self.pinned)
        )
        self.address = (
            int(call("cuMemHostGetDevicePointer", self.pinned, 0))
            if buffer is None
            else buffer.address
        )

    def push(self, nbytes: int) -> None:
        """Put the first bytes onto the device, in the order of the stream.

        Raises:
            BackendError: The driver reports an error.
        """
        if self._buffer is not None:
            call("cuMemcpyHtoDAsync", self.address, self.pinned, nbytes, self._stream)

    def pull(self, nbytes: int) -> None:
        """Bring the first bytes to the host; they are there after `Device.synchronize`.

        Raises:
            BackendError: The driver reports an error.
        """
        if self._buffer is not None:
            call("cuMemcpyDtoHAsync", self.pinned, self.address, nbytes, self._stream)

    def close(self) -> None:
        """Free the memory when the stream has passed. `host` must be used no more.

        Safe to call more than once.
        """
        self.host = np.empty(0, np.uint8)
        if self._buffer is not None:
            self._buffer.close()
        with contextlib.suppress(BackendError):  # the device has failed
            self._free(self)
