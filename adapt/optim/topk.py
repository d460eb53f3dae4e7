"""Find the threshold that the k largest of many numbers exceed, without sorting them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Chunks = Callable[[], Iterator[Tensor]]
"""Returns an iterator over the numbers in pieces; each piece may overwrite the one before."""

_SAMPLE = 1 << 14


def topk_threshold_on_gpu(chunks: Chunks, size: int, count: int) -> Tensor:
    """Return what `topk_threshold` does as a tensor (), without waiting for the GPU.

    Selects among all numbers at once: takes memory for them and for at most half of them again
    with their positions, 12 bytes each.

    Args:
        chunks: As of `topk_threshold`.
        size: As of `topk_threshold`.
        count: As of `topk_threshold`.
    """
    numbers = torch.cat([chunk.clone() for chunk in chunks()])
    rest = numbers.numel() - count
    if count >= size:
        return numbers.new_zeros(())
    if count < rest:
        return numbers.topk(count + 1, sorted=False).values.min()
    return numbers.topk(rest, largest=False, sorted=False).values.max()


def topk_threshold(chunks: Chunks, size: int, count: int) -> float:
    """Return the smallest threshold that at most `count` numbers exceed, exactly.

    Fewer exceed it where numbers are equal; it is 0 if no more than `count` are above 0. A sample
    bounds the threshold, so that two passes suffice and few numbers are sorted.

    Args:
        chunks: Numbers, 0 or more.
        size: Number of numbers.
        count: Number of numbers that may exceed the threshold.
    """
    if count >= size:
        return 0.0
    stride = -(-size // _SAMPLE)
    sample = torch.cat([chunk[::stride].clone() for chunk in chunks()])
    sample = sample.sort(descending=True).values
    position = count * sample.numel() / size
    margin = 8 + 4 * position**0.5  # four standard deviations of a random sample
    first, last = int(position - margin), int(position + margin)
    high = float(sample[first]) if first > 0 else float("inf")
    low = float(sample[last]) if last < sample.numel() else 0.0
    above, middle = _between(chunks, low, high)
    if not above <= count < above + middle.numel():  # the sample was not representative
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
