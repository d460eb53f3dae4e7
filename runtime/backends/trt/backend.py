"""Backend `trt`: run engines that `uda-runtime build` made, on a GPU.

Neither torch nor cupy: memory and the stream are those of `runtime.cuda`.
"""

from __future__ import annotations

import os
from pathlib import Path

from runtime.backends.base import Arrays
from runtime.backends.names import gpu_of
from runtime.backends.trt.contexts import Activations
from runtime.backends.trt.device import platform_of, runtime_on
from runtime.backends.trt.engine import TrtEngine
from runtime.backends.trt.engine_file import content_of
from runtime.backends.trt.library import library
from runtime.backends.trt.store import store_of
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError
from runtime.memory.device import DeviceMemory
from runtime.mutex import Mutex
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256


class TrtBackend:
    """Opens engines from a store, for the GPU that it is given.

    Raises:
        BackendError: The device is not a GPU or not found, or TensorRT is missing or unfit.
    """

    block = 1
    bf16 = False

    def __init__(
        self,
        device: str,
        threads: int | None,
        bundle: Path | None,
        engines: str | os.PathLike[str] | None = None,
        *ignored: object,
    ) -> None:
        """Start the library on a GPU; threads and precision are those of the built engines."""
        index = gpu_of(device, "backend 'trt' runs")
        self.version = str(library())
        self.device = device
        if bundle is None:
            raise BackendError("backend 'trt' needs the folder of a bundle's engines")
        self._store = store_of(bundle, engines)
        self._opening = Mutex()
        """Tasks come in any thread, and TensorRT's objects are for one at a time."""
        self._gpu = CudaDevice(index)
        try:
            self.memory = DeviceMemory(self._gpu)
            self._activations = Activations(self._gpu)
            self.machine = platform_of(self._gpu)
            self._runtime = runtime_on(self._gpu)
        except BaseException:
            self._gpu.close()
            raise

    def open(self, graph: bytes, *, small: bool = False, baked: Arrays | None = None) -> TrtEngine:
        """Return the engine that was built from a graph.

        Args:
            graph: The ONNX model it was built from.
            small: Ignored.
            baked: The values that were built in.

        Raises:
            BackendError: There is no engine of it for this GPU and library; the message has the
                command that builds one. Or the library cannot open it.
            FormatError: It is damaged.
        """
        weights = tensors_sha256(baked) if baked else None
        device = self.device if self._gpu.index else ""
        content = content_of(sha256(graph), weights)
        found = self._store.find(content, self.machine, device, baked=weights is not None)
        plan = self._store.plan(found, device)
        self.memory.expect(found.recipe.profile.batch.max)
        with self._opening:
            return TrtEngine(
                self._gpu,
                self._runtime,
                plan,
                found.tensors,
                found.recipe.profile,
                self._activations,
            )
