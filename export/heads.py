"""The heads of `adapt.heads` as weight-free graphs: one short function per kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.graph import Arrays, Graph
from runtime.errors import FormatError


def _bn_ln_linear(g: Graph) -> str:
    names = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    x = g.op("BatchNormalization", "features", *map(g.tensor, names), epsilon=1e-5)
    x = g.op(
        "LayerNormalization", x, g.tensor("ln.weight"), g.tensor("ln.bias"), axis=-1, epsilon=1e-6
    )
    return g.op("Gemm", x, g.tensor("linear.weight"), transB=1)


def _cosine(g: Graph) -> str:
    norm = g.op("ReduceL2", "features", g.constant([-1], np.int64), keepdims=1)
    # torch's `normalize` divides by at least this much, so a zero row stays zero.
    unit = g.op("Div", "features", g.op("Max", norm, g.constant(1e-12, np.float32)))
    return g.op("Gemm", unit, g.tensor("weight"), transB=1)


GRAPHS: dict[str, tuple[Callable[[Graph], str], str]] = {
    "bn-ln-linear": (_bn_ln_linear, "linear.weight"),
    "cosine": (_cosine, "weight"),
}
"""Kind to its graph and to the tensor (K, D) whose first axis is the classes."""


def head_graph(kind: str, tensors: Arrays) -> bytes:
    """Return the graph of a head, `features` (batch, D) to `logits` (batch, classes), in float32.

    Heads that differ in their class count only have the same bytes.

    Args:
        kind: A key of `adapt.heads.HEADS`.
        tensors: The head's tensors; their values are not read.

    Raises:
        FormatError: There is no graph for this kind.
    """
    if kind not in GRAPHS:
        raise FormatError(f"no graph for head kind '{kind[:40]}'; add one to export/heads.py")
    build, weight = GRAPHS[kind]
    graph = Graph({name: tensors[name] for name in sorted(tensors)}, "h")
    value = build(graph)
    dim = graph.shape(weight)[1]
    model = graph.model(
        value,
        ("features", np.float32, ["batch", dim]),
        ("logits", ["batch", "classes"]),
        {(weight, 0): "classes"},
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content
