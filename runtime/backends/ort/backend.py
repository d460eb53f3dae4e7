"""Backend `ort`: ONNX Runtime on the CPU or on CUDA."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.bake import bake
from runtime.backends.base import Arrays, Engine, Inputs
from runtime.backends.names import index_of
from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.cuda.memory import CudaMailbox
from runtime.errors import BackendError, raised_by
from runtime.memory.base import Memory
from runtime.memory.blocked import block_size
from runtime.memory.device import DeviceMemory
from runtime.memory.host import HostMemory

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def _library() -> Any:
    try:
        import onnxruntime  # here, so that `import runtime` does not need it
    except ImportError as error:
        raise BackendError(
            "backend 'ort' needs onnxruntime, which is not installed; "
            "run: pip install '.[ort]', or install your device's own build"
        ) from error
    return onnxruntime


class OrtBackend:
    """Opens graphs with ONNX Runtime. A provider that was asked for and does not start is an error.

    Raises:
        BackendError: onnxruntime is missing, or has no such device here.
    """

    def __init__(
        self, device: str, threads: int | None, bundle: object = None, engines: object = None
    ) -> None:
        """Start the library; `bundle` and `engines` are ignored."""
        index = index_of(device)
        self._ort = _library()
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
            # The CUDA and cuDNN libraries may lie in Python packages, where the loader looks not.
            self._ort.set_default_logger_severity(4)  # failures reach the user as exceptions
            with contextlib.redirect_stdout(io.StringIO()) as said:
                self._ort.preload_dlls()  # prints which it cannot load; perhaps none is missed
            first = said.getvalue().strip().partition("\n")[0]
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

    def open(self, graph: bytes, *, small: bool = False, baked: Arrays | None = None) -> OrtEngine:
        """Return an engine for the bytes of an ONNX graph.

        A small graph runs on the caller's thread alone: workers of its own would gain nothing, and
        go on spinning on the cores that the next encoder run needs.

        Baked inputs are given beside the graph: against bytes in the graph that saves two copies of
        them while the engine is opened, and ONNX Runtime lays them out just the same.

        Raises:
            FormatError: The graph is damaged, or a baked array has no input that it fits.
            BackendError: The graph cannot be opened, or the provider does not start.
        """
        options = self._ort.SessionOptions()
        options.log_severity_level = 4  # failures reach the user as exceptions
        if small:
            options.intra_op_num_threads = 1
        elif self._threads is not None:
            options.intra_op_num_threads = self._threads
        provider = _PROVIDERS[self._kind]
        settings = {}
        if self._device is not None:
            settings = {
                "use_tf32": "0",  # it has the mantissa of fp16, which rounds a residual away
                "device_id": str(self._device.index),
                # So that frames and switches keep their order.
                "user_compute_stream": str(self._device.stream),
            }
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if baked:
            graph = bake(graph, baked)
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
                providers=[(provider, settings)],
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
        return OrtEngine(self._ort, session, self._device)


class OrtEngine:
    """A graph opened by ONNX Runtime, on the CPU or on the stream of a device."""

    where = "cuda"
    """ONNX Runtime's name for the memory of a device."""

    def __init__(self, library: Any, session: Any, device: CudaDevice | None) -> None:
        self._ort = library
        self._session = session
        self._device = device
        self.inputs = frozenset(i.name for i in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self._bound: dict[str, Any] = {}
        self._mail: dict[str, CudaMailbox] = {}
        self._binding = session.io_binding()

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The graph has no such input, or the device cannot take it.
        """
        for name, array in arrays.items():
            if name not in self.inputs:
                raise BackendError(f"the graph has no input '{name}'; export the bundle again")
            if isinstance(array, DeviceArray):
                self._bind_address(name, array)
                self._bound[name] = array
            else:
                # No copy: it is this very array.
                value = self._ort.OrtValue.ortvalue_from_numpy(array)
                self._binding.bind_ortvalue_input(name, value)
                self._bound[name] = value

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once; the result is a fresh array.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        missing = self.inputs - self._bound.keys() - inputs.keys()
        if missing:  # the binding would quietly use what an earlier run left there
            raise BackendError(f"the graph wants '{min(missing)}'; export the bundle again")
        if self._device is not None:
            self._device.activate()
        try:
            for name, value in inputs.items():
                if isinstance(value, DeviceArray):
                    self._bind_address(name, value)
                elif self._device is not None:
                    self._bind_address(name, self._mailed(name, value))
                else:
                    self._binding.bind_cpu_input(name, value)
            # Bound anew, since the last run's result fixed its shape.
            self._binding.bind_output(self._output, "cpu")
            self._session.run_with_iobinding(self._binding)
            result: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            if not raised_by(error, "onnxruntime"):
                raise
            hint = "export the bundle again if its parts do not fit"
            if self._device is not None:
                with contextlib.suppress(BackendError):  # it has failed as well
                    self._device.synchronize()  # it may still read what the next run overwrites
                hint = f"check the CUDA libraries, cuDNN among them, or {hint}"
            raise BackendError(f"onnxruntime failed: {error}; {hint}") from error
        return result

    def run_with_head(self, inputs: Inputs, head: Engine, tensors: Inputs) -> NDArray[np.float32]:
        """Run, then a head over the features.

        Raises:
            BackendError: An input is missing or does not fit, or a run fails.
        """
        return head.run({"features": self.run(inputs), **tensors})

    def close(self) -> None:
        """Release the session and the bound values. Safe to call more than once."""
        if self._device is not None:
            with contextlib.suppress(BackendError):  # closed, or failed
                self._device.activate()
        self._binding = self._session = None
        self._bound.clear()
        for mailbox in self._mail.values():
            mailbox.close()
        self._mail.clear()

    def _bind_address(self, name: str, array: DeviceArray) -> None:
        assert self._device is not None
        self._binding.bind_input(
            name, self.where, self._device.index, np.dtype(array.dtype), array.shape, array.address
        )

    def _mailed(self, name: str, array: NDArray[Any]) -> DeviceArray:
        """Return an array of the host as what lies on the device when the stream gets there."""
        assert self._device is not None
        mailbox = self._mail.get(name)
        if mailbox is None or mailbox.nbytes < array.nbytes:
            if mailbox is not None:
                del self._mail[name]
                mailbox.close()
            mailbox = self._mail[name] = self._device.mailbox(array.nbytes)
        # The run before has ended, so nothing reads the mailbox any more.
        np.copyto(mailbox.host[: array.nbytes].view(array.dtype).reshape(array.shape), array)
        mailbox.push(array.nbytes)
        return DeviceArray(mailbox.address, array.dtype.name, array.shape)
