"""Backend `ort`: ONNX Runtime on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtime.backends.bake import bake
from runtime.backends.base import Arrays
from runtime.backends.names import index_of
from runtime.backends.ort.device_engine import OrtDeviceEngine
from runtime.backends.ort.engine import OrtEngine
from runtime.backends.ort.libraries import onnxruntime, preload
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError, raised_by
from runtime.graphs.check import MAX_LIVE
from runtime.memory.base import Memory
from runtime.memory.blocked import block_size
from runtime.memory.device import DeviceMemory
from runtime.memory.host import HostMemory

MAX_ARENA = 32 * 4 * MAX_LIVE
"""Most bytes of GPU memory that ONNX Runtime may take: 32 frames of the largest graph allowed."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OrtBackend:
    """Opens graphs with ONNX Runtime. A provider that was asked for and does not start is an error.

    Raises:
        BackendError: onnxruntime is missing, or has no such device here.
    """

    bf16 = False

    def __init__(self, device: str, threads: int | None, *ignored: object) -> None:
        """Start the library; it multiplies in the graphs' own precision, and builds nothing."""
        index = index_of(device)
        self._ort = onnxruntime()
        self.version = f"onnxruntime {self._ort.__version__}"
        self.device = device
        self._device: CudaDevice | None = None
        self._unloaded = ""
        self._kind = "cpu" if index is None else "cuda"
        self._threads = threads
        available = self._ort.get_available_providers()
        if _PROVIDERS[self._kind] not in available:
            raise BackendError(
                f"this onnxruntime has no {_PROVIDERS[self._kind]} (it has "
                f"{', '.join(available)}); install onnxruntime-gpu, or choose --device cpu"
            )
        if index is not None:
            self._ort.set_default_logger_severity(4)  # failures reach the user as exceptions
            first = preload(self._ort)
            self._unloaded = f" ({first})" if first else ""
            try:
                self._device = CudaDevice(index)
            except BackendError as error:
                raise BackendError(f"{error}, or choose --device cpu") from error
        self.memory: Memory[Any] = (
            HostMemory() if self._device is None else DeviceMemory(self._device)
        )
        self._block = 0

    @property
    def block(self) -> int:
        """Channels in a block of this processor's convolutions; 1 where nothing is blocked."""
        if not self._block:
            self._block = block_size(self._ort) if self._kind == "cpu" else 1
        return self._block

    def open(
        self, graph: bytes, *, small: bool = False, baked: Arrays | None = None
    ) -> OrtEngine | OrtDeviceEngine:
        """Return an engine for the bytes of an ONNX graph.

        A small graph runs on the caller's thread alone: workers of its own would gain nothing, and
        go on spinning on the cores that the next encoder run needs.

        Baked inputs are given beside the graph: against bytes in the graph that saves two copies of
        them while the engine is opened, and ONNX Runtime lays them out just the same.

        Raises:
            FormatError: The graph is damaged, or a baked array has no input that it fits.
            BackendError: The graph cannot be opened, or the provider does not start.
        """
        if baked:
            graph = bake(graph, baked)
        if self._device is None:
            return OrtEngine(self._ort, self._session(graph, small, baked or {}, {}))
        settings = {
            "use_tf32": "0",  # it has the mantissa of fp16, which rounds a residual away
            "device_id": str(self._device.index),
            # So that frames and switches keep their order.
            "user_compute_stream": str(self._device.stream),
            "gpu_mem_limit": str(MAX_ARENA),
            # To measure every algorithm takes seconds, for each batch size anew.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        with self._device.whole_gpu:  # for which the provider waits when it starts
            try:
                recording = {**settings, "enable_cuda_graph": "1"}
                session, graphs = self._session(graph, small, baked or {}, recording), True
            except BackendError:  # not every graph can be recorded; if not that, it fails again
                session, graphs = self._session(graph, small, baked or {}, settings), False
        return OrtDeviceEngine(self._ort, session, self._device, graphs=graphs)

    def _session(
        self, graph: bytes, small: bool, baked: Arrays, settings: Mapping[str, str]
    ) -> Any:
        """Return ONNX Runtime's session of a graph, with settings for its provider."""
        options = self._ort.SessionOptions()
        options.log_severity_level = 4  # failures reach the user as exceptions
        if small:
            options.intra_op_num_threads = 1
        elif self._threads is not None:
            options.intra_op_num_threads = self._threads
        if settings:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = _PROVIDERS[self._kind]
        try:
            if baked:
                # Copied while the session is opened; only until then must the arrays live.
                values = [
                    self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
                    for array in baked.values()
                ]
                options.add_external_initializers(list(baked), values)
            session = self._ort.InferenceSession(
                graph,
                options,
                providers=[(provider, dict(settings))],
                enable_fallback=0,  # to the CPU; what failed would only be printed
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            if not raised_by(error, "onnxruntime"):
                raise
            hint = (
                "check the bundle with uda-runtime info --check"
                if self._kind == "cpu"
                else "check the driver and the CUDA libraries, or choose --device cpu"
            )
            reason = " ".join(str(error).split())
            raise BackendError(
                f"onnxruntime cannot open the graph on {self.device}: {reason}{self._unloaded}; "
                f"{hint}"
            ) from error
        if provider not in session.get_providers():  # it only warns, then runs on the CPU
            raise BackendError(
                f"onnxruntime could not start {provider}{self._unloaded}; check the driver and the "
                "CUDA libraries, or choose --device cpu"
            )
        return session
