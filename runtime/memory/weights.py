"""Base weights in host memory, with at most one patch applied and undone in place.

All tensors are views of one buffer, so an engine binds them once and sees every switch. A switch is
at most two scatters per type: the old patch's base values, then the new patch's values. While one
thread switches, another may prepare a patch: a switch waits for a chunk of its reading at most.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.memory.form import PLAIN, Form
from runtime.memory.scatter import ResidentPatch, Scatter, with_fillers
from runtime.models import TensorSpec
from runtime.mutex import Mutex
from runtime.patch import Patch, check
from runtime.storage.digest import sha256_of

_CHUNK = 1 << 13
"""Entries that are read under the lock at once."""
_BARE = ResidentPatch()
"""The empty patch."""


class Weights:
    """Base weights with at most one patch applied.

    Any thread may call `prepare`; for all else Session holds a lock.
    """

    def __init__(
        self, buffer: NDArray[np.uint8], layout: Sequence[TensorSpec], form: Form = PLAIN
    ) -> None:
        """Lay `layout` over `buffer`, one tensor after the other, those of one type together.

        Args:
            buffer: (n,) uint8, writable, owned by this object from now on; tensors are there
                already, or are `put` there.
            layout: Tensors of the bundle, in its order; `form.held` has the order in the buffer.
            form: How they lie in the buffer. Weights of one base and equal forms take each other's
                patches.

        Raises:
            FormatError: The buffer does not have exactly the bytes of the layout, or tensors of
                one type do not lie together.
        """
        self.layout = {spec.name: spec for spec in layout}
        self.form = form
        held = form.held(layout)
        total = sum(spec.nbytes for spec in held)
        if total != buffer.nbytes or len(self.layout) != len(layout):
            raise FormatError(f"base weights have {buffer.nbytes} bytes, their table says {total}")
        self._held = {spec.name: spec for spec in held}
        self._offsets: dict[str, int] = {}
        self._flat: dict[str, NDArray[Any]] = {}
        start = 0
        for dtype, group in itertools.groupby(held, lambda spec: spec.dtype):
            size = 0
            for spec in group:
                self._offsets[spec.name] = size
                size += spec.size
            end = start + size * np.dtype(dtype).itemsize
            if dtype in self._flat or start % np.dtype(dtype).itemsize:
                raise FormatError(f"base tensors of type {dtype} do not lie together")
            self._flat[dtype] = buffer[start:end].view(dtype)
            start = end
        self._applied = _BARE
        """Patch that holds all entries that may differ from the base."""
        self._indices: dict[str, NDArray[np.intp]] = {}
        """Tensors of the applied patch that are known to be in `_scratch`."""
        self._scratch: dict[str, NDArray[np.intp]] = {}
        self._lock = Mutex()
        self._waiting = False

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a tensor as it is held, a live view: it changes when a patch is applied."""
        spec = self._held[name]
        start = self._offsets[name]
        return self._flat[spec.dtype][start : start + spec.size].reshape(spec.shape)

    def views(self) -> dict[str, NDArray[Any]]:
        """Return every tensor as it is held, a live view, by name."""
        return {name: self[name] for name in self.layout}

    @property
    def handles(self) -> dict[str, NDArray[Any]]:
        """Every tensor as engines bind it: its view."""
        return self.views()

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write a tensor of the base, given as the bundle has it, before any patch is prepared.

        Raises:
            FormatError: It cannot be held in this form.
        """
        self.form.place(self.layout[name], array, self[name])

    def original(self, name: str) -> NDArray[Any]:
        """Return a tensor as the bundle has it: a live view, or a copy in another form."""
        return self.form.original(self.layout[name], self[name])

    def prepare(self, patch: Patch) -> ResidentPatch | None:
        """Return a patch as `apply` takes it; None if it is empty. Reads the base, changes nothing.

        Another `Weights` of the same base and layout takes it as well.

        Raises:
            FormatError: The patch does not fit these weights.
        """
        by_type: dict[str, list[tuple[int, str]]] = {}
        for name, sparse in patch.items():
            if name not in self.layout:
                raise FormatError(f"the patch changes '{name}', which the base does not have")
            check(self.layout[name], sparse)
            by_type.setdefault(self._held[name].dtype, []).append((self._offsets[name], name))
        scatters = []
        for dtype, starts in by_type.items():
            count = sum(patch[name].indices.size for _, name in starts)
            # Filled piece by piece: a patch of all entries would else be there twice.
            indices, values, end = np.empty(count, np.int64), np.empty(count, dtype), 0
            for start, name in sorted(starts):
                here = slice(end, end := end + patch[name].indices.size)
                spec, sparse = self.layout[name], patch[name]
                indices[here], values[here] = self.form.entries(spec, sparse)
                indices[here] += start
            undo = self._base_values(dtype, indices)
            scatter = with_fillers(dtype, indices, values, undo, self._base_values)
            self._reserve(dtype, scatter.gaps.size)
            scatters.append(scatter)
        return ResidentPatch(scatters) if scatters else None

    def apply(self, patch: ResidentPatch | None) -> None:
        """Make the weights those of one patch: restore the base, then write the patch's values.

        If this is interrupted, the weights are invalid until it is called again.

        Args:
            patch: Patch from `prepare` of an object with the same base and layout; None
                is the bare base.
        """
        new = patch or _BARE
        self._waiting = True
        with self._lock:
            self._waiting = False
            for scatter in new:  # first, since memory may be lacking
                if self._room(scatter.dtype) < scatter.gaps.size:  # prepared by other weights
                    self._scratch[scatter.dtype] = np.empty(scatter.gaps.size, np.intp)
            for scatter in self._applied:
                indices = self._indices.get(scatter.dtype)
                if indices is None:  # its writing was interrupted
                    indices = self._unpack(scatter)
                self._flat[scatter.dtype][indices] = scatter.undo
            self._indices = {}
            self._applied = new  # before it is true, so that no entry is ever forgotten
            for scatter in new:
                indices = self._unpack(scatter)
                self._flat[scatter.dtype][indices] = scatter.values
                self._indices[scatter.dtype] = indices

    def sha256(self) -> str:
        """Return the digest of the base in memory; removes the patch."""
        self.apply(None)
        nbytes = sum(spec.nbytes for spec in self.layout.values())
        return sha256_of(self.layout, self.original, nbytes)

    def _unpack(self, scatter: Scatter) -> NDArray[np.intp]:
        """Return the indices of a scatter, in the buffer of its type."""
        indices = self._scratch[scatter.dtype][: scatter.gaps.size]
        np.copyto(indices, scatter.gaps)
        np.cumsum(indices, out=indices)
        return indices

    def _room(self, dtype: str) -> int:
        return self._scratch[dtype].size if dtype in self._scratch else 0

    def _reserve(self, dtype: str, count: int) -> None:
        """Make room for the indices of `count` entries, so that a switch allocates nothing."""
        if self._room(dtype) < count:
            room = np.ones(count, np.intp)  # written to, so that its pages are there
            with self._lock:
                # The applied patch keeps the room it has until the next switch.
                if self._room(dtype) < count:
                    self._scratch[dtype] = room

    def _base_values(self, dtype: str, indices: NDArray[np.int64]) -> NDArray[Any]:
        """Return the base's values at sorted `indices`, whatever patches come and go meanwhile."""
        values = np.empty(indices.size, dtype)
        for start in range(0, indices.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            self._gather(dtype, indices[part], values[part])
        return values

    def _gather(self, dtype: str, indices: NDArray[np.int64], out: NDArray[Any]) -> None:
        applied, undo = np.empty(0, np.intp), out[:0]
        with self._lock:
            out[...] = self._flat[dtype][indices]
            for scatter in self._applied:
                if scatter.dtype == dtype:
                    there = self._indices.get(dtype)
                    if there is None:  # its writing was interrupted
                        there = np.cumsum(scatter.gaps, dtype=np.intp)
                    first, last = np.searchsorted(there, (indices[0], indices[-1] + 1))
                    # A copy: the next switch writes over these indices.
                    applied, undo = there[first:last].copy(), scatter.undo[first:last]
        if self._waiting:
            time.sleep(1e-4)  # locks are not fair: this thread would win the next one, too
        if applied.size:
            at = np.minimum(np.searchsorted(applied, indices), applied.size - 1)
            patched = applied[at] == indices
            out[patched] = undo[at[patched]]
