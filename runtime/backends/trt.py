"""TensorRT or TensorRT-RTX on a GPU. Opens engines that `uda-runtime build` made; builds none.

Neither torch nor cupy: memory and the stream are those of `runtime.cuda`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Arrays, Constants, Inputs
from runtime.cuda.base import Device, DeviceArray, Mailbox
from runtime.digest import tensors_sha256
from runtime.engine_file import content_of
from runtime.engine_store import EngineStore
from runtime.errors import BackendError, FormatError
from runtime.files import sha256
from runtime.trt_device import platform_of, runtime_on
from runtime.trt_library import library, said, trt
from runtime.trt_tensors import Tensor, engine_tensors, shape_of

if TYPE_CHECKING:
    from runtime.cuda.device import CudaDevice
    from runtime.profile import Profile

_DEVICE = re.compile(r"cuda(?::([0-9]{1,3}))?", re.ASCII)
_ALIGNED = 256
"""Bytes; what TensorRT wants of every address."""
BATCHED = ("pixels", "features")
"""Inputs with a frame in each row; a graph has one of them."""


class TrtBackend:
    """Opens engines from a store, for the GPU that it is given.

    Raises:
        BackendError: The device is no GPU or is not there, or TensorRT is missing or unfit.
    """

    block = 1

    def __init__(self, device: str, threads: int | None, engines: EngineStore | None) -> None:
        match = _DEVICE.fullmatch(device)
        if match is None:
            raise BackendError(
                f"backend 'trt' runs on a GPU, found device '{device}'; pass --device cuda, or "
                "cuda:1 for the second one"
            )
        self.version = str(library())
        self.device = device
        if engines is None:
            raise BackendError("backend 'trt' needs to know where the engines of a bundle lie")
        self._store = engines
        from runtime.cuda.device import CudaDevice  # here: it needs the driver

        self.cuda: CudaDevice | None = CudaDevice(int(match[1] or 0))
        self.machine = platform_of(self.cuda)
        self._runtime = runtime_on(self.cuda)

    def open(self, graph: bytes, *, small: bool = False, baked: Arrays | None = None) -> TrtEngine:
        """Return the engine that was built from a graph.

        Args:
            graph: The ONNX model it was built from.
            small: Of no use here.
            baked: The values that were built in.

        Raises:
            BackendError: There is no engine of it for this GPU and library; the message has the
                command that builds one. Or the library cannot open it.
            FormatError: It is damaged.
        """
        weights = tensors_sha256(baked) if baked else None
        options = "" if weights is None else " --strategy engines"
        found = self._store.find(content_of(sha256(graph), weights), self.machine, options)
        plan = self._store.plan(found)
        assert self.cuda is not None
        return TrtEngine(self.cuda, self._runtime, plan, found.tensors, found.recipe.profile)

    def place(self, arrays: Arrays) -> Constants:
        """Refuse: what engines read here lies on the device.

        Raises:
            BackendError: Always.
        """
        raise BackendError(f"arrays of the host cannot be bound on {self.device}")


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
            device: Whose stream and memory it uses.
            runtime: Of that device.
            plan: As the library wrote it.
            tensors: What it must take and give.
            profile: What it was built for.

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
        self._engine: trt.ICudaEngine | None = engine
        self._context: trt.IExecutionContext | None = context
        self._types = {tensor.name: tensor.dtype for tensor in tensors}
        self.inputs = frozenset(tensor.name for tensor in tensors if tensor.input)
        (self._output,) = (tensor.name for tensor in tensors if not tensor.input)
        (self._batched,) = (name for name in BATCHED if name in self.inputs)
        self._bound: set[str] = set()
        self._mail: dict[str, Mailbox] = {}

    def bind(self, constants: Constants) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The engine has no such input, or one of another type or shape.
        """
        for name, value in constants.handles.items():
            self._set(name, value)
            self._bound.add(name)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once, or in several parts if there are more frames than the profile takes at once.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        missing = self.inputs - self._bound - inputs.keys()
        if missing:
            raise BackendError(f"the graph wants '{min(missing)}'; export the bundle again")
        self._device.activate()
        for name, value in inputs.items():
            if name != self._batched:
                self._set(name, self._there(name, value))
        frames, most = inputs[self._batched], self._profile.batch.max
        parts = [
            self._part(_rows(frames, start, min(start + most, frames.shape[0])))
            for start in range(0, max(frames.shape[0], 1), most)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""
        if self._context is not None:
            self._device.synchronize()
        self._context = self._engine = None
        for mailbox in self._mail.values():
            mailbox.close()
        self._mail.clear()

    def _part(self, frames: NDArray[Any] | DeviceArray) -> NDArray[np.float32]:
        context = self._open()
        self._set(self._batched, self._there(self._batched, frames))
        shape = shape_of(context.get_tensor_shape(self._output))
        nbytes = int(np.prod(shape)) * 4
        mailbox = self._mailbox(self._output, nbytes)
        with said() as messages:
            if not (
                context.set_tensor_address(self._output, mailbox.address)
                and context.execute_async_v3(self._device.stream)
            ):
                raise messages.failure("run an engine", "build it again with uda-runtime build")
        mailbox.pull(nbytes)
        self._device.synchronize()
        return mailbox.host[:nbytes].view(np.float32).reshape(shape).copy()

    def _set(self, name: str, value: DeviceArray) -> None:
        """Make an input read an array on the device."""
        context = self._open()
        if name not in self.inputs:
            raise BackendError(f"the graph has no input '{name}'; export the bundle again")
        with said():  # the error below says more
            fits = (
                value.dtype == self._types[name]
                and context.set_input_shape(name, trt.Dims(list(value.shape)))
                and context.set_tensor_address(name, value.address)
            )
        if not fits:
            own = self._profile
            raise BackendError(
                f"an engine of profile '{own.name}' takes batches of {own.batch} and {own.classes} "
                f"classes, found {value.dtype}{list(value.shape)} for '{name}'; build with another "
                "--profile, or export the bundle again if its parts do not fit"
            )

    def _there(self, name: str, value: NDArray[Any] | DeviceArray) -> DeviceArray:
        """Return an array as what lies on the device when the stream gets there, aligned."""
        if isinstance(value, DeviceArray) and value.address % _ALIGNED == 0:
            return value
        mailbox = self._mailbox(name, value.nbytes)
        if isinstance(value, DeviceArray):
            self._device.copy(value.address, mailbox.address, value.nbytes)
            return DeviceArray(mailbox.address, value.dtype, value.shape)
        # The run before has ended, so nothing reads the mailbox any more.
        np.copyto(mailbox.host[: value.nbytes].view(value.dtype).reshape(value.shape), value)
        mailbox.push(value.nbytes)
        return DeviceArray(mailbox.address, value.dtype.name, value.shape)

    def _mailbox(self, name: str, nbytes: int) -> Mailbox:
        if name not in self._mail or self._mail[name].nbytes < nbytes:
            if name in self._mail:
                self._mail.pop(name).close()
            self._mail[name] = self._device.mailbox(max(nbytes, 1))
        return self._mail[name]

    def _open(self) -> trt.IExecutionContext:
        if self._context is None:
            raise BackendError("the engine is closed; open a new session")
        return self._context


def _rows(frames: NDArray[Any] | DeviceArray, start: int, stop: int) -> NDArray[Any] | DeviceArray:
    """Return some of the frames, without copying them."""
    if not isinstance(frames, DeviceArray):
        return frames[start:stop]
    row = frames.nbytes // max(frames.shape[0], 1)
    shape = (stop - start, *frames.shape[1:])
    return DeviceArray(frames.address + start * row, frames.dtype, shape)
