"""The contract of an encoder family's deployable form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from export.graphs.builder import Graph


class Form(Protocol):
    """One family's deployable form: which tensors a device holds, and the graph over them."""

    size: int
    """Height and width of the images, in pixels."""
    dim: int
    """Number of features D."""
    blockable: bool
    """Whether `build` can write ONNX Runtime's blocked convolutions for the CPU."""

    def deploy(self, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the deploy tensors of a tower's tensors, both float32."""

    def stays_float32(self, name: str) -> bool:
        """Return whether a tensor, of the tower or deployed, is float32 in every precision."""

    def check_tokens(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the shapes of prompt tokens by name.

        Raises:
            BaseModelError: They do not fit this tower, or it takes none.
        """

    def build(self, g: Graph, image: str, blocked: bool = False) -> str:
        """Add the encoder to a graph.

        Args:
            g: Graph over `deploy`'s tensors, and prompt tokens if there are any.
            image: Normalised images (N, 3, S, S).
            blocked: Whether to write blocked convolutions; only where `blockable`.

        Returns:
            Features (N, D).
        """
