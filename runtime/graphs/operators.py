"""The operators that a graph may use, and their shape inference.

Only what `export/` writes, with the attributes that it writes. Shapes are worked out so that no
value can be larger than a model needs, however few bytes ask for it. Whatever decides about a
shape (where a slice ends, how far a value is padded) must be a constant of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.graphs import images, shapes
from runtime.graphs.calls import Call, Made
from runtime.graphs.messages import shown
from runtime.graphs.wire import Damage

BLOCKED = "com.microsoft.nchwc"
"""ONNX Runtime's operators over blocks of channels, for the CPU."""


@dataclass(frozen=True)
class Operator:
    """The inputs and attributes that an operator may have, and its shape inference."""

    rule: Callable[[Call], Made]
    inputs: tuple[int, ...]
    """Allowed numbers of inputs."""
    attributes: frozenset[str] = frozenset()


_IMAGE = frozenset({"kernel_shape", "strides", "pads"})

OPERATORS: Mapping[str, Mapping[str, Operator]] = {
    "": {
        "Add": Operator(shapes.together, (2,)),
        "AveragePool": Operator(images.pool, (1,), frozenset({"kernel_shape", "strides"})),
        "BatchNormalization": Operator(shapes.batch_norm, (5,), frozenset({"epsilon"})),
        "Cast": Operator(shapes.cast, (1,), frozenset({"to"})),
        "Concat": Operator(shapes.concat, (2, 3), frozenset({"axis"})),
        "Conv": Operator(images.conv, (2, 3), _IMAGE),
        "Div": Operator(shapes.together, (2,)),
        "Erf": Operator(shapes.same, (1,)),
        "Gather": Operator(shapes.gather, (2,), frozenset({"axis"})),
        "Gemm": Operator(shapes.gemm, (2, 3), frozenset({"transB"})),
        "LayerNormalization": Operator(shapes.layer_norm, (3,), frozenset({"axis", "epsilon"})),
        "MatMul": Operator(shapes.matmul, (2,)),
        "Max": Operator(shapes.together, (2,)),
        "Mul": Operator(shapes.together, (2,)),
        "Pad": Operator(shapes.pad, (2,)),
        "ReduceL2": Operator(shapes.reduce, (2,), frozenset({"keepdims"})),
        "ReduceMean": Operator(shapes.reduce, (2,), frozenset({"keepdims"})),
        "ReduceSum": Operator(shapes.reduce, (2,), frozenset({"keepdims"})),
        "Relu": Operator(shapes.same, (1,)),
        "Reshape": Operator(shapes.reshape, (2,)),
        "Sigmoid": Operator(shapes.same, (1,)),
        "Slice": Operator(shapes.slice, (4,)),
        "Softmax": Operator(shapes.along, (1,), frozenset({"axis"})),
        "Transpose": Operator(shapes.transpose, (1,), frozenset({"perm"})),
    },
    BLOCKED: {
        "AveragePool": Operator(images.blocked_pool, (1,), frozenset({"kernel_shape", "strides"})),
        "Conv": Operator(images.blocked_conv, (3, 4), _IMAGE | {"activation"}),
        "ReorderOutput": Operator(images.reorder, (1,), frozenset({"channels", "channels_last"})),
    },
}
"""Operators by domain and name."""


def make(call: Call) -> Made:
    """Return the shape of a node's output.

    Raises:
        Damage: Its operator or an attribute is not one that the export writes, or its inputs do not
            fit the operator.
    """
    node = call.node
    known = OPERATORS.get(node.domain)
    operator = None if known is None else known.get(node.kind)
    if operator is None:
        domain = f" of domain {shown(node.domain)}" if node.domain else ""
        raise Damage(
            f"it uses operator {shown(node.kind)}{domain}; allowed: {', '.join(OPERATORS[''])}, "
            f"and of {BLOCKED}: {', '.join(OPERATORS[BLOCKED])}"
        )
    others = sorted(node.attributes.keys() - operator.attributes)
    if others:
        raise Damage(
            f"operator {node.kind} has attribute {shown(others[0])}; allowed: "
            f"{', '.join(sorted(operator.attributes)) or 'none'}"
        )
    if len(call.shapes) not in operator.inputs:
        raise Damage(
            f"operator {node.kind} has {len(call.shapes)} inputs, expected "
            f"{' or '.join(map(str, operator.inputs))}"
        )
    try:
        return operator.rule(call)
    except Damage as error:
        raise Damage(f"operator {node.kind}: {error}") from error
