"""The primary context of a GPU with one stream, on which work is ordered and recorded.

ONNX Runtime and TensorRT use the same context, so addresses mean the same to all.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from runtime.cuda.driver import call, driver
from runtime.cuda.events import CudaEvent
from runtime.cuda.graphs import CudaGraph
from runtime.errors import BackendError
from runtime.mutex import Mutex

_thread = threading.local()
_gates: dict[int, Mutex] = {}
"""Of each GPU, which all sessions on it share, as they share its context."""


class CudaContext:
    """A GPU and its stream, without memory; `CudaDevice` adds that."""

    def __init__(self, index: int) -> None:
        """Start the driver and look at the GPU; the stream is made by `CudaDevice`.

        Raises:
            BackendError: cuda-bindings, the driver or that GPU is missing.
        """
        count = int(call("cuDeviceGetCount"))
        if not 0 <= index < count:
            raise BackendError(
                f"device 'cuda:{index}' not found: the driver shows {count} "
                f"{'GPU' if count == 1 else 'GPUs'}, numbered from 0; check nvidia-smi and "
                "CUDA_VISIBLE_DEVICES"
            )
        attribute = driver().CUdevice_attribute
        self.index = index
        self._device = call("cuDeviceGet", index)
        self.name = call("cuDeviceGetName", 256, self._device).split(b"\0")[0].decode()
        self.capability = (
            self._fact(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._fact(attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.integrated = bool(self._fact(attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED))
        self.driver = int(call("cuDriverGetVersion"))
        self._context: Any = call("cuDevicePrimaryCtxRetain", self._device)
        self._lock = Mutex(nested=True)
        """While work is recorded, no other thread may put work onto the stream or wait for it."""
        self._recording = False
        self.whole_gpu = _gates.setdefault(index, Mutex(nested=True))
        """Held by what may wait for the whole GPU, as a library that opens or releases an engine,
        and while work is recorded: CUDA refuses the first and gives up the second if they meet."""
        self.stream = 0

    def activate(self) -> None:
        """Make the device current for the calling thread.

        Raises:
            BackendError: The driver reports an error, or the device is closed.
        """
        if self._context is None:
            raise BackendError(f"device 'cuda:{self.index}' is closed; open a new session")
        call("cuCtxSetCurrent", self._context)
        if not getattr(_thread, "apart", False):
            # ONNX Runtime records in mode GLOBAL, which forbids other threads to bring memory.
            call("cuThreadExchangeStreamCaptureMode", _capture_mode())
            _thread.apart = True
        if self._recording and self._lock.free:  # what recorded was interrupted
            self._end_recording()

    @property
    def recordable(self) -> bool:
        """Whether work can be recorded without waiting for what has the whole GPU."""
        return self.whole_gpu.free or self.whole_gpu.mine

    def copy(self, source: int, target: int, nbytes: int) -> None:
        """Copy from device memory to device memory, in the order of the stream.

        Raises:
            BackendError: The driver reports an error.
        """
        if nbytes:
            self.activate()
            call("cuMemcpyDtoDAsync", target, source, nbytes, self.stream)

    def event(self) -> CudaEvent:
        """Return a mark on the stream for which the host can wait.

        Raises:
            BackendError: The driver reports an error.
        """
        self.activate()
        return CudaEvent(self.stream)

    def record(self, work: Callable[[], None]) -> CudaGraph:
        """Return what `work` puts onto the stream as a graph; nothing of it is run.

        Raises:
            BackendError: The driver or `work` reports an error.
        """
        self.activate()
        mode = _capture_mode()
        with self.whole_gpu, self._lock:
            self._recording = True
            try:
                call("cuStreamBeginCapture", self.stream, mode)
                work()
                graph = call("cuStreamEndCapture", self.stream)
            except BaseException:
                self._end_recording()
                raise
            self._recording = False
        try:
            return CudaGraph(call("cuGraphInstantiate", graph, 0), self.stream)
        finally:
            call("cuGraphDestroy", graph)

    def _end_recording(self) -> None:
        # A call that cannot be recorded spoils the rest: an error of its own, which says less than
        # the first one. There is one as well if nothing was being recorded yet, or any more.
        with contextlib.suppress(BackendError):
            call("cuGraphDestroy", call("cuStreamEndCapture", self.stream))
        self._recording = False

    def synchronize(self) -> None:
        """Wait until everything on the stream is done.

        Raises:
            BackendError: The driver reports an error, maybe of something that was put there before.
        """
        self.activate()
        with self._lock:
            call("cuStreamSynchronize", self.stream)

    def _fact(self, attribute: Any) -> int:
        return int(call("cuDeviceGetAttribute", attribute, self._device))


def _capture_mode() -> Any:
    """Return the mode in which what a thread records concerns nobody but itself."""
    return driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
