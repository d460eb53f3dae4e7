"""What tests of single training steps share: batches, a task, and metrics of no training."""

from __future__ import annotations

import torch

from adapt.methods.base import Batch
from runtime.models import TaskInfo

TASK = TaskInfo("day-night", "street", "day", "night", ("bee", "cup", "dog"))
METRICS = {
    "last": dict.fromkeys(("accuracy", "mean_per_class", "per_class")) | {"epoch": 0},
    "oracle_best": {"epoch": None, "accuracy": None},
    "density": 0.0,
    "held_out": False,
    "test_images": 0,
    "data": dict.fromkeys(("source", "target", "test"), "0" * 64),
}


def batch(seed: int, labelled: bool) -> Batch:
    """Return six noisy images of 32 px, two per class."""
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(6) % 3 if labelled else torch.full((6,), -1)
    return Batch(images, labels, torch.arange(6))
