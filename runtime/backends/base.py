"""What a backend gives: engines for graphs that hold no weights, and memory for the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice

Arrays = Mapping[str, NDArray[Any]]
Inputs = Mapping[str, "NDArray[Any] | DeviceArray"]
"""An engine on a device takes arrays that lie there already as well."""


class Constants(Protocol):
    """Arrays at one address that engines read at every run; any number of them share one copy.

    On the CPU these are the given arrays themselves; on a device, what lies there.
    """

    handles: Mapping[str, Any]
    """What the engines of this backend bind, by name; `DeviceArray` where it has a device."""

    def close(self) -> None:
        """Release the device's memory. Closing twice is harmless."""
        ...


class Engine(Protocol):
    """A graph, opened. One caller at a time; Session holds the lock."""

    inputs: frozenset[str]
    """Names of all inputs of the graph."""

    def bind(self, constants: Constants) -> None:
        """Bind inputs that stay at one address: weights and tokens.

        Args:
            constants: From `place` of this engine's backend.

        Raises:
            BackendError: The graph has no such input, or the device cannot take it.
        """
        ...

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
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
    cuda: CudaDevice | None
    """Where engines run and bind what they read by address; None if that is the host's memory."""

    def open(self, graph: bytes, *, small: bool = False, baked: Arrays | None = None) -> Engine:
        """Return an engine for the bytes of an ONNX graph.

        Args:
            graph: An ONNX model.
            small: A few microseconds of work, like a head; not worth several threads.
            baked: Values of inputs that never change, by name: the engine lays them out as it
                likes and has these inputs no more. The arrays are not kept.

        Raises:
            FormatError: The graph is damaged, or a baked array has no input that it fits.
            BackendError: The graph or the device cannot be used.
        """
        ...

    def place(self, arrays: Arrays) -> Constants:
        """Return arrays in the form that engines bind; the arrays are kept, and read in place.

        For backends without a device.
        """
        ...
