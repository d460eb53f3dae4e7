"""Accuracy on labelled images, as the device will see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.data.rows import Images
from adapt.data.transforms import normalise
from adapt.evaluation.confusion import Confusion


@dataclass(frozen=True)
class Scores:
    """Percentages over the images whose class is known."""

    accuracy: float
    """Correct over all, in [0, 100]."""
    mean_per_class: float
    """Mean of the recalls of the classes that occur: VisDA's metric."""
    per_class: dict[str, float | None]
    """Recall of each class; None where none of its images is there."""
    images: int
    """How many images were scored."""


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


def score(logits: Tensor, labels: NDArray[np.int64], classes: Sequence[str]) -> Scores | None:
    """Return the scores of logits (N, C) on labels (N,), or None when no label is known.

    Args:
        logits: One row per image.
        labels: Class positions; UNKNOWN (-1) rows do not count.
        classes: C names.
    """
    found = Confusion.of(logits, labels, classes)
    if found.accuracy is None or found.mean_per_class is None:
        return None
    return Scores(
        accuracy=found.accuracy,
        mean_per_class=found.mean_per_class,
        per_class={line.name: line.recall for line in found.lines()},
        images=found.images,
    )
