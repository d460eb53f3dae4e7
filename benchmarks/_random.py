"""Random towers, models and residuals at full size, for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import _build_vision_tower
from safetensors.torch import save_file
from torch import nn

from adapt.clip.demo_weights import register
from runtime import patch
from runtime.patch import SparseTensor
from runtime.storage.writing import replacing


def moved(
    changes: patch.Patch, tensors: Mapping[str, NDArray[Any]], seed: int
) -> dict[str, SparseTensor]:
    """Return a patch of the same size and structure elsewhere, at a hundredth of the cost.

    The changed entries of each tensor move along by a random number of whole rows, so that what a
    folded BatchNorm changes is still whole filters.
    """
    draw = np.random.default_rng(seed)
    made: dict[str, SparseTensor] = {}
    for name, sparse in changes.items():
        old = tensors[name].reshape(-1)
        rows = tensors[name].shape[0]
        shift = int(draw.integers(rows)) * (old.size // rows)
        where = np.sort((sparse.indices.astype(np.int64) + shift) % old.size)
        made[name] = SparseTensor(where.astype(np.uint32), _nearby(old[where], draw))
    return made


def random_tower(name: str, seed: int = 0) -> nn.Module:
    """Return an image tower of open_clip, QuickGELU as OpenAI's, with every tensor random.

    Matrices and filters lie on the float16 grid, as OpenAI's do; variances are positive.
    """
    register()
    config = open_clip.get_model_config(name)
    tower: nn.Module = _build_vision_tower(config["embed_dim"], config["vision_cfg"], True)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in [*tower.named_parameters(), *tower.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=draw)
            if key.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
            elif tensor.dim() > 1:
                scale = (tensor[0].numel() ** -0.5) if "embedding" not in key else 0.03
                tensor.copy_((noise * scale).half().float())
            elif key.endswith("weight"):
                # A residual branch that adds less than it gets keeps the features finite.
                tensor.copy_((0.3 if "bn3" in key else 1.0) + 0.1 * noise)
            else:
                tensor.copy_(0.1 * noise)
    return tower.eval()


def random_clip(name: str, folder: Path) -> Path:
    """Return a file with all of a CLIP, image tower as `random_tower` draws it; written once."""
    path = folder / f"{name}-clip.safetensors"
    if not path.is_file():
        config = open_clip.get_model_config(name)
        config.pop("quick_gelu", None)
        torch.manual_seed(0)
        state = open_clip.model.CLIP(**config, quick_gelu=True).state_dict()
        tower = random_tower(name)
        state |= {f"visual.{key}": tensor for key, tensor in tower.state_dict().items()}
        with replacing(path) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, temporary)
    return path


def random_residual(
    base: dict[str, NDArray[np.float32]], names: Sequence[str], density: float, seed: int
) -> patch.Patch:
    """Return new values for a random share of the entries of some tensors, each changed a little.

    Relative changes of 1e-3 and absolute ones of 1e-5, the size of RST's.
    """
    draw = np.random.default_rng(seed)
    residual = {}
    for name in names:
        old = base[name].reshape(-1)
        where = np.flatnonzero(draw.random(old.size, np.float32) < density)
        if where.size:
            residual[name] = SparseTensor(where.astype(np.uint32), _nearby(old[where], draw))
    return residual


def _nearby(old: NDArray[Any], draw: np.random.Generator) -> NDArray[Any]:
    noise = draw.standard_normal((2, old.size), np.float32)
    new: NDArray[Any] = old * (1 + np.float32(1e-3) * noise[0]) + np.float32(1e-5) * noise[1]
    return new.astype(old.dtype)
