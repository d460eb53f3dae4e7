"""The references for sessions on a GPU: PyTorch, and this GPU's measured roofline.

Everything here does the work of `Session.infer`: uint8 pixels of the host in, logits on the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt.clip.model import encoder_tensors
from adapt.data.transforms import normalise
from adapt.methods.heads import TaskHead
from benchmarks._models import CLASSES
from benchmarks._random import random_residual, random_tower
from runtime import patch

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
GMACS = {"ViT-B-16": 17.56, "ViT-B-32": 4.41, "RN50": 6.10}
"""Operations of the whole tower for one image of 224 x 224."""


class Whole(nn.Module):
    """The adapted tower and its head, as PyTorch runs them."""

    def __init__(self, tower: nn.Module, head: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.tower, self.head, self.dtype = tower.to(dtype), head.to(dtype), dtype

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.tower(normalise(pixels).to(self.dtype)))
        return logits


def adapted(name: str, density: float, dtype: torch.dtype, device: str) -> Whole:
    """Return the first task of `make_model` at a density, its residual merged in float32."""
    tower = random_tower(name)
    base = encoder_tensors(tower)
    parameters = [parameter for parameter, _ in tower.named_parameters()]
    residual = random_residual(base, parameters, density, 0)
    merged = patch.merge(base, residual)
    state = tower.state_dict()
    tower.load_state_dict(state | {key: torch.from_numpy(merged[key]) for key in merged})
    with torch.no_grad():
        features = tower(torch.zeros(1, 3, 224, 224))
    torch.manual_seed(0)  # as `make_model` draws the first task's head
    return Whole(tower, TaskHead(features.shape[1], CLASSES), dtype).to(device).eval()


def infer(model: Callable[[Tensor], Tensor], device: str) -> Infer:
    """Return a model as a function from host arrays to host arrays."""

    @torch.inference_mode()
    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.from_numpy(pixels)
        if device != "cpu":
            batch = batch.pin_memory().to(device, non_blocking=True)
        found: NDArray[np.float32] = model(batch).float().cpu().numpy()
        return found

    return run


def parity(found: NDArray[np.float32], want: NDArray[np.float32]) -> dict[str, float]:
    """Return how far logits are from those of PyTorch in float32, as a share of their spread."""
    spread = float((want.max(1) - want.min(1)).mean())
    agree = float((found.argmax(1) == want.argmax(1)).mean())
    return {"difference": float(np.abs(found - want).max()) / spread, "agreement": agree}


@dataclass(frozen=True)
class Roofline:
    """The measured limits of this GPU."""

    flops: float
    """Operations per second in dense fp16 products of matrices of 8192 x 8192."""
    bandwidth: float
    """Bytes per second, read and written by a copy of 1 GiB."""

    def bound(self, name: str, parameters: int, batch: int) -> float:
        """Return the least milliseconds of a batch: the work, or reading the weights in fp16."""
        work = 2e9 * GMACS[name] * batch / self.flops
        return 1e3 * max(work, 2 * parameters / self.bandwidth)


def roofline(device: str) -> Roofline:
    """Measure the roofline of a GPU."""
    side, size = 8192, 1 << 30
    a = torch.randn(side, side, device=device, dtype=torch.float16)
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    product = _best(lambda: a @ a)
    copy = _best(lambda: target.copy_(source))
    return Roofline(2 * side**3 / product, 2 * size / copy)


def _best(call: Callable[[], object]) -> float:
    """Return the least seconds of a call, of ten times ten."""
    found = []
    for _ in range(11):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            call()
        torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / 10)
    return min(found[1:])
