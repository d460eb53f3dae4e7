"""Sparse patches: changed entries of the base's tensors, and their new values.

A patch holds the new values, not differences: applying it is an assignment, so it is exact in every
precision and doing it twice is doing it once.

On disk a patch costs about 5 bytes per float32 entry: the gaps between sorted indices and the
values are split into byte planes (all first bytes, all second bytes, ...), whose few high bytes
take few values, and deflated. Unsorted or repeated indices cannot be expressed at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.models import TensorSpec
from runtime.packing import pack, unpack
from runtime.storage.fields import build

GAPS = "patch.gaps"
VALUES = "patch.values."
PREFIX = "patch."
"""Start of the names of a patch's tensors in a file."""


@dataclass(frozen=True)
class SparseTensor:
    """New values of some entries of one tensor."""

    indices: NDArray[np.uint32]
    """(n,) flat row-major positions, strictly increasing."""
    values: NDArray[Any]
    """(n,) in the tensor's own type."""


Patch = Mapping[str, SparseTensor]


@dataclass(frozen=True)
class TableEntry:
    """A row of the table that is stored beside a patch's tensors: one changed tensor."""

    name: str
    dtype: str
    count: int


def diff(base: Mapping[str, NDArray[Any]], changed: Mapping[str, NDArray[Any]]) -> Patch:
    """Return the patch that turns `base` into `changed`, comparing bit patterns.

    Raises:
        ValueError: Names, shapes or types differ.
    """
    if base.keys() != changed.keys():
        raise ValueError(f"tensor names differ: {sorted(base.keys() ^ changed.keys())[:3]}")
    patch = {}
    for name, old in base.items():
        new = changed[name]
        if old.shape != new.shape or old.dtype != new.dtype:
            raise ValueError(f"'{name}' is {old.dtype}{old.shape} and {new.dtype}{new.shape}")
        bits = np.dtype(f"u{old.itemsize}")
        where = np.flatnonzero(_flat(old).view(bits) != _flat(new).view(bits))
        if where.size:
            patch[name] = SparseTensor(where.astype(np.uint32), _flat(new)[where])
    return patch


def merge(
    base: Mapping[str, NDArray[Any]], patch: Patch, *, in_place: bool = False
) -> dict[str, NDArray[Any]]:
    """Return the base tensors with the patch applied.

    Args:
        base: Every tensor by name.
        patch: New values of some entries.
        in_place: Whether to write into the base, whose tensors must be contiguous, without a copy.

    Raises:
        FormatError: The patch names a tensor that the base lacks, or does not fit it.
    """
    for name, sparse in patch.items():
        if name not in base:
            raise FormatError(f"the patch changes '{name}', which the base does not have")
        check(TensorSpec(name, base[name].dtype.name, base[name].shape), sparse)  # type: ignore[arg-type]
    merged = dict(base) if in_place else {n: array.copy(order="C") for n, array in base.items()}
    for name, sparse in patch.items():
        merged[name].reshape(-1)[sparse.indices] = sparse.values
    return merged


def check(spec: TensorSpec, sparse: SparseTensor) -> None:
    """Check that a sparse tensor fits a tensor.

    Raises:
        FormatError: Indices are unsorted or out of range, the type differs, a value is not finite.
    """
    indices, values = sparse.indices, sparse.values
    if values.dtype.name != spec.dtype or values.shape != indices.shape or indices.ndim != 1:
        raise FormatError(f"patch of '{spec.name}' is {values.dtype}, expected {spec.dtype}")
    if indices.size and int(indices[-1]) >= spec.size:
        raise FormatError(
            f"patch of '{spec.name}' changes entry {int(indices[-1])} of {spec.size}; the file is "
            "damaged or belongs to another base"
        )
    if indices.size > 1 and not bool((indices[1:] > indices[:-1]).all()):
        raise FormatError(f"patch of '{spec.name}' has unsorted or repeated indices")
    if not bool(np.isfinite(values).all()):
        raise FormatError(f"patch of '{spec.name}' holds a value that is not finite")


def size(patch: Patch) -> int:
    """Return the number of entries a patch changes."""
    return sum(sparse.indices.size for sparse in patch.values())


def encode(patch: Patch) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.uint8]]]:
    """Return a patch as a JSON-serialisable table and the tensors of a checksummed file."""
    names = sorted(patch)
    table = [
        {"name": n, "dtype": patch[n].values.dtype.name, "count": patch[n].indices.size}
        for n in names
    ]
    gaps = [_gaps(patch[n].indices) for n in names]
    tensors = {GAPS: pack(np.concatenate([np.empty(0, np.uint32), *gaps]).astype("<u4"))}
    for dtype in sorted({patch[n].values.dtype.name for n in names}):
        values = [patch[n].values for n in names if patch[n].values.dtype == dtype]
        tensors[VALUES + dtype] = pack(np.concatenate(values))
    return table, tensors


def read_table(table: object, layout: Mapping[str, TensorSpec]) -> list[TableEntry]:
    """Return the table of a patch, checked against the tensors that it changes.

    Args:
        table: First result of `encode`, read from JSON.
        layout: Layout of the base's tensors, by name.

    Raises:
        FormatError: The table is damaged, or names tensors or entries that the base lacks.
    """
    if not isinstance(table, list):
        raise FormatError("the patch table is not a list")
    rows = [build(TableEntry, row, "patch table") for row in table]
    if len({row.name for row in rows}) != len(rows):
        raise FormatError("the patch table names a tensor twice")
    for row in rows:
        if row.name not in layout or layout[row.name].dtype != row.dtype:
            raise FormatError(
                f"the patch changes '{row.name[:80]}' ({row.dtype[:20]}), which the base lacks"
            )
        if not 0 < row.count <= layout[row.name].size:
            raise FormatError(
                f"the patch changes {row.count} of {layout[row.name].size} '{row.name}'"
            )
    return rows


def count(rows: Sequence[TableEntry]) -> int:
    """Return the number of entries that a patch with this table changes."""
    return sum(row.count for row in rows)


def decode(
    rows: Sequence[TableEntry],
    tensors: Mapping[str, NDArray[Any]],
    layout: Mapping[str, TensorSpec],
) -> Patch:
    """Return the patch that `encode` wrote, checked against the tensors it changes.

    Takes 8 bytes of memory per float32 entry, and little more while it runs.

    Args:
        rows: Table from `read_table`, for the same layout.
        tensors: Second result of `encode`; names that do not start with `PREFIX` are ignored.
        layout: Layout of the base's tensors, by name.

    Raises:
        FormatError: The patch is damaged or does not fit the layout.
    """
    names = {GAPS, *(VALUES + e.dtype for e in rows)}
    if others := [name for name in tensors if name.startswith(PREFIX) and name not in names]:
        raise FormatError(f"the patch has an unknown tensor '{min(others)[:80]}'")
    gaps = unpack(tensors, GAPS, "<u4", count(rows))
    values = {
        dtype: unpack(
            tensors, VALUES + dtype, dtype, sum(e.count for e in rows if e.dtype == dtype)
        )
        for dtype in sorted({e.dtype for e in rows})
    }
    patch, start, used = {}, 0, dict.fromkeys(values, 0)
    for e in rows:
        indices, first = gaps[start : start + e.count], used[e.dtype]
        last = int(indices.sum(dtype=np.uint64)) + e.count - 1
        if last >= layout[e.name].size:
            raise FormatError(
                f"the patch changes entry {last} of '{e.name}', which has {layout[e.name].size}; "
                "the file is damaged or belongs to another base"
            )
        # In place, since a patch may change every entry; nothing overflows below the last one.
        indices[1:] += 1
        np.cumsum(indices, out=indices)
        sparse = SparseTensor(indices, values[e.dtype][first : first + e.count])
        check(layout[e.name], sparse)
        patch[e.name] = sparse
        start += e.count
        used[e.dtype] += e.count
    return patch


def _gaps(indices: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the number of entries between each index and the one before, from 0."""
    gaps = indices.copy()
    gaps[1:] -= indices[:-1] + 1
    return gaps


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array).reshape(-1)
