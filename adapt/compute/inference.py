"""Run a network over decoded images, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from adapt.data.rows import Images
from adapt.data.transforms import normalise


def predict(
    logits: Callable[[Tensor], Tensor],
    pixels: Images,
    batch_size: int,
    device: torch.device | str = "cpu",
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Return the logits (N, C), on the CPU, of pixels (N, S, S, 3) uint8 RGB.

    Args:
        logits: From normalised images (B, 3, S, S) to (B, C), in eval mode.
        pixels: What `runtime.frames.preprocess` makes of the images.
        batch_size: Images per call.
        device: Where `logits` computes.
        mean: Of RGB in [0, 1], as the base model wants it.
        std: Likewise.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            # A copy: the pixels may be read-only, which torch warns about.
            chunk = torch.from_numpy(np.array(pixels[start : start + batch_size]))
            parts.append(logits(normalise(chunk.to(device), mean, std)).float().cpu())
    return torch.cat(parts)
