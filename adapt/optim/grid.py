"""Round weights to a deployment grid: the float32 values that a low precision holds exactly.

CLIP's own weights are float16 values, and a change below half a unit in the last place vanishes in
the cast that a device needs. A run that trains on this grid sees the weights that are deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from runtime.patch import Patch

Grid = Literal["fp32", "fp16", "bf16"]
GRIDS: tuple[Grid, ...] = ("fp32", "fp16", "bf16")
DTYPES: dict[Grid, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
_EXACT = (nn.LayerNorm, nn.GroupNorm, _BatchNorm)


def rounded(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Return float32 values rounded to the nearest ones of a grid, ties to even.

    Values beyond float16 become infinite. For "fp32" the array itself is returned.
    """
    if grid == "fp32":
        return values
    low = torch.from_numpy(np.array(values, np.float32)).to(DTYPES[grid])
    return low.float().numpy()


def float32_names(encoder: nn.Module) -> frozenset[str]:
    """Return the names of the tensors that are float32 at every precision.

    They are the parameters and buffers of normalisation layers: few numbers, on which everything
    else is scaled. OpenAI's own float16 models keep them in float32 as well.
    """
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in encoder.named_modules()
        if isinstance(module, _EXACT)
        for name in module.state_dict()
    )


def on_grid(
    tensors: Mapping[str, NDArray[np.float32]], encoder: nn.Module, grid: Grid
) -> dict[str, NDArray[np.float32]]:
    """Return an encoder's tensors by name, rounded where the grid asks for it.

    Args:
        tensors: Tensors from `adapt.clip.model.encoder_tensors`, or merged ones.
        encoder: Encoder whose modules say which names stay float32; its values are not read.
        grid: Grid to round to.
    """
    exact = float32_names(encoder)
    return {name: a if name in exact else rounded(a, grid) for name, a in tensors.items()}


def visible_share(
    base: Mapping[str, NDArray[np.float32]],
    residual: Patch,
    grid: Grid,
    stays_float32: Callable[[str], bool],
) -> float:
    """Return the share of a residual's entries that are still visible on a precision's grid.

    An entry is visible if its new value and the base's value, both rounded, differ. An empty
    residual has survived.

    Args:
        base: Tensors of the base encoder.
        residual: Sparse new values, as in an artifact.
        grid: Precision to round to.
        stays_float32: Function that returns whether a tensor is float32 at every precision.
    """
    visible = total = 0
    for name, sparse in residual.items():
        old = base[name].reshape(-1)[sparse.indices]
        stored: Grid = "fp32" if stays_float32(name) else grid
        visible += int(np.count_nonzero(rounded(old, stored) != rounded(sparse.values, stored)))
        total += sparse.indices.size
    return visible / total if total else 1.0


@torch.no_grad()
def snap(encoder: nn.Module, grid: Grid) -> None:
    """Round an encoder's parameters and floating buffers in place."""
    if grid == "fp32":
        return
    exact = float32_names(encoder)
    for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
        if tensor.is_floating_point() and name not in exact:
            tensor.copy_(tensor.to(DTYPES[grid]))
