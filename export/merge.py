"""Base and residual to the patch a device applies, and how much of it a precision keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.encoder import Form, deploy_tensors
from export.graph import Arrays
from runtime import patch
from runtime.patch import Patch
from runtime.spec import Precision

Tower = Mapping[str, NDArray[np.float32]]
Grid = Literal["fp32", "fp16", "bf16"]
GRIDS: tuple[Grid, ...] = ("fp32", "fp16", "bf16")


def task_patch(form: Form, base: Arrays, merged: Tower, precision: Precision) -> Patch:
    """Return where D(merged) differs from D(base), after both were cast.

    Args:
        form: The tower's deployable form.
        base: D(base) at `precision`, from `deploy_tensors`.
        merged: The merged tower's tensors.
        precision: Of the result.

    Raises:
        BaseModelError: A merged value is too large for float16.
    """
    return patch.diff(base, deploy_tensors(form, merged, precision))


def survival(form: Form, base: Tower, residual: Patch, grid: Grid) -> float:
    """Return the share of a residual's entries that are still visible on a precision's grid.

    An entry is visible if its new value and the base's value, both rounded, differ. It is counted
    on the tower's own tensors, before any folding; tensors that stay float32 at every precision
    (LayerNorm's) keep all their entries. An empty residual has survived.

    Args:
        form: The tower's deployable form.
        base: The base tower's tensors.
        residual: New values, as an artifact holds them.
        grid: The precision.
    """
    visible = total = 0
    for name, sparse in residual.items():
        old = base[name].reshape(-1)[sparse.indices]
        kept: Grid = "fp32" if form.stays_float32(name) else grid
        visible += int(np.count_nonzero(rounded(old, kept) != rounded(sparse.values, kept)))
        total += sparse.indices.size
    return visible / total if total else 1.0


def rounded(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Return float32 values rounded to the nearest ones of a grid, ties to even."""
    if grid == "fp32":
        return values
    if grid == "fp16":
        with np.errstate(over="ignore"):  # infinite on both sides is not visible
            return values.astype(np.float16).astype(np.float32)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # bfloat16 is the upper half of a float32: add half a unit, a little less where that is a tie.
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return nearest.view(np.float32)


def density(changes: Patch, tensors: Mapping[str, NDArray[Any]]) -> float:
    """Return the share of the entries of `tensors` that a patch changes, in [0, 1]."""
    return patch.size(changes) / sum(array.size for array in tensors.values())
