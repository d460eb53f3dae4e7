"""Pack a patch for `kernels/pages.h`: sorted entries with 16-bit positions within pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.models import TensorSpec
from runtime.patch import Patch, check

PAGE = np.dtype([("start", "<u8"), ("first", "<u4"), ("count", "<u4")])
_BITS = 16
"""Bits of a position within a page."""
_MOST = 2**32 - 1


@dataclass(frozen=True, eq=False)
class Pages:
    """A patch over all tensors of an arena. Costs 2 bytes per entry beside the value."""

    pages: NDArray[Any]
    """(p,) of type `PAGE`: the pages of 4-byte elements, then those of 2 bytes."""
    lows: NDArray[np.uint16]
    """(n,) position of each entry within its page, in elements."""
    values: NDArray[np.uint8]
    """The new values, one after the other: 4 bytes each, then 2 bytes each."""
    wide: int
    """How many entries are of 4 bytes."""


def pack(patch: Patch, layout: Mapping[str, TensorSpec], offsets: Mapping[str, int]) -> Pages:
    """Return a patch as the kernels take it.

    Args:
        patch: Entries per tensor.
        layout: The tensors of the arena by name.
        offsets: Byte of the arena at which each begins.

    Raises:
        FormatError: The patch does not fit the tensors.
    """
    for name, sparse in patch.items():
        if name not in layout:
            raise FormatError(f"the patch changes '{name}', which the base does not have")
        check(layout[name], sparse)
    total = sum(sparse.indices.size for sparse in patch.values())
    if total > _MOST:
        raise FormatError(f"the patch has {total} entries, a device takes {_MOST} at most")
    pages, lows, values = [np.empty(0, PAGE)], [np.empty(0, np.uint16)], [np.empty(0, np.uint8)]
    done = wide = 0
    for width in (4, 2):
        named = [name for name in patch if patch[name].values.itemsize == width]
        for name in sorted(named, key=offsets.__getitem__):
            indices = patch[name].indices.astype(np.uint64)
            page = indices >> np.uint64(_BITS)
            first = np.flatnonzero(np.diff(page, prepend=page[:1] + np.uint64(1)))
            table = np.empty(first.size, PAGE)
            table["start"] = offsets[name] + page[first] * np.uint64(width << _BITS)
            table["first"] = done + first
            table["count"] = np.diff(first, append=indices.size)
            pages.append(table)
            lows.append((indices & np.uint64((1 << _BITS) - 1)).astype(np.uint16))
            values.append(np.ascontiguousarray(patch[name].values).view(np.uint8))
            done += indices.size
        if width == 4:
            wide = done
    return Pages(np.concatenate(pages), np.concatenate(lows), np.concatenate(values), wide)
