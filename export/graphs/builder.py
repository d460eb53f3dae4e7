"""Build ONNX graphs whose weights are inputs, node by node.

The exporter of torch is not used: it renames and transposes weights, takes seconds, and its bytes
change with its version. A handful of operators, in the fastest order, gives the same
bytes every time, so that tasks of one kind share an engine, and every weight keeps its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Arrays = Mapping[str, NDArray[Any]]

OPSET = 18
"""Understood by ONNX Runtime and by TensorRT since 8.6 (JetPack 6)."""
_IR_VERSION = 8  # the one of opset 18
_MAX_CONSTANT = 64
"""Elements; mean, std and shapes are smaller, weights are larger."""


class Graph:
    """A graph under construction. Methods return the names of the values that they add."""

    def __init__(self, tensors: Arrays, prefix: str, domains: Sequence[str] = ()) -> None:
        """Start a graph.

        Args:
            tensors: Weights that become inputs, in this order; only types and shapes are read.
            prefix: Prefix of the names of all intermediate values, so that graphs can be joined.
            domains: Operator sets to import beside that of ONNX.
        """
        self._tensors = {name: (array.dtype, array.shape) for name, array in tensors.items()}
        self._used: set[str] = set()
        self._prefix, self._domains = prefix, domains
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, bytes, tuple[int, ...]], onnx.TensorProto] = {}

    @property
    def half(self) -> bool:
        """Whether some weights are float16, and so what is computed with them."""
        return any(dtype == np.float16 for dtype, _ in self._tensors.values())

    def tensor(self, name: str) -> str:
        """Return the input that holds weight `name`."""
        if name not in self._tensors:
            raise ValueError(f"the graph needs '{name}', which is not a deploy tensor")
        self._used.add(name)
        return name

    def has(self, name: str) -> bool:
        """Return whether there is a weight `name`."""
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of weight `name`."""
        return self._tensors[name][1]

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of weight `name`."""
        return self._tensors[name][0]

    def constant(self, value: object, dtype: Any) -> str:
        """Return a small constant; equal ones are stored once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.tobytes(), array.shape)
        if key not in self._constants:
            name = f"{self._prefix}c{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return self._constants[key].name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that."""
        name = f"{self._prefix}{len(self._nodes)}"
        node = helper.make_node(kind, inputs, [name], name=f"{kind}_{name}", domain=domain)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self._nodes.append(node)
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """Return `value` converted to a NumPy type."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, value: str, *shape: int) -> str:
        """Return `value` with another shape; 0 keeps a length, -1 infers one."""
        return self.op("Reshape", value, self.constant(shape, np.int64))

    def model(
        self,
        value: str,
        source: tuple[str, Any, Sequence[int | str]],
        result: tuple[str, Sequence[int | str]],
        symbols: Mapping[tuple[str, int], str] | None = None,
    ) -> onnx.ModelProto:
        """Return the finished model.

        Args:
            value: Result of the last node, float32.
            source: Name, NumPy type and shape of the input that is not a weight.
            result: Name and shape of the output.
            symbols: Names of the variable axes of weights, by (tensor, axis).

        Raises:
            ValueError: A tensor is not used, or the value is not the last node's.
        """
        unused = sorted(self._tensors.keys() - self._used)
        if unused:
            raise ValueError(f"the graph does not use '{unused[0]}'")
        if not self._nodes or self._nodes[-1].output[0] != value:
            raise ValueError(f"'{value}' is not the result of the last node")
        self._nodes[-1].output[0] = result[0]
        named = symbols or {}
        inputs = [(source[0], np.dtype(source[1]), source[2])] + [
            (name, dtype, [named.get((name, axis), n) for axis, n in enumerate(shape)])
            for name, (dtype, shape) in self._tensors.items()
        ]
        graph = helper.make_graph(
            self._nodes,
            self._prefix,
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), shape)
                for name, dtype, shape in inputs
            ],
            [helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        opsets += [helper.make_opsetid(domain, 1) for domain in self._domains]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        model.producer_name = "uda-export"
        check_weight_free(model)
        if not self._domains:
            onnx.checker.check_model(model, full_check=True)
        return model


def check_weight_free(model: onnx.ModelProto) -> None:
    """Check that no constant of a graph is as large as a weight.

    Raises:
        ValueError: A constant is.
    """
    for constant in model.graph.initializer:
        if np.prod(constant.dims) > _MAX_CONSTANT:
            raise ValueError(f"constant '{constant.name}' {list(constant.dims)} is a weight")
