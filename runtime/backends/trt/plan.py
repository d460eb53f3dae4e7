"""A plan as TensorRT opened it: its inputs and outputs, and the bound arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from runtime.backends.base import Inputs
from runtime.backends.trt.contexts import Activations, Context
from runtime.backends.trt.library import collected_messages, trt
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.tensors import Tensor, engine_tensors, shape_of
from runtime.cuda.base import Device, DeviceArray
from runtime.errors import BackendError, FormatError

_ROOM = 1 << 24
"""Most bytes of an array's memory that allow for larger arrays, so that its address stays."""
BATCHED = ("pixels", "features")
"""Inputs with a frame in each row; a graph has one of them."""


class OpenedPlan:
    """An engine without memory for inputs and outputs."""

    def __init__(
        self,
        device: Device,
        runtime: trt.Runtime,
        plan: bytes,
        tensors: tuple[Tensor, ...],
        profile: Profile,
        activations: Activations,
    ) -> None:
        """Open a plan; the arguments are those of `TrtEngine`.

        Raises:
            BackendError: The library cannot open it.
            FormatError: It takes or gives something else.
        """
        self._device, self.profile = device, profile
        self._engine = _deserialize(device, runtime, plan)
        check_tensors(engine_tensors(self._engine), tensors)
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self.inputs = frozenset(tensor.name for tensor in tensors if tensor.input)
        self.output = next(tensor.name for tensor in tensors if not tensor.input)
        self.batched = next(name for name in BATCHED if name in self.inputs)
        self.bound: dict[str, DeviceArray] = {}
        self.bindings = 0
        """Number of times that something was bound, which recorded graphs do not follow."""
        self._shapes: dict[tuple[object, ...], tuple[int, ...]] = {}
        """Shapes of the output by the shapes of inputs that were found to fit."""
        self._memory = activations.room(self._engine.device_memory_size_v2)
        self.context = self.make_context()
        """For runs that are not recorded."""

    def make_context(self) -> Context:
        """Return a new context in which the bound arrays are set.

        Raises:
            BackendError: There is no room for it.
        """
        context = Context(self._engine, self._memory)
        self.set_inputs(context, self.bound)
        return context

    def bind(self, name: str, value: DeviceArray) -> None:
        """Set an input once for all later runs.

        Raises:
            BackendError: The engine has no such input, or takes another type or shape.
        """
        if name not in self.inputs:
            raise BackendError(f"the graph has no input '{name}'; export the bundle again")
        self._check(name, value)
        self.set_inputs(self.context, {name: value})
        self.bound[name] = value
        self.bindings += 1

    def check_given(self, inputs: Inputs) -> None:
        """Check that a run is given exactly the inputs that are not bound.

        Raises:
            BackendError: An input is missing, or the engine has no such input.
        """
        missing, others = (
            self.inputs - self.bound.keys() - inputs.keys(),
            inputs.keys() - self.inputs,
        )
        if missing:
            raise BackendError(f"the graph wants '{min(missing)}'; export the bundle again")
        if others:
            raise BackendError(f"the graph has no input '{min(others)}'; export the bundle again")

    def set_inputs(self, context: Context, inputs: Mapping[str, DeviceArray]) -> None:
        """Set inputs of a context.

        Raises:
            BackendError: They are beyond the profile.
        """
        name = context.set_inputs(inputs)
        if name is not None:
            own = self.profile
            raise BackendError(
                f"an engine of profile '{own.name}' takes batches of {own.batch} and "
                f"{own.classes} classes, found {list(inputs[name].shape)} for '{name}'; build with "
                "another --profile"
            )

    def run(self, context: Context, inputs: Mapping[str, DeviceArray], output: int) -> None:
        """Put a run onto the stream.

        Args:
            context: One of this plan's.
            inputs: Those that are not bound.
            output: Address of the output.

        Raises:
            BackendError: The engine fails.
        """
        self.set_inputs(context, inputs)
        context.run(self.output, output, self._device.stream)

    def output_shape(self, inputs: Mapping[str, DeviceArray]) -> tuple[int, ...]:
        """Return the shape of the output; shapes that were found to fit are not checked again.

        Raises:
            BackendError: An input does not fit.
        """
        key = tuple((name, array.dtype, array.shape) for name, array in inputs.items())
        if key not in self._shapes:
            for name, value in inputs.items():
                self._check(name, value)
            self.set_inputs(self.context, inputs)
            self._shapes[key] = shape_of(self.context.shape(self.output))
        return self._shapes[key]

    def room(self, name: str) -> int:
        """Return the bytes of the largest array of a name, or fewer if these are very many."""
        tensor = self._tensors[name]
        rows = name in (self.batched, self.output)
        spans = (self.profile.batch if rows else self.profile.classes, self.profile.classes)
        lengths = (
            length if length > 0 else spans[min(axis, 1)].max
            for axis, length in enumerate(tensor.shape)
        )
        return min(np.dtype(tensor.dtype).itemsize * math.prod(lengths), _ROOM)

    def _check(self, name: str, value: DeviceArray) -> None:
        """Check an input against what the engine takes, free axes aside."""
        wanted = self._tensors[name]
        same = len(wanted.shape) == len(value.shape) and all(
            length in (-1, found) for length, found in zip(wanted.shape, value.shape, strict=True)
        )
        if wanted.dtype != value.dtype or not same:
            raise BackendError(
                f"an engine takes {wanted}, found {value.dtype}{list(value.shape)}; export the "
                "bundle again, its parts do not fit"
            )


def check_tensors(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    """Check that an engine matches its description, and was built from a bundle.

    Args:
        found: Inputs and outputs that the library reports.
        wanted: Those that the description lists.

    Raises:
        FormatError: The engine does not match, or was not built from a bundle.
    """
    if set(found) != set(wanted):
        other = sorted(map(str, set(found) ^ set(wanted)))[0]
        raise FormatError(
            f"an engine is not what its description says: '{other}' is only in one of them; "
            "build it again with uda-runtime build"
        )
    outputs = [tensor for tensor in wanted if not tensor.input]
    batched = [tensor for tensor in wanted if tensor.input and tensor.name in BATCHED]
    if len(outputs) != 1 or len(batched) != 1 or outputs[0].dtype != "float32":
        raise FormatError(
            "an engine was not built from a bundle: it gives "
            f"{', '.join(map(str, outputs)) or 'nothing'}; "
            "build it again with uda-runtime build"
        )


def _deserialize(device: Device, runtime: trt.Runtime, plan: bytes) -> trt.ICudaEngine:
    device.activate()
    with device.whole_gpu, collected_messages() as messages:
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise messages.failure(
                f"open an engine of {len(plan)} bytes on {device.name}",
                "build it again with uda-runtime build, and free memory on the GPU",
            )
    return engine
