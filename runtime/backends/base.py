"""The interface of a backend, which opens engines and owns the memory of the weights."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.memory.base import Arrays, Inputs, Memory

__all__ = ["Arrays", "Backend", "Engine", "FeaturesAndLogits", "Inputs"]

FeaturesAndLogits = tuple[NDArray[np.float32] | None, NDArray[np.float32]]
"""Features (N, D) where they were asked for, and logits (N, K)."""


class Engine(Protocol):
    """A graph, opened. One caller at a time; Session holds the lock."""

    inputs: frozenset[str]
    """Names of all inputs of the graph."""

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address: weights and tokens. Engines share one copy.

        Args:
            arrays: The `handles` of what lies in the memory of this engine's backend.

        Raises:
            BackendError: The graph has no such input, or the device cannot take it.
        """

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once with the inputs that are not bound; return the one output, a fresh array.

        Args:
            inputs: Frames, which come anew with every run, and tensors; those that lie on a device
                keep their values as long as the object that names their place is given.
        """

    def run_with_head(
        self, inputs: Inputs, head: Engine, tensors: Inputs, *, features: bool = False
    ) -> FeaturesAndLogits:
        """Run an encoder, then a head over its features, in one pass.

        Args:
            inputs: Inputs of this engine that are not bound, as for `run`.
            head: Engine of the same backend, with the input `features`.
            tensors: Other inputs of the head.
            features: Whether to return the features too, which else stay where they are.

        Returns:
            The features (N, D), None unless they are asked for, and the logits (N, K), the same
            either way; fresh arrays.
        """

    def close(self) -> None:
        """Release everything. Safe to call more than once."""


class Backend(Protocol):
    """Opens engines of one kind on one device.

    `backends.load` makes it, from the device, a number of threads for the CPU (None leaves it to
    the library), the bundle's folder and a folder of engines that were built before (None is the
    bundle's own); a backend that opens graphs directly ignores the folders.
    """

    device: str
    version: str
    block: int
    """Channels in a block, if engines want filters laid out in blocks, else 1, as on a device."""
    bf16: bool
    """Whether an encoder's inputs of two or more axes, weights and tokens, are the bits of bfloat16
    values where its graph has float32."""
    memory: Memory[Any]
    """Memory that engines bind their inputs in; closing it ends the backend."""

    def open(self, graph: bytes, *, small: bool = False, baked: Arrays | None = None) -> Engine:
        """Return an engine for the bytes of an ONNX graph.

        Args:
            graph: An ONNX model.
            small: A few microseconds of work, like a head; not worth several threads.
            baked: Values of inputs that never change, by name: the engine lays them out as it
                likes and no longer has these inputs. The arrays are not kept. A backend that
                declares them with `bake` also resolves them: the graph holds only their names.

        Raises:
            FormatError: The graph is damaged, or a baked array has no input that it fits.
            BackendError: The graph or the device cannot be used.
        """
