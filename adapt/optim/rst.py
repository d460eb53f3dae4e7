"""Residual Sparse Training: after every optimizer step, small changes fall back to the base.

Zhou and Zhou, TCSVT 2024, arXiv:2408.02192: `w <- w if |w - w0| > tau else w0`, elementwise, in
float32. Momentum is untouched, so a weight leaves w0 only when a single step exceeds tau, may leave
again later, and may fall back. The density depends on tau / lr, hardly on the rate itself. tau is
fixed (`Threshold`), or found after every step so that a budget is met (`Budget`).

On a deployment grid (`adapt.optim.grid`) the forward and backward pass see rounded weights, base
included; the optimizer steps float32 masters with the gradients taken there (straight through). The
rule compares the masters. One that moved past the threshold but not yet to another rounded value
keeps moving, and counts as unchanged until its rounded value differs.

All parameters are views of one buffer, projected in place (the released code makes new storage).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.optim import grid as grids
from adapt.optim.grid import Grid
from adapt.optim.topk import topk_threshold, topk_threshold_on_gpu
from adapt.settings.config import TrainConfig
from runtime.errors import ConfigError

_ALIGN = 16
"""Parameters start at multiples of 64 bytes, as the allocator would place them."""
_CPU_CHUNK = 1 << 16
"""Elements per pass on the CPU: weights, base and scratch, 1.2 MB, stay in cache."""
_CUDA_CHUNK = 1 << 25
TIGHTEN = 0.5
"""Share of the run after which the budget has its final size."""


@dataclass(frozen=True)
class Threshold:
    """Keep the weights that moved farther than a fixed distance."""

    tau: float
    """0 or more, in units of the weights."""

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise ConfigError(f"rst_threshold is {self.tau}; it must be 0 or more")


@dataclass(frozen=True)
class Budget:
    """Keep the farthest moved share of all weights; the share falls from 1 to `density`.

    The paper does so for segmentation and flow (100 % to 0.2 %) and does not print the curve; here
    it is geometric over the first half of the run: `density ** min(1, progress / TIGHTEN)`.
    """

    density: float
    """Share of the weights that may differ at the end, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ConfigError(f"rst_density is {self.density}; it must be above 0 and at most 1")

    def share(self, progress: float) -> float:
        """Return the share that may stay after a part of the run, in [0, 1]."""
        return float(self.density ** min(1.0, progress / TIGHTEN))


class Projection:
    """The base weights of an encoder, and the pass that keeps the difference sparse.

    Building it moves the parameters into one flat buffer: their `data` becomes views of it, with
    unchanged values but for the rounding of a grid. Build it before the optimizer, and do not move
    the parameters afterwards.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        rule: Threshold | Budget | None,
        grid: Grid = "fp32",
        exact: Sequence[nn.Parameter] = (),
    ) -> None:
        """Take over the parameters, whose present values are the base w0.

        Args:
            parameters: Float32 parameters on one device.
            rule: Rule by which weights fall back; None keeps every change.
            grid: Grid to which the parameters are rounded outside of `masters`.
            exact: Further parameters, which are never rounded.

        Raises:
            ConfigError: A parameter is not float32.
        """
        self.parameters = (*parameters, *exact)
        wrong = {p.dtype for p in self.parameters} - {torch.float32}
        if wrong:
            raise ConfigError(
                f"rst needs float32 weights, found {wrong.pop()}, in which residuals of 1e-6 "
                "vanish; load the base model in float32"
            )
        self.rule = rule
        self.count = sum(p.numel() for p in self.parameters)
        starts, end, split = [], 0, 0
        for number, p in enumerate(self.parameters, 1):
            starts.append(end)
            end += -(-p.numel() // _ALIGN) * _ALIGN
            split = end if number <= len(parameters) else split
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self._now = torch.zeros(end, device=device)  # the gaps stay 0 in both and count nowhere
        for p, start in zip(self.parameters, starts, strict=True):
            view = self._now[start : start + p.numel()].view(p.shape)
            view.copy_(p.data)
            p.data = view
        self._base = self._now.clone()
        size = max(min(end, _CPU_CHUNK if device.type == "cpu" else _CUDA_CHUNK), 1)
        self._split = 0 if grid == "fp32" else split
        self._chunks = [
            (slice(start, min(start + size, stop)), stop == self._split)
            for first, stop in ((0, self._split), (self._split, end))
            for start in range(first, stop, size)
        ]
        on_gpu = device.type == "cuda"
        self.find_threshold = topk_threshold_on_gpu if on_gpu else topk_threshold
        self._distance = torch.empty(size, device=device)
        self._keep = torch.empty(size, device=device, dtype=torch.bool)
        low = size if self._split else 0
        self._low = torch.empty(2, low, device=device, dtype=grids.DTYPES[grid])
        self._masters = self._now[: self._split].clone()
        self._round()

    @contextmanager
    def masters(self) -> Iterator[None]:
        """Let the parameters hold the float32 masters; afterwards they are rounded again.

        Optimizers, `apply` and checkpoints change them in here.
        """
        rounds = self._now[: self._split]
        with torch.no_grad():
            rounds.copy_(self._masters)
        try:
            yield
        finally:
            with torch.no_grad():
                self._masters.copy_(rounds)
                self._round()

    @torch.no_grad()
    def apply(self, progress: float = 1.0) -> None:
        """Set every weight that the rule does not keep back to w0, in place.

        Args:
            progress: Share of the run that is done, in [0, 1].
        """
        if self.rule is None:
            return
        tau: float | Tensor
        if isinstance(self.rule, Threshold):
            tau = self.rule.tau
        else:
            count = int(self.rule.share(progress) * self.count)
            tau = self.find_threshold(self._visible, self.count, count)
        for (where, _), distance in zip(self._chunks, self._distances(), strict=True):
            keep = torch.gt(distance, tau, out=self._keep[: distance.numel()])
            now = self._now[where]
            torch.where(keep, now, self._base[where], out=now)

    def changed(self) -> int:
        """Return how many weights, as the forward pass sees them, differ from the base's."""
        return sum(int(different.sum()) for _, different in self._changes())

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that changed, in [0, 1]."""
        return self.changed() / self.count if self.count else 0.0

    def survival(self, dtype: torch.dtype) -> float:
        """Return the share of changed weights that still differ from the base in `dtype`.

        Mixed precision casts weights for the forward pass: what does not survive the cast is
        trained but not seen. 1 when nothing has changed.
        """
        total = seen = 0
        for where, changed in self._changes():
            total += int(changed.sum())
            now, base = self._now[where][changed], self._base[where][changed]
            seen += int((now.to(dtype) != base.to(dtype)).sum())
        return seen / total if total else 1.0

    def _distances(self) -> Iterator[Tensor]:
        """Yield |w - w0| chunk by chunk; each is overwritten by the next."""
        for where, _ in self._chunks:
            now = self._now[where]
            distance = self._distance[: now.numel()]
            yield torch.sub(now, self._base[where], out=distance).abs_()

    def _visible(self) -> Iterator[Tensor]:
        """Yield the distances, 0 for weights that equal the base's once they are rounded."""
        for (where, rounds), distance in zip(self._chunks, self._distances(), strict=True):
            if rounds:
                low, low_base = self._low[:, : distance.numel()]
                low.copy_(self._now[where])
                low_base.copy_(self._base[where])
                distance.masked_fill_(
                    torch.eq(low, low_base, out=self._keep[: distance.numel()]), 0.0
                )
            yield distance

    def _changes(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield which weights of each chunk differ from the base's, as the forward pass sees it."""
        for where, rounds in self._chunks:
            now, base = self._now[where], self._base[where]
            if rounds:
                base = self._low[0, : base.numel()].copy_(base)
            yield where, now != base

    def _round(self) -> None:
        for where, rounds in self._chunks:
            if rounds:
                now = self._now[where]
                now.copy_(self._low[0, : now.numel()].copy_(now))


def over(encoder: nn.Module, config: TrainConfig) -> Projection | None:
    """Put an encoder on the grid of the settings, and return the projection that keeps it there.

    Args:
        encoder: Encoder, of which the parameters that require gradients are trained; the others
            are rounded once.
        config: Settings: `rst`, `rst_threshold`, `rst_density` and `grid`.

    Returns:
        None for a frozen encoder, and for dense training in float32.
    """
    exact = grids.float32_names(encoder)
    trained = {n: p for n, p in encoder.named_parameters() if p.requires_grad}
    rule: Threshold | Budget | None = None
    if config.rst:
        budget = config.rst_density
        rule = Budget(budget) if budget else Threshold(config.rst_threshold)
    projection = None
    if trained and (config.rst or config.grid != "fp32"):
        rounds = [p for n, p in trained.items() if n not in exact]
        unrounded = [p for n, p in trained.items() if n in exact]
        projection = Projection(rounds, rule, config.grid, unrounded)
    grids.snap(encoder, config.grid)
    return projection
