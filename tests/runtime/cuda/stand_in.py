"""What `runtime.backends.trt` calls of TensorRT, for a driver whose device memory is the host's.

Whatever opens or releases an engine may wait for the whole GPU, and here it does.

A plan is a line of JSON (the profile, and what is to go wrong) and an ONNX graph, which ONNX
Runtime computes when the stream gets there, again for each launch of a graph that recorded it.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import weakref
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime

__version__ = "10.16.1.11"
Dims = tuple
_TYPES = {1: "FLOAT", 2: "UINT8", 6: "INT32", 7: "INT64", 10: "HALF"}
ACTIVATIONS = 3000
"""Bytes that a context computes in, which it is given."""
calls: Counter[str] = Counter()
"""Of contexts, by name, those that are made among them."""
activations: list[int] = []
"""Where contexts compute, of each that was made."""
_kept: list[object] = []
"""What streams and graphs of the driver may still call."""
_NUMPY = {"FLOAT": "float32", "UINT8": "uint8", "HALF": "float16"}


class DataType(enum.Enum):
    FLOAT, HALF, UINT8, INT32, INT64 = range(5)


class TensorIOMode(enum.Enum):
    NONE, INPUT, OUTPUT = range(3)


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = range(3)


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL(os.environ["EMULATED_CUDA"])


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def plan(graph: bytes, profile: object, values: object = None, broken: str = "") -> bytes:
    """Return an engine; `values` become constants.

    `broken` is `nan`, `again` (nan, but not at once), `batch`, `run`, `record` (it runs, but cannot
    be recorded) or `contexts` (there is room for one).
    """
    model = onnx.load_from_string(graph)
    for name, array in (values or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    left = [i for i in model.graph.input if i.name not in (values or {})]
    del model.graph.input[:]
    model.graph.input.extend(left)
    spans = {axis: (getattr(profile, axis).min, getattr(profile, axis).max) for axis in _AXES}
    head = json.dumps({"stand-in": spans, "broken": broken}).encode()
    return head + b"\n" + model.SerializeToString()


_AXES = ("batch", "classes")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> ICudaEngine | None:
        _driver().cuCtxSynchronize()
        head, _, graph = content.partition(b"\n")
        if not head.startswith(b'{"stand-in"'):
            self._logger.log(ILogger.Severity.ERROR, "the plan has a bad magicTag")
            return None
        return ICudaEngine(json.loads(head), graph, self._logger)


class ICudaEngine:
    def __del__(self) -> None:
        _driver().cuCtxSynchronize()

    def __init__(self, head: dict, graph: bytes, logger: ILogger) -> None:
        self.head, self.graph, self.logger = head, graph, logger
        model = onnx.load_from_string(graph).graph
        self.inputs = [info.name for info in model.input]
        self.infos = {info.name: info.type.tensor_type for info in (*model.input, *model.output)}
        (self.output,) = (info.name for info in model.output)
        self.contexts, self.runs = 0, Counter()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(graph, options, providers=providers)

    @property
    def num_io_tensors(self) -> int:
        return len(self.infos)

    def get_tensor_name(self, index: int) -> str:
        return list(self.infos)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[_TYPES[self.infos[name].elem_type]]

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims(d.dim_value or -1 for d in self.infos[name].shape.dim)

    @property
    def device_memory_size_v2(self) -> int:
        return ACTIVATIONS

    def create_execution_context(self, strategy: object) -> IExecutionContext | None:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        if self.head["broken"] == "contexts" and self.contexts:
            self.logger.log(ILogger.Severity.ERROR, "out of memory")
            return None
        self.contexts += 1
        calls["contexts"] += 1
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._shapes, self._addresses = engine, {}, {}
        self._memory, self._recorded = 0, False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= ACTIVATIONS and memory % 256 == 0
        self._memory = memory
        activations.append(memory)

    def set_input_shape(self, name: str, shape: Dims) -> bool:
        calls["set_input_shape"] += 1
        assert not self._recorded, "TensorRT forbids changing what a graph was recorded from"
        axes = self._engine.infos[name].shape.dim
        fits = len(axes) == len(shape)
        for axis, length in zip(axes, shape, strict=False):
            least, most = self._engine.head["stand-in"].get(axis.dim_param, [axis.dim_value] * 2)
            fits = fits and least <= length <= most
        if not fits:
            self._engine.logger.log(ILogger.Severity.ERROR, f"{name}: {shape} is out of range")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        calls["set_tensor_address"] += 1
        assert not self._recorded, "TensorRT forbids changing what a graph was recorded from"
        assert address % 256 == 0, "TensorRT wants so much alignment"
        self._addresses[name] = address
        return True

    def get_tensor_shape(self, name: str) -> Dims:
        lengths = {}
        for other, shape in self._shapes.items():
            for axis, length in zip(self._engine.infos[other].shape.dim, shape, strict=True):
                lengths[axis.dim_param] = length
        return Dims(
            d.dim_value or lengths.get(d.dim_param, -1) for d in self._engine.infos[name].shape.dim
        )

    def execute_async_v3(self, stream: int) -> bool:
        broken = self._engine.head["broken"]
        if broken == "run" or self._addresses.keys() != self._engine.infos.keys():
            self._engine.logger.log(ILogger.Severity.ERROR, "an address is missing")
            return False
        if _driver().emulated_recording(ctypes.c_void_p(stream)):
            self._recorded = True
            if broken == "record":
                self._engine.logger.log(ILogger.Severity.ERROR, "operation not permitted")
                return False
        calls["execute_async_v3"] += 1
        compute = ctypes.CFUNCTYPE(None)(self._work())
        _kept.append(compute)
        return _driver().emulated_call(ctypes.c_void_p(stream), compute) == 0

    def _work(self) -> Callable[[], None]:
        """Return what runs when the stream gets there, with the addresses of now."""
        engine, memory, alive = self._engine, self._memory, weakref.ref(self)
        broken, shape = engine.head["broken"], tuple(self.get_tensor_shape(engine.output))
        inputs = {n: self._array(n, self._shapes[n], self._addresses[n]) for n in engine.inputs}
        output = self._array(engine.output, shape, self._addresses[engine.output])

        def compute() -> None:
            assert alive() is not None, "a context is gone while it is on the stream"
            ctypes.memset(memory, 0x5A, ACTIVATIONS)
            result = engine.session.run(None, inputs)[0]
            engine.runs[len(result)] += 1
            if broken == "nan" or (broken == "again" and engine.runs[len(result)] > 2):
                result[-1, 0] = np.nan
            if broken == "batch" and len(result) > 1:
                result += 1 + np.abs(result)
            np.copyto(output, result)

        return compute

    def _array(self, name: str, shape: tuple[int, ...], address: int) -> np.ndarray:
        dtype = np.dtype(_NUMPY[self._engine.get_tensor_dtype(name).name])
        size = int(np.prod(shape)) * dtype.itemsize
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)
