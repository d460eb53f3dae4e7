"""How the tensors of a base lie in memory: as in the bundle, or as a backend's engines read them.

Filters may lie in blocks of channels, and the matrices of a bf16 bundle, which are float32 in its
file, may take two bytes a value. Either way each entry has one place, so a switch is a scatter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.memory.bf16 import narrowed, widened
from runtime.memory.blocked import fits, from_blocks, positions, to_blocks
from runtime.models import TensorSpec
from runtime.patch import SparseTensor


class Form(NamedTuple):
    """How tensors lie in memory."""

    block: int = 1
    """Channels in a block of the filters; 1 if they lie as in the bundle."""
    bf16: bool = False
    """Whether float32 tensors of two or more axes are held as the bits of bfloat16 values."""

    def held(self, layout: Iterable[TensorSpec]) -> list[TensorSpec]:
        """Return the tensors of a bundle as they lie in memory, those of one type together."""
        specs = [
            TensorSpec(spec.name, "uint16", spec.shape) if self._narrows(spec) else spec
            for spec in layout
        ]
        # Those of four bytes first, which is where they are aligned.
        return sorted(specs, key=lambda spec: spec.dtype == "uint16")

    def keeps(self, spec: TensorSpec) -> bool:
        """Return whether a tensor lies in memory as it does in the bundle."""
        return not (self._blocks(spec) or self._narrows(spec))

    def place(self, spec: TensorSpec, array: NDArray[Any], into: NDArray[Any]) -> None:
        """Write a tensor of the bundle as it lies in memory.

        Args:
            spec: The tensor.
            array: Its values, contiguous.
            into: Array of the type that `held` says.

        Raises:
            FormatError: Its channels are not a multiple of a block, or a value is not a bfloat16
                value.
        """
        if self._blocks(spec):
            if not fits(spec.shape, self.block):
                raise FormatError(
                    f"the channels of '{spec.name}' {spec.shape} make no whole blocks of "
                    f"{self.block}; export the bundle again"
                )
            array = to_blocks(array, self.block)
        if self._narrows(spec):
            narrowed(array, f"'{spec.name}'", into)
        else:
            into[...] = array

    def original(self, spec: TensorSpec, held: NDArray[Any]) -> NDArray[Any]:
        """Undo `place`: return a fresh array, or `held` itself."""
        array = widened(held) if self._narrows(spec) else held
        return from_blocks(array, self.block) if self._blocks(spec) else array

    def entries(
        self, spec: TensorSpec, sparse: SparseTensor
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the sorted places in memory of a tensor's changed entries, and their values.

        Raises:
            FormatError: A value is not a bfloat16 value.
        """
        indices, values = sparse.indices.astype(np.int64), sparse.values
        if self._blocks(spec):
            indices = positions(sparse.indices, spec.shape, self.block)
            order = np.argsort(indices)
            indices, values = indices[order], values[order]
        if self._narrows(spec):
            values = narrowed(np.ascontiguousarray(values), f"the patch of '{spec.name}'")
        return indices, values

    def _blocks(self, spec: TensorSpec) -> bool:
        return self.block > 1 and len(spec.shape) == 4

    def _narrows(self, spec: TensorSpec) -> bool:
        return self.bf16 and spec.dtype == "float32" and len(spec.shape) >= 2


PLAIN = Form()
"""The form that tensors have in a bundle."""
