"""An ONNX model as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.graphs.messages import (
    ATTRIBUTE,
    DIM,
    GRAPH,
    INFO,
    MAX_ELEMENTS,
    MODEL,
    NODE,
    OPSET,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    number_of,
    only,
    parse,
    shown,
    small,
    text_of,
)
from runtime.graphs.wire import Damage

FLOAT, UINT8, INT64, HALF = 1, 2, 7, 10
"""ONNX's numbers of the element types."""
TYPES = {FLOAT: "float32", UINT8: "uint8", INT64: "int64", HALF: "float16"}


@dataclass(frozen=True)
class Value:
    """An input or output of a graph."""

    name: str
    element: int
    shape: tuple[int | str, ...]
    """Lengths, or names of axes whose length is free."""


@dataclass(frozen=True)
class Node:
    """An operator with its inputs and outputs."""

    kind: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float | str | tuple[int, ...]]


@dataclass(frozen=True)
class Model:
    """A graph, and the operator sets that give its operators their meaning."""

    ir_version: int
    opsets: Mapping[str, int]
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def read(content: bytes) -> Model:
    """Return the model that the bytes of a file hold.

    Takes time linear in their number, and memory of the same order.

    Raises:
        Damage: The bytes are not a model, or hold more than an export writes.
    """
    model = parse(memoryview(content), MODEL, "model")
    opsets = [parse(each, OPSET, "operator set") for each in model["opset_import"]]
    names = [text_of(each, "domain", "") for each in opsets]
    if len({*names}) != len(names):
        raise Damage("it has two versions of an operator set")
    graph = parse(only(model, "graph", "model"), GRAPH, "graph")
    # Checked first: what a graph's nodes do is its most telling fault.
    nodes = tuple(_node(each) for each in graph["node"])
    constants: dict[str, NDArray[Any]] = {}
    for each in graph["initializer"]:
        name, array = _constant(each)
        if name in constants:
            raise Damage(f"it has two constants {shown(name)}")
        constants[name] = array
    return Model(
        ir_version=number_of(model, "ir_version", "model"),
        opsets={
            name: number_of(each, "version", "operator set")
            for name, each in zip(names, opsets, strict=True)
        },
        nodes=nodes,
        constants=constants,
        inputs=tuple(_value(each, "input") for each in graph["input"]),
        outputs=tuple(_value(each, "output") for each in graph["output"]),
    )


def _node(content: memoryview) -> Node:
    node = parse(content, NODE, "node")
    attributes: dict[str, int | float | str | tuple[int, ...]] = {}
    for each in node["attribute"]:
        name, value = _attribute(each)
        if name in attributes:
            raise Damage(f"a node has two attributes {shown(name)}")
        attributes[name] = value
    return Node(
        kind=text_of(node, "op_type"),
        domain=text_of(node, "domain", ""),
        inputs=tuple(text_of({"input": [each]}, "input") for each in node["input"]),
        outputs=tuple(text_of({"output": [each]}, "output") for each in node["output"]),
        attributes=attributes,
    )


def _attribute(content: memoryview) -> tuple[str, int | float | str | tuple[int, ...]]:
    found = parse(content, ATTRIBUTE, "attribute")
    name, kind = text_of(found, "name"), number_of(found, "type", "attribute")
    held = {field for field in ("f", "i", "s", "ints") if found[field]}
    wanted = {1: "f", 2: "i", 3: "s", 7: "ints"}.get(kind)
    if wanted is None or not held <= {wanted}:
        raise Damage(f"attribute {shown(name)} has another value than its type {kind} says")
    if wanted == "ints":
        return name, tuple(small(value, name) for value in found["ints"])
    if wanted == "i":
        return name, number_of(found, "i", "attribute")
    if wanted == "s":
        return name, text_of(found, "s")
    return name, float(np.frombuffer(only(found, "f", "attribute"), "<f4")[0])


def _constant(content: memoryview) -> tuple[str, NDArray[Any]]:
    found = parse(content, TENSOR, "constant")
    name, element = text_of(found, "name"), number_of(found, "data_type", "constant")
    if element not in (FLOAT, HALF, INT64):
        raise Damage(
            f"constant {shown(name)} has ONNX's type {element}, only float32 (1), int64 (7) and "
            "float16 (10) are allowed"
        )
    dims = [small(length, "dims") for length in found["dims"]]
    size = 1
    for length in dims:
        size *= length
    if min(dims, default=1) < 1 or size > MAX_ELEMENTS:
        raise Damage(
            f"constant {shown(name)} has shape {dims}, at most {MAX_ELEMENTS} values are allowed"
        )
    raw = b"".join(found["raw_data"])
    floats, whole = b"".join(found["float_data"]), found["int64_data"]
    dtype = np.dtype(TYPES[element]).newbyteorder("<")
    if raw and not floats and not whole:
        data = raw
    elif element == FLOAT and not raw and not whole:
        data = floats
    elif element == INT64 and not raw and not floats:
        data = np.array(whole, np.uint64).astype("<u8").tobytes()
    else:
        raise Damage(f"constant {shown(name)} has values of another type than its own")
    if len(data) != size * dtype.itemsize:
        raise Damage(f"constant {shown(name)} of shape {dims} has {len(data)} bytes of values")
    return name, np.frombuffer(data, dtype).reshape(dims)


def _value(content: memoryview, what: str) -> Value:
    found = parse(content, INFO, what)
    name = text_of(found, "name")
    kind = parse(only(found, "type", what), TYPE, "type")
    tensor = parse(only(kind, "tensor_type", "type"), TENSOR_TYPE, "tensor type")
    shape = parse(only(tensor, "shape", "tensor type"), SHAPE, "shape")
    lengths = [parse(each, DIM, "dimension") for each in shape["dim"]]
    return Value(
        name,
        number_of(tensor, "elem_type", "tensor type"),
        tuple(_length(each, name) for each in lengths),
    )


def _length(dim: Mapping[str, Sequence[Any]], name: str) -> int | str:
    value, symbol = dim["dim_value"], dim["dim_param"]
    if bool(value) == bool(symbol):
        raise Damage(f"an axis of {shown(name)} must have either a length or a name")
    if symbol:
        return text_of(dim, "dim_param")
    length = small(value[0], "dim_value")
    if length < 1:
        raise Damage(f"an axis of {shown(name)} has length {length}, expected at least 1")
    return length
