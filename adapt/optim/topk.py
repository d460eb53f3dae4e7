"""Which of many numbers are the largest: the cut that exactly so many exceed, without a sort."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Chunks = Callable[[], Iterator[Tensor]]
"""Yields the numbers piece by piece, anew at each call; a piece is read before the next is made."""

_SAMPLE = 1 << 14


def cut(chunks: Chunks, size: int, count: int) -> float:
    """Return the number that at most `count` numbers exceed: the next one's value, exactly.

    Where numbers are equal, fewer than `count` exceed it; where no more than `count` are above 0,
    it is 0. A sample tells between which two values to look, so that few have to be sorted: two
    passes over the numbers, also where they do not fit into memory twice.

    Args:
        chunks: The numbers, 0 or more.
        size: How many there are.
        count: How many may exceed the cut.
    """
    if count >= size:
        return 0.0
    stride = -(-size // _SAMPLE)
    sample = torch.cat([chunk[::stride].clone() for chunk in chunks()])
    sample = sample.sort(descending=True).values
    middle_rank = count * sample.numel() / size
    margin = 8 + 4 * middle_rank**0.5  # four standard deviations of a random sample
    first, last = int(middle_rank - margin), int(middle_rank + margin)
    high = float(sample[first]) if first > 0 else float("inf")
    low = float(sample[last]) if last < sample.numel() else 0.0
    above, middle = _between(chunks, low, high)
    if not above <= count < above + middle.numel():  # the numbers lie in an order that misleads
        above, middle = _between(chunks, 0.0, float("inf"))
    rank = middle.numel() - (count - above)
    return float(middle.kthvalue(rank).values) if rank > 0 else 0.0


def _between(chunks: Chunks, low: float, high: float) -> tuple[int, Tensor]:
    """Return how many numbers exceed `high`, and those in (low, high]."""
    above, middle = 0, []
    for chunk in chunks():
        over = chunk > high
        above += int(over.sum())
        middle.append(chunk[(chunk > low).logical_and_(over.logical_not_())])
    return above, torch.cat(middle)
