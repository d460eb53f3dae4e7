"""Build the heads of `adapt.methods.heads` as weight-free graphs, with one function per kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from export.graphs.builder import Arrays, Graph
from runtime.bundles.entries import CLASSES
from runtime.errors import FormatError

_NORM = ("weight", "bias", "running_mean", "running_var")
_EPSILON = 1e-5
"""Epsilon of torch's BatchNorm1d."""


@dataclass(frozen=True)
class HeadKind:
    """How one kind of head becomes a graph."""

    build: Callable[[Graph], str]
    """Adds the head to a graph, from `features` to logits."""
    takes: str
    """A tensor whose second axis is the features D."""
    classes: tuple[str, ...]
    """The tensors whose first axis is the classes K."""


def _bn_ln_linear(g: Graph) -> str:
    x = g.op("BatchNormalization", "features", *_norm(g), epsilon=_EPSILON)
    x = g.op(
        "LayerNormalization", x, g.tensor("ln.weight"), g.tensor("ln.bias"), axis=-1, epsilon=1e-6
    )
    return g.op("Gemm", x, g.tensor("linear.weight"), transB=1)


def _cosine(g: Graph) -> str:
    return g.op("Gemm", _unit(g, "features"), g.tensor("weight"), transB=1)


def _affine(g: Graph) -> str:
    unit = _unit(g, "features")
    return g.op("Gemm", unit, g.tensor("weight"), g.tensor("bias"), transB=1)


def _projector_cosine(g: Graph) -> str:
    x = g.op("BatchNormalization", _linear(g, "features", "proj1"), *_norm(g), epsilon=_EPSILON)
    x = _linear(g, g.op("Relu", x), "proj2")
    return g.op("Gemm", _unit(g, x), g.tensor("weight"), transB=1)


def _linear(g: Graph, x: str, name: str) -> str:
    return g.op("Gemm", x, g.tensor(f"{name}.weight"), g.tensor(f"{name}.bias"), transB=1)


def _norm(g: Graph) -> list[str]:
    return [g.tensor(f"bn.{part}") for part in _NORM]


def _unit(g: Graph, x: str) -> str:
    norm = g.op("ReduceL2", x, g.constant([-1], np.int64), keepdims=1)
    # torch's `normalize` divides by at least this much, so a zero row stays zero.
    return g.op("Div", x, g.op("Max", norm, g.constant(1e-12, np.float32)))


GRAPHS: dict[str, HeadKind] = {
    "affine": HeadKind(_affine, "weight", ("weight", "bias")),
    "bn-ln-linear": HeadKind(_bn_ln_linear, "linear.weight", ("linear.weight",)),
    "cosine": HeadKind(_cosine, "weight", ("weight",)),
    "projector-cosine": HeadKind(_projector_cosine, "proj1.weight", ("weight",)),
}
"""Graphs by the kinds of `adapt.methods.heads.HEADS`."""


def head_shapes(kind: str, tensors: Arrays) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a head's tensors, `CLASSES` for the number of classes.

    Args:
        kind: Key of `adapt.methods.heads.HEADS`.
        tensors: Tensors of the head.

    Raises:
        FormatError: There is no graph for this kind.
    """
    own = _kind(kind)
    return {
        name: (CLASSES, *array.shape[1:]) if name in own.classes else array.shape
        for name, array in sorted(tensors.items())
    }


def head_graph(kind: str, tensors: Arrays) -> bytes:
    """Return the graph of a head, `features` (batch, D) to `logits` (batch, classes), in float32.

    Heads that differ in their class count only have the same bytes.

    Args:
        kind: Key of `adapt.methods.heads.HEADS`.
        tensors: Tensors of the head; their values are not read.

    Raises:
        FormatError: There is no graph for this kind.
    """
    own = _kind(kind)
    graph = Graph({name: tensors[name] for name in sorted(tensors)}, "h")
    value = own.build(graph)
    model = graph.model(
        value,
        ("features", np.float32, ["batch", graph.shape(own.takes)[1]]),
        ("logits", ["batch", "classes"]),
        {(name, 0): "classes" for name in own.classes},
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _kind(kind: str) -> HeadKind:
    if kind not in GRAPHS:
        raise FormatError(
            f"unknown head kind '{kind[:40]}'; available: {', '.join(sorted(GRAPHS))}; update "
            "uda-edge, or train with another method"
        )
    return GRAPHS[kind]
