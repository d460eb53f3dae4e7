"""A TensorRT engine on the stream of a device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Inputs
from runtime.backends.trt.cuda_graphs import Recorded
from runtime.backends.trt.library import said, trt
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.tensors import Tensor, engine_tensors, shape_of
from runtime.cuda.base import Device, DeviceArray, Mailbox
from runtime.errors import BackendError, FormatError

_ALIGNED = 256
"""Bytes; what TensorRT wants of every address."""
_ROOM = 1 << 24
"""Bytes for the output, at most, that are kept for larger ones, so that its address stays."""
BATCHED = ("pixels", "features")
"""Inputs with a frame in each row; a graph has one of them."""


class TrtEngine:
    """An engine on the stream of a device."""

    def __init__(
        self,
        device: Device,
        runtime: trt.Runtime,
        plan: bytes,
        tensors: tuple[Tensor, ...],
        profile: Profile,
    ) -> None:
        """Open a plan.

        Args:
            device: Device with the stream and memory to use.
            runtime: TensorRT runtime of that device.
            plan: Plan as the library wrote it.
            tensors: Expected inputs and outputs.
            profile: Profile that it was built with.

        Raises:
            BackendError: The library cannot open it.
            FormatError: It takes or gives something else.
        """
        device.activate()
        with said() as messages:
            engine = runtime.deserialize_cuda_engine(plan)
            context = engine.create_execution_context() if engine is not None else None
            if engine is None or context is None:
                raise messages.failure(
                    f"open an engine of {len(plan)} bytes on {device.name}",
                    "build it again with uda-runtime build, and free memory on the GPU",
                )
        found = engine_tensors(engine)
        if set(found) != set(tensors):
            other = sorted(map(str, set(found) ^ set(tensors)))[0]
            raise FormatError(
                f"an engine is not what its description says: '{other}' is only in one of them; "
                "build it again with uda-runtime build"
            )
        self._device, self._profile = device, profile
        self._opened: tuple[trt.IExecutionContext, Recorded] | None = (
            context,
            Recorded(device, engine),
        )
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self.inputs = frozenset(tensor.name for tensor in tensors if tensor.input)
        outputs = [tensor for tensor in tensors if not tensor.input]
        batched = [name for name in BATCHED if name in self.inputs]
        if len(outputs) != 1 or len(batched) != 1 or outputs[0].dtype != "float32":
            raise FormatError(
                "an engine was not built from a bundle: it gives "
                f"{', '.join(map(str, outputs)) or 'nothing'}; "
                "build it again with uda-runtime build"
            )
        self._output, self._batched = outputs[0].name, batched[0]
        spans = (profile.batch, profile.classes)
        shape = zip(outputs[0].shape, spans, strict=False)
        largest = (length if length > 0 else span.max for length, span in shape)
        self._room = min(4 * math.prod(largest), _ROOM)
        self._bound: dict[str, DeviceArray] = {}
        self._shapes: dict[tuple[object, ...], tuple[int, ...]] = {}
        """Of the output, by those of the inputs that fit."""
        self._mail: dict[str, Mailbox] = {}

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The engine has no such input, or one of another type or shape, or the
                array is not on the device.
        """
        for name, value in arrays.items():
            if not isinstance(value, DeviceArray):
                raise BackendError(
                    f"an engine on {self._device.name} binds what lies there, found an array of "
                    f"the host for '{name}'; take it from the memory of the engine's backend"
                )
            self._check(name, value)
            self._bound[name] = value
        self._forget()

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once, or in several parts if there are more frames than the profile takes at once.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        missing = self.inputs - self._bound.keys() - inputs.keys()
        if missing:
            raise BackendError(f"the graph wants '{min(missing)}'; export the bundle again")
        self._device.activate()
        others = {
            name: self._there(name, value, value.nbytes)
            for name, value in inputs.items()
            if name != self._batched
        }
        frames, most = inputs[self._batched], self._profile.batch.max
        parts = [
            self._part(_rows(frames, start, min(start + most, frames.shape[0])), others)
            for start in range(0, max(frames.shape[0], 1), most)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Release everything. Safe to call more than once."""
        if self._opened is not None:
            with contextlib.suppress(BackendError):  # a device that has failed does nothing more
                self._device.synchronize()
            self._opened[1].close()
        self._opened = None
        for mailbox in self._mail.values():
            mailbox.close()
        self._mail.clear()

    def _part(
        self, frames: NDArray[Any] | DeviceArray, others: Mapping[str, DeviceArray]
    ) -> NDArray[np.float32]:
        count, most = max(frames.shape[0], 1), self._profile.batch.max
        # Room for the largest batch at once, so that the address stays.
        there = self._there(self._batched, frames, frames.nbytes // count * most)
        inputs = {**others, self._batched: there}
        shape = self._fit(inputs)
        nbytes = 4 * math.prod(shape)
        mailbox = self._mailbox(self._output, max(nbytes, self._room))
        context, recorded = self._open()
        if not recorded.run(inputs, self._output, mailbox.address, self._bound):
            self._set(context, {**self._bound, **inputs})
            with said() as messages:
                if not (
                    context.set_tensor_address(self._output, mailbox.address)
                    and context.execute_async_v3(self._device.stream)
                ):
                    raise messages.failure("run an engine", "build it again with uda-runtime build")
        mailbox.pull(nbytes)
        self._device.synchronize()
        return mailbox.host[:nbytes].view(np.float32).reshape(shape).copy()

    def _fit(self, inputs: Mapping[str, DeviceArray]) -> tuple[int, ...]:
        """Return the shape of the output; what was found to fit is not looked at again."""
        context, _ = self._open()
        key = tuple((name, array.dtype, array.shape) for name, array in inputs.items())
        if key not in self._shapes:
            for name, value in inputs.items():
                self._check(name, value)
            self._set(context, {**self._bound, **inputs})
            self._shapes[key] = shape_of(context.get_tensor_shape(self._output))
        return self._shapes[key]

    def _check(self, name: str, value: DeviceArray) -> None:
        """Check an input against what the engine takes, free axes aside."""
        if name not in self.inputs:
            raise BackendError(f"the graph has no input '{name}'; export the bundle again")
        wanted = self._tensors[name]
        same = len(wanted.shape) == len(value.shape) and all(
            length in (-1, found) for length, found in zip(wanted.shape, value.shape, strict=True)
        )
        if wanted.dtype != value.dtype or not same:
            raise BackendError(
                f"an engine takes {wanted}, found {value.dtype}{list(value.shape)}; export the "
                "bundle again, its parts do not fit"
            )

    def _set(self, context: trt.IExecutionContext, inputs: Mapping[str, DeviceArray]) -> None:
        own = self._profile
        for name, value in inputs.items():
            with said():  # the error below says more
                fits = context.set_input_shape(name, trt.Dims(list(value.shape)))
                fits = fits and context.set_tensor_address(name, value.address)
            if not fits:
                raise BackendError(
                    f"an engine of profile '{own.name}' takes batches of {own.batch} and "
                    f"{own.classes} classes, found {list(value.shape)} for '{name}'; build with "
                    "another --profile"
                )

    def _there(self, name: str, value: NDArray[Any] | DeviceArray, room: int) -> DeviceArray:
        """Return an array as what lies on the device when the stream gets there, aligned."""
        if isinstance(value, DeviceArray) and value.address % _ALIGNED == 0:
            return value
        mailbox = self._mailbox(name, max(room, value.nbytes))
        if isinstance(value, DeviceArray):
            self._device.copy(value.address, mailbox.address, value.nbytes)
            return DeviceArray(mailbox.address, value.dtype, value.shape)
        # The run before has ended, so nothing reads the mailbox any more.
        np.copyto(mailbox.host[: value.nbytes].view(value.dtype).reshape(value.shape), value)
        mailbox.push(value.nbytes)
        return DeviceArray(mailbox.address, value.dtype.name, value.shape)

    def _mailbox(self, name: str, nbytes: int) -> Mailbox:
        self._open()
        if name not in self._mail or self._mail[name].nbytes < nbytes:
            if name in self._mail:
                self._forget()
                self._mail.pop(name).close()
            self._mail[name] = self._device.mailbox(nbytes)
        return self._mail[name]

    def _forget(self) -> None:
        """Release what was recorded with other addresses."""
        _, recorded = self._open()
        self._device.synchronize()
        recorded.close()

    def _open(self) -> tuple[trt.IExecutionContext, Recorded]:
        if self._opened is None:
            raise BackendError("the engine is closed; open a new session")
        return self._opened


def _rows(frames: NDArray[Any] | DeviceArray, start: int, stop: int) -> NDArray[Any] | DeviceArray:
    """Return some of the frames, without copying them."""
    if not isinstance(frames, DeviceArray):
        return frames[start:stop]
    row = frames.nbytes // max(frames.shape[0], 1)
    shape = (stop - start, *frames.shape[1:])
    return DeviceArray(frames.address + start * row, frames.dtype, shape)
