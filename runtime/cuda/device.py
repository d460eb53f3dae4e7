"""A CUDA device with its stream, memory and kernels, through the driver API."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from runtime.cuda.context import CudaContext
from runtime.cuda.driver import call, driver
from runtime.cuda.events import CudaEvent
from runtime.cuda.kernel import Kernels
from runtime.cuda.memory import CudaBuffer, CudaMailbox
from runtime.errors import BackendError
from runtime.mutex import Mutex

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""


class CudaDevice(CudaContext):
    """One GPU, see `runtime.cuda.base.Device`; `close` frees all memory it gave."""

    def __init__(self, index: int = 0) -> None:
        """Start the driver, make a stream and load the kernels.

        Args:
            index: 0 is the first GPU.

        Raises:
            BackendError: cuda-bindings, the driver, NVRTC or that GPU is missing.
        """
        super().__init__(index)
        self._memory = Mutex(nested=True)
        """Held while memory comes, goes or is filled, so that `close` finds nobody at it."""
        self._given: set[CudaBuffer | CudaMailbox] = set()
        self._kernels: Kernels | None = None
        self._streams: list[Any] = []
        try:
            pools = driver().CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED
            self._pools = bool(self._fact(pools))
            self.activate()
            self._streams = [call("cuStreamCreate", _NON_BLOCKING) for _ in range(2)]
            self.stream, self._copies = (int(stream) for stream in self._streams)
            self._kernels = Kernels(self.capability)
        except BaseException:
            self.close()
            raise

    @property
    def kernels(self) -> Kernels:
        """Our kernels.

        Raises:
            BackendError: The device is closed.
        """
        if self._kernels is None:
            raise BackendError(f"device 'cuda:{self.index}' is closed; open a new session")
        return self._kernels

    def allocate(self, nbytes: int) -> CudaBuffer:
        """Return device memory, of undefined content.

        Raises:
            BackendError: There is no room, or the device is closed.
        """
        with self._memory:
            self.activate()
            if self._pools:
                address = call("cuMemAllocAsync", max(nbytes, 1), self._copies)
                call("cuStreamSynchronize", self._copies)
            else:
                address = call("cuMemAlloc", max(nbytes, 1))
            buffer = CudaBuffer(int(address), nbytes, self._free)
            self._given.add(buffer)
        return buffer

    def mailbox(self, nbytes: int, *, copied: bool = False) -> CudaMailbox:
        """Return memory that both sides reach.

        Args:
            nbytes: Size in bytes.
            copied: Whether it is copied also where host and device share one memory.

        Raises:
            BackendError: There is no room, or the device is closed.
        """
        nbytes = max(nbytes, 1)
        with self._memory:
            buffer = self.allocate(nbytes) if copied or not self.integrated else None
            try:
                self.activate()
                mailbox = CudaMailbox(nbytes, self.stream, buffer, self._free_host)
            except BaseException:
                if buffer is not None:
                    buffer.close()
                raise
            self._given.add(mailbox)
        return mailbox

    def upload(self, array: NDArray[Any], address: int) -> None:
        """Copy a contiguous array to device memory and wait until it is there.

        Raises:
            BackendError: The driver reports an error.
        """
        with self._memory:
            self.activate()
            if array.nbytes:
                call("cuMemcpyHtoDAsync", address, _start(array), array.nbytes, self._copies)
                call("cuStreamSynchronize", self._copies)

    def download(self, address: int, array: NDArray[Any]) -> None:
        """Wait for the stream, then copy device memory to a contiguous array.

        Raises:
            BackendError: The driver reports an error.
        """
        self.synchronize()
        with self._memory:
            self.activate()
            if array.nbytes:
                call("cuMemcpyDtoHAsync", _start(array), address, array.nbytes, self._copies)
                call("cuStreamSynchronize", self._copies)

    def alone(self, work: Callable[[], None]) -> None:
        """Call what records the stream by itself, while no other thread uses it or brings memory.

        Raises:
            BackendError: `work` reports an error; what it was recording is given up.
        """
        with self.whole_gpu, self._memory, self._lock:
            try:
                work()
            except BaseException:
                self._end_recording()
                raise

    def free_bytes(self) -> int:
        """Return the memory that the device has left, for all programs on it.

        Raises:
            BackendError: The driver reports an error.
        """
        with self._memory:
            self.activate()
            # Memory that was freed goes back to the driver when it is waited for.
            call("cuStreamSynchronize", self._copies)
            free, _ = call("cuMemGetInfo")
        return int(free)

    def close(self) -> None:
        """Wait for the stream, then free memory and device. Safe to call more than once."""
        with self._memory:
            if self._context is None:
                return
            # A device that has failed fails in all of this, too; there is nothing left to do.
            with contextlib.suppress(BackendError):
                if self._streams:
                    self.synchronize()
            for given in tuple(self._given):
                given.close()
            with contextlib.suppress(BackendError):
                if self._kernels is not None:
                    self._kernels.close()
                while self._streams:
                    call("cuStreamSynchronize", self._streams[-1])
                    call("cuStreamDestroy", self._streams.pop())
            self._kernels, self._streams, self._context = None, [], None
            with contextlib.suppress(BackendError):
                call("cuCtxSetCurrent", 0)  # what is current in a thread had better exist
            with contextlib.suppress(BackendError):
                call("cuDevicePrimaryCtxRelease", self._device)

    def _free(self, buffer: CudaBuffer) -> None:
        """Free memory when the stream has passed what is on it now."""
        with self._memory:
            if buffer not in self._given:  # freed already, maybe with the device
                return
            self._given.discard(buffer)
            self.activate()
            if not self._pools:
                self.synchronize()
                call("cuMemFree", buffer.address)
                return
            with self._lock:
                event = CudaEvent(self.stream)
                event.record()
            event.hold(self._copies)
            event.close()
            call("cuMemFreeAsync", buffer.address, self._copies)

    def _free_host(self, mailbox: CudaMailbox) -> None:
        with self._memory:
            if mailbox in self._given:
                self._given.discard(mailbox)
                self.synchronize()
                call("cuMemFreeHost", mailbox.pinned)


def _start(array: NDArray[Any]) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
