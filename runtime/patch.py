"""Sparse patches: changed entries of the base's tensors, and their new values.

A patch holds the new values, not differences: applying it is an assignment, so it is exact in every
precision and doing it twice is doing it once.

On disk a patch costs about 5 bytes per float32 entry: the gaps between sorted indices and the
values are split into byte planes (all first bytes, all second bytes, ...), whose few high bytes
take few values, and deflated. Unsorted or repeated indices cannot be expressed at all.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.models import TensorSpec
from runtime.storage.fields import build

GAPS = "patch.gaps"
VALUES = "patch.values."


@dataclass(frozen=True)
class SparseTensor:
    """New values of some entries of one tensor."""

    indices: NDArray[np.uint32]
    """(n,) flat row-major positions, strictly increasing."""
    values: NDArray[Any]
    """(n,) in the tensor's own type."""


Patch = Mapping[str, SparseTensor]


@dataclass(frozen=True)
class _Entry:
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
    tensors = {GAPS: _pack(np.concatenate([np.empty(0, np.uint32), *gaps]).astype("<u4"))}
    for dtype in sorted({patch[n].values.dtype.name for n in names}):
        values = [patch[n].values for n in names if patch[n].values.dtype == dtype]
        tensors[VALUES + dtype] = _pack(np.concatenate(values))
    return table, tensors


def decode(
    table: object, tensors: Mapping[str, NDArray[Any]], layout: Mapping[str, TensorSpec]
) -> Patch:
    """Return the patch that `encode` wrote, checked against the tensors it changes.

    Args:
        table: First result of `encode`, read from JSON.
        tensors: Second result of `encode`; other names are ignored.
        layout: Layout of the base's tensors, by name.

    Raises:
        FormatError: The patch is damaged or does not fit the layout.
    """
    if not isinstance(table, list):
        raise FormatError("the patch table is not a list")
    entries = [build(_Entry, row, "patch table") for row in table]
    if len({e.name for e in entries}) != len(entries):
        raise FormatError("the patch table names a tensor twice")
    for e in entries:
        if e.name not in layout or layout[e.name].dtype != e.dtype:
            raise FormatError(f"the patch changes '{e.name}' ({e.dtype}), which the base lacks")
        if not 0 < e.count <= layout[e.name].size:
            raise FormatError(f"the patch changes {e.count} of {layout[e.name].size} '{e.name}'")
    gaps = _unpack(tensors, GAPS, "<u4", sum(e.count for e in entries)).astype(np.int64)
    values = {
        dtype: _unpack(
            tensors, VALUES + dtype, dtype, sum(e.count for e in entries if e.dtype == dtype)
        )
        for dtype in sorted({e.dtype for e in entries})
    }
    patch, start, used = {}, 0, dict.fromkeys(values, 0)
    for e in entries:
        indices = np.cumsum(gaps[start : start + e.count] + 1) - 1
        if int(indices[-1]) >= layout[e.name].size:
            raise FormatError(
                f"the patch changes entry {int(indices[-1])} of '{e.name}', which has "
                f"{layout[e.name].size}; the file is damaged or belongs to another base"
            )
        first = used[e.dtype]
        sparse = SparseTensor(indices.astype(np.uint32), values[e.dtype][first : first + e.count])
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


def _pack(array: NDArray[Any]) -> NDArray[np.uint8]:
    planes = array.view(np.uint8).reshape(-1, array.itemsize).T
    return np.frombuffer(zlib.compress(planes.tobytes(), 9), np.uint8)


def _unpack(tensors: Mapping[str, NDArray[Any]], name: str, dtype: str, count: int) -> NDArray[Any]:
    kind = np.dtype(dtype)
    packed = tensors.get(name)
    if packed is None or packed.dtype != np.uint8 or packed.ndim != 1:
        raise FormatError(f"the patch lacks its tensor '{name}'")
    inflate = zlib.decompressobj()
    try:
        content = inflate.decompress(packed.tobytes(), count * kind.itemsize + 1)
    except zlib.error as error:
        raise FormatError(f"the patch tensor '{name}' is damaged: {error}") from error
    if len(content) != count * kind.itemsize or not inflate.eof:
        raise FormatError(f"the patch tensor '{name}' does not hold {count} entries")
    planes = np.frombuffer(content, np.uint8).reshape(kind.itemsize, count)
    return np.ascontiguousarray(planes.T).reshape(-1).view(kind)
