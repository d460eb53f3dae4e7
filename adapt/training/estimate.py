"""Estimate the duration of a run before its first step, without changing it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from adapt.methods.base import Method
    from adapt.training.batches import Stream

_PASSES = 2
"""Number of passes; the first warms up."""


def seconds_per_step(method: Method, source: Stream, target: Stream, iteration: int) -> float:
    """Return the seconds of one iteration, measured on one whose gradients are thrown away.

    Nothing is stepped, so weights stay, and the time of the optimizer and of RST is not counted.
    Buffers, such as the running statistics of a head, are put back; random numbers are seeded per
    iteration, so the run draws the same ones.

    Args:
        method: Method after `prepare`.
        source: Labelled batches.
        target: Unlabelled batches.
        iteration: First iteration of the run.
    """
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
    parameters = [p for p in method.parameters() if p.requires_grad]
    method.train()
    for _ in range(_PASSES):
        started = time.monotonic()
        batches = source.batch(iteration), target.batch(iteration)
        total = torch.stack(list(method.losses(*batches, iteration).values())).sum()
        torch.autograd.grad(total, parameters, allow_unused=True)
        if total.is_cuda:
            torch.cuda.synchronize(total.device)
        seconds = time.monotonic() - started
    with torch.no_grad():
        for name, buffer in method.named_buffers():
            buffer.copy_(buffers[name])
    return seconds


def summary(steps: int, step: float, epochs: int, evaluation: float) -> str:
    """Return the expected duration of the rest of a run, for people.

    Args:
        steps: Number of steps left.
        step: Seconds per step.
        epochs: Number of epochs left, each of which ends with an evaluation.
        evaluation: Seconds per evaluation.
    """
    shown = f"{steps} steps of {1000 * step:.0f} ms" if step >= 0.001 else f"{steps} short steps"
    if evaluation * epochs >= 1:
        each = f"{epochs} evaluations" if epochs > 1 else "an evaluation"
        shown += f" and {each} of {evaluation:.1f} s"
    return f"{shown}: about {duration(step * steps + evaluation * epochs)}"


def duration(seconds: float) -> str:
    """Return a time for people: `50 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
