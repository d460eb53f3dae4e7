"""What a backend gives: engines, opened from graphs that hold no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """A graph, opened. One caller at a time; Session holds the lock."""

    inputs: frozenset[str]
    """Names of all inputs of the graph."""

    def bind(self, constants: Arrays) -> None:
        """Bind inputs that stay at one address: the weights.

        An engine on the CPU reads the given arrays in place at every run. One with memory of its
        own copies them now, and again when `updated` says so.

        Raises:
            BackendError: The graph has no such input, or the device cannot take it.
        """
        ...

    def updated(self, names: tuple[str, ...]) -> None:
        """Take note that the bound arrays of these names hold new values.

        Raises:
            BackendError: The device cannot take them.
        """
        ...

    def run(self, inputs: Arrays) -> NDArray[np.float32]:
        """Run once with the inputs that are not bound; return the one output, a fresh array."""
        ...

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""
        ...


class Backend(Protocol):
    """Opens engines of one kind on one device."""

    device: str
    version: str
    block: int
    """Channels in a block, if engines want filters laid out in blocks, else 1."""

    def open(self, graph: bytes, *, small: bool = False) -> Engine:
        """Return an engine for the bytes of an ONNX graph.

        Args:
            graph: An ONNX model.
            small: A few microseconds of work, like a head; not worth several threads.

        Raises:
            BackendError: The graph or the device cannot be used.
        """
        ...
