"""Execution contexts of engines, over activation memory that they share."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.backends.trt.library import collected_messages, trt
from runtime.cuda.base import Buffer, Device, DeviceArray
from runtime.errors import BackendError


class Activations:
    """Device memory in which contexts compute: those of one stream take turns."""

    def __init__(self, device: Device) -> None:
        """Start without memory."""
        self._device = device
        self._buffers: list[Buffer] = []

    def room(self, nbytes: int) -> Buffer:
        """Return at least so many bytes, at an address that stays until this is closed.

        Raises:
            BackendError: There is no room.
        """
        if not self._buffers or self._buffers[-1].nbytes < nbytes:
            # Smaller ones stay: contexts know their addresses.
            self._buffers.append(self._device.allocate(nbytes))
        return self._buffers[-1]

    def close(self) -> None:
        """Free the memory when the stream has passed it. Safe to call more than once."""
        while self._buffers:
            self._buffers.pop().close()


class Context:
    """An execution context; only shapes and addresses that differ are set again."""

    def __init__(self, engine: trt.ICudaEngine, memory: Buffer) -> None:
        """Make a context.

        Args:
            engine: Engine to run.
            memory: Room for the activations, used while a run is on the stream.

        Raises:
            BackendError: There is no room for it.
        """
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        with collected_messages() as messages:
            context = engine.create_execution_context(strategy)
            if context is None:
                raise messages.failure("prepare a run of an engine", "free memory on the GPU")
            context.set_device_memory(memory.address, memory.nbytes)
        self._context = context
        self._inputs: dict[str, DeviceArray] = {}
        self._output = 0

    def set_inputs(self, inputs: Mapping[str, DeviceArray]) -> str | None:
        """Set shapes and addresses; return the name of an input that does not fit, if one does."""
        for name, array in inputs.items():
            if self._inputs.get(name) == array:
                continue
            self._inputs.pop(name, None)
            with collected_messages():  # whoever asks says more
                shape = trt.Dims(list(array.shape))
                fits = self._context.set_input_shape(name, shape)
                fits = fits and self._context.set_tensor_address(name, array.address)
            if not fits:
                return name
            self._inputs[name] = array
        return None

    def shape(self, output: str) -> trt.Dims:
        """Return the shape of the output for the inputs that are set."""
        return self._context.get_tensor_shape(output)

    def run(self, output: str, address: int, stream: int) -> None:
        """Put a run onto a stream.

        Args:
            output: Name of the output.
            address: Address of the output on the device.
            stream: Stream to use.

        Raises:
            BackendError: The engine fails.
        """
        with collected_messages() as messages:
            if address != self._output:
                self._output = 0  # until it is known: the call may be interrupted
                if self._context.set_tensor_address(output, address):
                    self._output = address
            if not (self._output and self._context.execute_async_v3(stream)):
                raise messages.failure("run an engine", "build it again with uda-runtime build")

    def check_recordable(self, stream: int) -> None:
        """Check that runs can be recorded: one of TensorRT-RTX may ask for memory meanwhile.

        Its flag REQUIRE_USER_ALLOCATION forbids that, but may ask for more than activations; no GPU
        has shown us which.

        Raises:
            BackendError: Runs of this engine cannot be recorded.
        """
        ask = getattr(self._context, "is_stream_capturable", None)
        if ask is not None and not ask(stream):
            raise BackendError("the library does not let runs of this engine be recorded")
