"""Run an engine as a CUDA graph, with one launch per run.

TensorRT forbids changing a context from which a graph was recorded, so each set of shapes and
addresses gets a context of its own. What lies at the addresses may change: a switch does just that.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from runtime.backends.trt.library import said, trt
from runtime.cuda.base import Device, DeviceArray
from runtime.cuda.graphs import Graphs

_MOST = 4
"""Contexts of an engine, each with memory for its activations."""


class Recorded:
    """Runs of one engine whose inputs and output lie at the same addresses again and again."""

    def __init__(self, device: Device, engine: trt.ICudaEngine) -> None:
        """Start without contexts."""
        self._device, self._engine = device, engine
        self._most = _MOST
        self._graphs = Graphs(device, _MOST)
        self._contexts: dict[Hashable, trt.IExecutionContext] = {}

    def run(
        self,
        inputs: Mapping[str, DeviceArray],
        output: str,
        address: int,
        bound: Mapping[str, DeviceArray] | None = None,
    ) -> bool:
        """Put one run onto the stream; False if it must be run without a graph.

        Args:
            inputs: Inputs whose shapes fit the engine.
            output: Name of the output.
            address: Address of the output.
            bound: Further inputs, which are the same at every run: with those of a large encoder
                in it, a key would take longer than a launch.

        Raises:
            BackendError: The engine fails.
        """
        key = (address, *((name, inputs[name].address, inputs[name].shape) for name in inputs))
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= self._most:
                return False
            context = self._make({**(bound or {}), **inputs}, output, address)
            if not _recordable(context, self._device.stream):
                self._most = 0  # nor is any other run of this engine
                return False
            self._contexts[key] = context
        ready = context

        def enqueue() -> None:
            with said() as messages:
                if not ready.execute_async_v3(self._device.stream):
                    raise messages.failure("run an engine", "build it again with uda-runtime build")

        self._graphs.run(key, enqueue)
        return True

    def close(self) -> None:
        """Release graphs and contexts, when the stream has passed. Safe to call more than once."""
        self._graphs.clear()
        self._contexts.clear()

    def _make(
        self, inputs: Mapping[str, DeviceArray], output: str, address: int
    ) -> trt.IExecutionContext:
        with said() as messages:
            context = self._engine.create_execution_context()
            ready = context is not None and context.set_tensor_address(output, address)
            for name, array in inputs.items():
                ready = (
                    ready
                    and context.set_input_shape(name, trt.Dims(list(array.shape)))
                    and context.set_tensor_address(name, array.address)
                )
            if not ready:
                raise messages.failure("prepare a run of an engine", "free memory on the GPU")
        return context


def _recordable(context: Any, stream: int) -> bool:
    """Return whether runs can be recorded: one of TensorRT-RTX may ask for memory meanwhile.

    Its flag REQUIRE_USER_ALLOCATION forbids that, but may ask for contexts without memory of their
    own; no GPU has shown us which.
    """
    ask = getattr(context, "is_stream_capturable", None)
    return ask is None or bool(ask(stream))
