"""TensorRT's builder for the stand-in, as `backends/trt/builder.py` calls it: it builds no code.

Measuring is what takes a builder's time. This one measures every node of a graph, unless its timing
cache has it from a build on the same GPU; `measured` says what it did.
"""

from __future__ import annotations

import enum
import hashlib
import json
from pathlib import Path

import onnx

from tests.runtime.cuda import stand_in
from tests.runtime.cuda.stand_in import (
    DataType,
    Dims,
    ExecutionContextAllocationStrategy,
    ILogger,
    Runtime,
    TensorIOMode,
    __version__,
)

__all__ = [
    "DataType",
    "Dims",
    "ExecutionContextAllocationStrategy",
    "ILogger",
    "Runtime",
    "TensorIOMode",
    "__version__",
]
measured: list[str] = []
"""Names of the outputs of nodes, in the order in which they were measured."""
_GPU = "Emulated GPU"


class BuilderFlag(enum.Enum):
    TF32 = 0


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class IProgressMonitor:
    pass


class _Tensor:
    def __init__(self, info: onnx.ValueInfoProto) -> None:
        self.name, self._dims = info.name, info.type.tensor_type.shape.dim
        self.shape = [d.dim_value or -1 for d in self._dims]
        self.dtype = DataType[stand_in._TYPES[info.type.tensor_type.elem_type]]

    def get_dimension_name(self, axis: int) -> str:
        return self._dims[axis].dim_param


class INetworkDefinition:
    def __init__(self) -> None:
        self.model = onnx.ModelProto()
        self._inputs: list[_Tensor] = []
        self._outputs: list[_Tensor] = []

    def take(self, model: onnx.ModelProto) -> None:
        self.model = model
        self._inputs = [_Tensor(info) for info in model.graph.input]
        self._outputs = [_Tensor(info) for info in model.graph.output]

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> _Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> _Tensor:
        return self._outputs[index]


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network

    def parse(self, content: bytes, path: str) -> bool:
        model = onnx.load_from_string(content)
        onnx.external_data_helper.load_external_data_for_model(model, str(Path(path).parent))
        self._network.take(model)
        return True


class ITimingCache:
    """A line of JSON: the GPU, and the nodes that were measured on it."""

    def __init__(self, gpu: str, known: list[str]) -> None:
        self.gpu, self.known = gpu, known

    def serialize(self) -> bytes:
        return json.dumps({"gpu": self.gpu, "known": self.known}).encode()


class IBuilderConfig:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger
        self.cache: ITimingCache | None = None
        self.spans: dict[str, tuple[int, int]] = {}
        self.flags: set[BuilderFlag] = {BuilderFlag.TF32}
        self.progress_monitor: IProgressMonitor | None = None
        self.limits: dict[MemoryPoolType, int] = {}

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.limits[pool] = pool_size

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag)

    def add_optimization_profile(self, profile: _Profile) -> None:
        self.spans = profile.spans

    def create_timing_cache(self, content: bytes) -> ITimingCache | None:
        try:
            return ITimingCache(**json.loads(content)) if content else ITimingCache(_GPU, [])
        except ValueError:
            self._logger.log(ILogger.Severity.ERROR, "the timing cache is damaged")
            return None

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if cache.gpu != _GPU and not ignore_mismatch:
            self._logger.log(ILogger.Severity.ERROR, "the timing cache is of another GPU")
            return False
        self.cache = cache
        return True


class _Profile:
    def __init__(self) -> None:
        self.spans: dict[str, tuple[int, int]] = {}

    def set_shape(self, name: str, least: Dims, best: Dims, most: Dims) -> None:
        self.spans[name] = (least, most)


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> INetworkDefinition:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._logger)

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> bytes | None:
        assert not config.flags, "TF32 rounds a residual away"
        assert config.limits, "a graph decides how much memory it takes"
        cache = config.cache or ITimingCache(_GPU, [])
        for node in network.model.graph.node:
            key = hashlib.sha256(node.SerializeToString()).hexdigest()
            if key not in cache.known:
                measured.append(node.output[0])
                cache.known.append(key)
        spans = {}
        for info in network.model.graph.input:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                if dim.dim_param:
                    spans[dim.dim_param] = [bound[axis] for bound in config.spans[info.name]]
        head = json.dumps({"stand-in": spans, "broken": ""}).encode()
        return head + b"\n" + network.model.SerializeToString()
