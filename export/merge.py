"""Turn base and residual into the patch of a device, and measure how much of it survives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from adapt.clip.model import encoder_tensors
from adapt.optim.grid import Grid, on_grid, visible_share
from export.graphs.builder import Arrays
from export.graphs.encoder import deploy_tensors
from export.graphs.encoders.base import Form
from runtime import patch
from runtime.errors import BaseModelError
from runtime.models import Precision
from runtime.patch import Patch

Tower = Mapping[str, NDArray[np.float32]]


def shared_base(
    form: Form, visual: nn.Module, grids: Iterable[Grid], precision: Precision
) -> Arrays:
    """Return D(base) for tasks that share a bundle; each saw the base on the grid it trained on.

    Args:
        form: Deployable form of the tower.
        visual: Image tower of the base.
        grids: Grids that the tasks were trained on.
        precision: Precision of the result.

    Raises:
        BaseModelError: The tasks need different bases, or a value is too large for float16.
    """
    names, tower = sorted(set(grids)), encoder_tensors(visual)
    bases = [deploy_tensors(form, on_grid(tower, visual, grid), precision) for grid in names]
    if any(patch.diff(bases[0], base) for base in bases[1:]):
        low = ", ".join(f"--precision {grid}" for grid in names if grid != "fp32")
        raise BaseModelError(
            f"the tasks were trained on different grids ({', '.join(names)}), whose base weights "
            f"differ at {precision}; a bundle has one base: export them to two bundles, or try "
            f"{low}"
        )
    return bases[0]


def task_patch(form: Form, base: Arrays, merged: Tower, precision: Precision) -> Patch:
    """Return where D(merged) differs from D(base), after both were cast.

    Args:
        form: Deployable form of the tower.
        base: Result of `shared_base` or `deploy_tensors` at `precision`.
        merged: Tensors of the merged tower.
        precision: Precision of the result.

    Raises:
        BaseModelError: A merged value is too large for float16.
    """
    return patch.diff(base, deploy_tensors(form, merged, precision))


def survival(form: Form, base: Tower, residual: Patch, grid: Grid) -> float:
    """Return the share of a residual's entries that are still visible on a precision's grid.

    See `adapt.optim.grid.visible_share`. Counted on the tower's own tensors, before any folding;
    LayerNorm's, which stay float32, keep all their entries.

    Args:
        form: Deployable form of the tower.
        base: Tensors of the base tower.
        residual: Sparse new values, as in an artifact.
        grid: Precision to round to.
    """
    return visible_share(base, residual, grid, form.stays_float32)


def density(changes: Patch, tensors: Mapping[str, NDArray[Any]]) -> float:
    """Return the share of the entries of `tensors` that a patch changes, in [0, 1]."""
    return patch.size(changes) / sum(array.size for array in tensors.values())
