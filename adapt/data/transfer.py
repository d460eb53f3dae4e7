"""Copy small tensors from the host to a GPU without waiting for the GPU's queued work."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy on a device of a tensor in host memory.

    A copy from pageable memory waits for all work before it. Pinned memory is not reused by
    PyTorch before the copy is done.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers (N,) as float32 on a device, copied once per process. Not to be changed."""
    with torch.inference_mode(False):  # evaluation may ask first, and training then uses it
        return torch.tensor(values, dtype=torch.float32, device=device)
