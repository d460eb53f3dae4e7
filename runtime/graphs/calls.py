"""A graph node with its input shapes, and its output shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from runtime.graphs.lengths import Shape
from runtime.graphs.model import Node
from runtime.graphs.wire import Damage


class Call:
    """A node with the shapes of its inputs."""

    def __init__(self, node: Node, shapes: list[Shape], constants: list[NDArray[Any] | None]):
        """Wrap a node with the shape of each of its inputs, and the value where it is known."""
        self.node, self.shapes, self._constants = node, shapes, constants

    def whole(self, name: str, default: int) -> int:
        """Return a whole number among the attributes."""
        value = self.node.attributes.get(name, default)
        if not isinstance(value, int):
            raise Damage(f"attribute '{name}' must be a whole number")
        return value

    def row(self, name: str, default: list[int]) -> list[int]:
        """Return a list of as many whole numbers as the default has, at least 0 each."""
        value = self.node.attributes.get(name, tuple(default))
        if not isinstance(value, tuple) or len(value) != len(default) or min(value) < 0:
            raise Damage(f"attribute '{name}' must be {len(default)} whole numbers, at least 0")
        return list(value)

    def axis(self, value: int, rank: int) -> int:
        """Return an axis, counted from the front."""
        if not -rank <= value < rank:
            raise Damage(f"axis {value} of a value with {rank} axes")
        return value % rank

    def constant(self, index: int) -> list[int]:
        """Return the whole numbers that an input must hold whatever the frame."""
        array = self._constants[index]
        if array is None or array.dtype.kind != "i" or array.ndim > 1:
            raise Damage(f"input {index} must be a constant of the graph, a row of int64")
        return [int(value) for value in array.reshape(-1)]

    def rank(self, index: int, *ranks: int) -> Shape:
        """Return the shape of an input, which must have a number of axes."""
        shape = self.shapes[index]
        if len(shape) not in ranks:
            raise Damage(
                f"input {index} has {len(shape)} axes, expected {' or '.join(map(str, ranks))}"
            )
        return shape


@dataclass(frozen=True)
class Made:
    """The output of a node."""

    shape: Shape
    products: int = 0
    """Multiplications, for one frame and the most classes; 0 where they are as many as elements."""
