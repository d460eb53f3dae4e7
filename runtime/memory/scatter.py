"""A patch prepared for switching: one scatter per data type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_GAP = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Scatter:
    """A patch over all tensors of one type, ready to be applied.

    Costs 10 bytes per float32 entry, 6 per entry of two bytes: a 16-bit gap, the value and the
    base's value.
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


class ResidentPatch(tuple[Scatter, ...]):
    """A patch over tensors of several types: a scatter for each."""

    __slots__ = ()

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(scatter.nbytes for scatter in self)

    def close(self) -> None:
        """Do nothing: the memory is freed with the last reference."""


def with_fillers(
    dtype: str,
    indices: NDArray[np.int64],
    values: NDArray[Any],
    undo: NDArray[Any],
    base_values: Callable[[str, NDArray[np.int64]], NDArray[Any]],
) -> Scatter:
    """Return a scatter whose gaps fit 16 bits.

    Args:
        dtype: Data type of the tensors.
        indices: (n,) sorted positions, in elements of the type.
        values: (n,) the task's values there.
        undo: (n,) the base's values there.
        base_values: Function that returns the base's values for a type and sorted indices.
    """
    gaps = _gaps(indices)
    wide = np.flatnonzero(gaps > _MAX_GAP)
    if wide.size:
        fillers = (gaps[wide] - 1) // _MAX_GAP
        where = np.repeat(wide, fillers)
        step = np.arange(where.size) - np.repeat(np.cumsum(fillers) - fillers, fillers) + 1
        extra = indices[where] - gaps[where] + step * _MAX_GAP
        same = base_values(dtype, extra)
        indices = np.insert(indices, where, extra)
        values, undo = np.insert(values, where, same), np.insert(undo, where, same)
        gaps = _gaps(indices)
    return Scatter(dtype, gaps.astype(np.uint16), values, undo)


def _gaps(indices: NDArray[np.int64]) -> NDArray[np.int64]:
    gaps = indices.copy()
    gaps[1:] -= indices[:-1]
    return gaps
