"""The weights in memory: the base, at most one patch over it, and the way back.

All tensors are views of one buffer, so an engine binds them once and sees every switch. A switch is
at most two scatters per type: the old patch's base values, then the new patch's values.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.blocked import fits, from_blocks, positions, to_blocks
from runtime.errors import FormatError
from runtime.patch import Patch, SparseTensor, check
from runtime.spec import TensorSpec

_MAX_GAP = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Scatter:
    """A patch over all tensors of one type, ready to be applied.

    Costs 10 bytes per float32 entry: a 16-bit gap, the value and the base's value.
    """

    dtype: str
    gaps: NDArray[np.uint16]
    """(n,) distance from the entry before, in elements of the type; entries whose gap would not
    fit are preceded by fillers, which write the base's value over itself."""
    values: NDArray[Any]
    """(n,) the task's values."""
    undo: NDArray[Any]
    """(n,) the base's values."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.gaps.nbytes + self.values.nbytes + self.undo.nbytes


ResidentPatch = tuple[Scatter, ...]


class Weights:
    """Base weights with at most one patch applied. Not thread-safe; Session holds the lock."""

    def __init__(self, buffer: NDArray[np.uint8], layout: Sequence[TensorSpec]) -> None:
        """Lay `layout` over `buffer`, one tensor after the other, those of one type together.

        Args:
            buffer: (n,) uint8, writable, owned by this object from now on.
            layout: Tensors in the order in which their bytes lie in the buffer.

        Raises:
            FormatError: The buffer does not have exactly the bytes of the layout, or tensors of
                one type do not lie together.
        """
        self.layout = {spec.name: spec for spec in layout}
        total = sum(spec.nbytes for spec in layout)
        if total != buffer.nbytes or len(self.layout) != len(layout):
            raise FormatError(f"base weights have {buffer.nbytes} bytes, their table says {total}")
        self._offsets: dict[str, int] = {}
        self._flat: dict[str, NDArray[Any]] = {}
        start = 0
        for dtype, group in itertools.groupby(layout, lambda spec: spec.dtype):
            size = 0
            for spec in group:
                self._offsets[spec.name] = size
                size += spec.size
            end = start + size * np.dtype(dtype).itemsize
            if dtype in self._flat or start % np.dtype(dtype).itemsize:
                raise FormatError(f"base tensors of type {dtype} do not lie together")
            self._flat[dtype] = buffer[start:end].view(dtype)
            start = end
        self._block = 1
        self._applied: ResidentPatch = ()
        self._indices: dict[str, NDArray[np.intp]] = {}
        self._scratch: dict[str, NDArray[np.intp]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a tensor as a live view: it changes when a patch is applied."""
        spec = self.layout[name]
        start = self._offsets[name]
        return self._flat[spec.dtype][start : start + spec.size].reshape(spec.shape)

    def views(self) -> dict[str, NDArray[Any]]:
        """Return every tensor as a live view, by name."""
        return {name: self[name] for name in self.layout}

    @property
    def applied(self) -> ResidentPatch:
        """The patch that is applied; empty for the bare base."""
        return self._applied

    def originals(self) -> dict[str, NDArray[Any]]:
        """Return every tensor in the bundle's order of entries: a view, or a copy of filters."""
        return {
            name: from_blocks(view, self._block) if self._is_blocked(name) else view
            for name, view in self.views().items()
        }

    def lay_out(self, block: int) -> None:
        """Lay all filters out in blocks of channels, before any patch is prepared.

        Args:
            block: Channels in a block; 1 changes nothing.

        Raises:
            FormatError: The channels make no whole blocks.
        """
        if block == 1:
            return
        filters = [spec for spec in self.layout.values() if len(spec.shape) == 4]
        for spec in filters:
            if not fits(spec.shape, block):
                raise FormatError(
                    f"the channels of '{spec.name}' {spec.shape} make no whole blocks of {block}; "
                    "export the bundle again"
                )
        for spec in filters:
            self[spec.name][...] = to_blocks(self[spec.name], block)
        self._block = block

    def prepare(self, patch: Patch) -> ResidentPatch:
        """Return a patch in the form that `apply` takes; reads the base, changes nothing.

        Raises:
            FormatError: The patch does not fit these weights.
        """
        by_type: dict[str, list[tuple[int, str]]] = {}
        for name, sparse in patch.items():
            if name not in self.layout:
                raise FormatError(f"the patch changes '{name}', which the base does not have")
            check(self.layout[name], sparse)
            by_type.setdefault(self.layout[name].dtype, []).append((self._offsets[name], name))
        scatters = []
        for dtype, places in by_type.items():
            parts = [self._placed(n, patch[n], start) for start, n in sorted(places)]
            indices, values = (np.concatenate(part) for part in zip(*parts, strict=True))
            undo = self._base_values(dtype, indices)
            scatter = _with_fillers(dtype, indices, values, undo, self._base_values)
            self._reserve(dtype, scatter.gaps.size)
            scatters.append(scatter)
        return tuple(scatters)

    def apply(self, patch: ResidentPatch) -> None:
        """Make the weights those of one patch: restore the base, then write the patch's values.

        Args:
            patch: From `prepare` of this object; empty for the bare base.
        """
        for scatter in self._applied:
            self._flat[scatter.dtype][self._indices[scatter.dtype]] = scatter.undo
        self._applied = patch
        self._indices = {}
        for scatter in patch:
            indices = self._scratch[scatter.dtype][: scatter.gaps.size]
            np.copyto(indices, scatter.gaps)
            np.cumsum(indices, out=indices)
            self._flat[scatter.dtype][indices] = scatter.values
            self._indices[scatter.dtype] = indices

    def _is_blocked(self, name: str) -> bool:
        return self._block > 1 and len(self.layout[name].shape) == 4

    def _placed(
        self, name: str, sparse: SparseTensor, start: int
    ) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return the sorted places of a tensor's changed entries in its type, and their values."""
        if not self._is_blocked(name):
            return sparse.indices.astype(np.int64) + start, sparse.values
        places = positions(sparse.indices, self.layout[name].shape, self._block)
        order = np.argsort(places)
        return places[order] + start, sparse.values[order]

    def _reserve(self, dtype: str, count: int) -> None:
        """Make room for the indices of `count` entries, so that a switch allocates nothing."""
        old = self._scratch.get(dtype)
        if old is None or old.size < count:
            self._scratch[dtype] = np.empty(count, np.intp)
            if dtype in self._indices:
                applied = self._indices[dtype]
                self._scratch[dtype][: applied.size] = applied
                self._indices[dtype] = self._scratch[dtype][: applied.size]

    def _base_values(self, dtype: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return the base's values at sorted `indices`, whatever patch is applied."""
        values = self._flat[dtype][indices]
        for scatter in self._applied:
            if scatter.dtype == dtype:
                applied = self._indices[dtype]
                place = np.minimum(np.searchsorted(applied, indices), applied.size - 1)
                patched = applied[place] == indices
                values[patched] = scatter.undo[place[patched]]
        return values


def patch_nbytes(patch: ResidentPatch) -> int:
    """Return the bytes of memory a resident patch takes."""
    return sum(scatter.nbytes for scatter in patch)


def _with_fillers(
    dtype: str,
    indices: NDArray[np.int64],
    values: NDArray[Any],
    undo: NDArray[Any],
    base_values: Any,
) -> Scatter:
    gaps = np.diff(indices, prepend=0)
    fillers = np.maximum(gaps - 1, 0) // _MAX_GAP
    if fillers.any():
        where = np.repeat(np.arange(gaps.size), fillers)
        step = np.arange(where.size) - np.repeat(np.cumsum(fillers) - fillers, fillers) + 1
        extra = (indices - gaps)[where] + step * _MAX_GAP
        same = base_values(dtype, extra)
        indices = np.insert(indices, where, extra)
        values, undo = np.insert(values, where, same), np.insert(undo, where, same)
        gaps = np.diff(indices, prepend=0)
    return Scatter(dtype, gaps.astype(np.uint16), values, undo)
