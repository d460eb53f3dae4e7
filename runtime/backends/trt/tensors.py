"""Inputs and outputs of engines, read from the library's objects."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.backends.trt.library import trt
from runtime.models import check_text


@dataclass(frozen=True)
class Tensor:
    """An input or output of an engine."""

    name: str
    input: bool
    dtype: str
    """NumPy's name of the type."""
    shape: tuple[int, ...]
    """Lengths; -1 for an axis whose length the profile limits."""

    def __post_init__(self) -> None:
        check_text(self.name, self.dtype)
        if len(self.shape) > 8 or any(n < 1 and n != -1 for n in self.shape):
            raise ValueError(f"tensor '{self.name[:80]}' has an impossible shape {self.shape}")

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


def network_tensors(network: trt.INetworkDefinition) -> tuple[Tensor, ...]:
    """Return the inputs and outputs of a network."""
    inputs = [(network.get_input(i), True) for i in range(network.num_inputs)]
    outputs = [(network.get_output(i), False) for i in range(network.num_outputs)]
    return tuple(
        Tensor(each.name, taken, dtype_name(each.dtype), shape_of(each.shape))
        for each, taken in (*inputs, *outputs)
    )


def engine_tensors(engine: trt.ICudaEngine) -> tuple[Tensor, ...]:
    """Return the inputs and outputs of an engine."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return tuple(
        Tensor(
            name,
            engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            dtype_name(engine.get_tensor_dtype(name)),
            shape_of(engine.get_tensor_shape(name)),
        )
        for name in names
    )


def shape_of(dims: trt.Dims) -> tuple[int, ...]:
    """Return lengths as a tuple; -1 is a free one."""
    return tuple(dims[axis] for axis in range(len(dims)))


def dtype_name(dtype: trt.DataType) -> str:
    """Return NumPy's name of a type, or the library's where NumPy has none."""
    types = {
        trt.DataType.FLOAT: "float32",
        trt.DataType.HALF: "float16",
        trt.DataType.UINT8: "uint8",
        trt.DataType.INT32: "int32",
        trt.DataType.INT64: "int64",
    }
    return types.get(dtype, str(dtype))
