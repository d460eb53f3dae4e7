"""Residual Sparse Training: after every optimizer step, small changes fall back to the base.

Zhou and Zhou, TCSVT 2024, arXiv:2408.02192: `w <- w if |w - w0| > tau else w0`, elementwise, in
float32. Momentum is untouched, so a weight leaves w0 only when a single step exceeds tau, may leave
again later, and may fall back. What decides the density is tau / lr, hardly the rate itself.

The released code gives every parameter new storage at each step. Here all parameters are views of
one buffer that is projected in place, so nothing that holds a view of them breaks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from runtime.errors import ConfigError

_ALIGN = 16
"""Parameters start at multiples of 64 bytes, as the allocator would place them."""
_CPU_CHUNK = 1 << 16
"""Elements per pass on the CPU: weights, base and scratch, 0.8 MB, stay in cache."""
_CUDA_CHUNK = 1 << 25


class Projection:
    """The base weights of an encoder, and the pass that keeps the difference sparse.

    Building it moves the parameters into one flat buffer: their `data` becomes views of it, with
    unchanged values. Build it before the optimizer, and do not move the parameters afterwards.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], threshold: float) -> None:
        """Take over the parameters; what they hold now is the base w0.

        Args:
            parameters: Float32 parameters on one device.
            threshold: tau, 0 or more, in units of the weights.

        Raises:
            ConfigError: The threshold is negative, or a parameter is not float32.
        """
        if not threshold >= 0:
            raise ConfigError(f"rst_threshold is {threshold}; it must be 0 or more")
        wrong = {p.dtype for p in parameters} - {torch.float32}
        if wrong:
            raise ConfigError(
                f"rst compares float32 weights with their base, found {wrong.pop()}: residuals of "
                "1e-6 vanish in anything coarser; load the base model in float32"
            )
        self.parameters = tuple(parameters)
        self.threshold = threshold
        self.count = sum(p.numel() for p in parameters)
        starts, end = [], 0
        for p in parameters:
            starts.append(end)
            end += -(-p.numel() // _ALIGN) * _ALIGN
        device = parameters[0].device if parameters else torch.device("cpu")
        self._now = torch.zeros(end, device=device)  # the gaps stay 0 in both and count nowhere
        for p, start in zip(parameters, starts, strict=True):
            view = self._now[start : start + p.numel()].view(p.shape)
            view.copy_(p.data)
            p.data = view
        self._base = self._now.clone()
        chunk = min(end, _CPU_CHUNK if device.type == "cpu" else _CUDA_CHUNK)
        self._distance = torch.empty(chunk, device=device)
        self._keep = torch.empty(chunk, device=device, dtype=torch.bool)

    @torch.no_grad()
    def apply(self) -> None:
        """Set every weight with `|w - w0| <= tau` back to w0, in place and without allocation."""
        size = self._distance.numel()
        for start in range(0, self._now.numel(), size or 1):
            now, base = self._now[start : start + size], self._base[start : start + size]
            distance, keep = self._distance[: now.numel()], self._keep[: now.numel()]
            torch.sub(now, base, out=distance)
            torch.gt(distance.abs_(), self.threshold, out=keep)
            torch.where(keep, now, base, out=now)

    def changed(self) -> int:
        """Return how many weights differ from the base."""
        return int((self._now != self._base).sum())

    @property
    def density(self) -> float:
        """Changed over all encoder parameters, in [0, 1]."""
        return self.changed() / self.count if self.count else 0.0

    def survival(self, dtype: torch.dtype) -> float:
        """Return the share of changed weights that still differ from the base in `dtype`.

        Mixed precision casts weights for the forward pass: what does not survive the cast is
        trained but not seen. 1 when nothing has changed.
        """
        changed = self._now != self._base
        total = int(changed.sum())
        seen = self._now[changed].to(dtype) != self._base[changed].to(dtype)
        return int(seen.sum()) / total if total else 1.0
