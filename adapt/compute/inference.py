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
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Return the logits (N, C), on the CPU, of pixels (N, S, S, 3) uint8 RGB.

    Args:
        logits: Function from normalised images (B, 3, S, S) to (B, C), in eval mode.
        pixels: Images from `runtime.frames.preprocess`.
        batch_size: Images per call.
        device: Device of `logits`.
        mean: Mean of RGB in [0, 1] that the base model expects.
        std: Standard deviation that the base model expects.
        on_batch: Function called with the number of images done, and of all.
    """
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), batch_size):
            # A copy: the pixels may be read-only, which torch warns about.
            chunk = torch.from_numpy(np.array(pixels[start : start + batch_size]))
            parts.append(logits(normalise(chunk.to(device), mean, std)).float().cpu())
            on_batch(start + len(chunk), len(pixels))
    return torch.cat(parts)
