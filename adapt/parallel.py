"""One run over several processes, started by `torchrun`: who computes what, and how it is joined.

Every process takes its share of each batch through the encoder. The features of all are gathered,
gradients included, and heads and losses are computed on the whole batch everywhere, so that batch
statistics and class sums mean what they mean on one device. Gathering backwards adds up the equal
gradients of all processes, which the mean over processes takes back; gradients of the heads are
equal everywhere, and their mean changes nothing. So one mean over all gradients, as
DistributedDataParallel takes it, is right for every parameter of every method.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


def world() -> int:
    """Return the number of processes of this run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0. Only process 0 writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(count: int) -> slice:
    """Return which of `count` images of a batch are this process's; `count` divides evenly."""
    size = count // world()
    return slice(rank() * size, (rank() + 1) * size)


def gather(features: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the features of all processes, split into batches, each in the order of its images.

    Args:
        features: (sum of sizes, D), of this process.
        sizes: Of the batches that were joined; equal in every process.
    """
    if world() == 1:
        return features.split(list(sizes))
    parts = [part.split(list(sizes)) for part in all_gather(features)]
    return tuple(torch.cat(batch) for batch in zip(*parts, strict=True))


def average(gradients: Sequence[Tensor]) -> None:
    """Replace gradients by their means over all processes, in place."""
    if world() == 1 or not gradients:
        return
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= world()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
        start += gradient.numel()
