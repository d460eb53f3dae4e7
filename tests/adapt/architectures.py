"""Model configurations that open_clip has no name for, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}
VISION: dict[str, dict[str, Any]] = {
    "vit": {"image_size": 32, "patch_size": 16, "width": 24, "layers": 2, "head_width": 8},
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 4, "head_width": 16},
}
PIXELS = {"size": 32, "mean": [0.4, 0.4, 0.4], "std": [0.3, 0.3, 0.3], "interpolation": "bilinear"}


def model_cfg(kind: str, **changes: Any) -> dict[str, Any]:
    """Return a configuration as open_clip's folder of them has it."""
    return {"embed_dim": 16, "vision_cfg": VISION[kind], "text_cfg": TEXT} | changes


def write(folder: Path, kind: str) -> tuple[Path, Path]:
    """Write a configuration, as the hub lays it out, and random weights for it."""
    folder.mkdir(parents=True, exist_ok=True)
    config, weights = folder / f"{kind}.json", folder / f"{kind}.safetensors"
    config.write_text(json.dumps({"model_cfg": model_cfg(kind), "preprocess_cfg": PIXELS}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = CLIP(**model_cfg(kind)).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    return config, weights
