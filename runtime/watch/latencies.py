"""Percentiles of latencies over months, in a few kilobytes."""

from __future__ import annotations

import math
from collections import Counter

_STEP = math.log(1.02)
"""Width of a bin, on a scale of logarithms: percentiles are right within 1 %."""
_LEAST = 1e-3


class Latencies:
    """Counts latencies in bins, of which there are about a thousand at most."""

    def __init__(self) -> None:
        """Start without a latency."""
        self._bins: Counter[int] = Counter()

    def add(self, milliseconds: float) -> None:
        """Count a latency."""
        self._bins[round(math.log(max(milliseconds, _LEAST)) / _STEP)] += 1

    def percentile(self, share: float) -> float | None:
        """Return the latency that a share of all do not exceed, in milliseconds; None without any.

        Args:
            share: In [0, 1], such as 0.99.
        """
        bins = sorted(self._bins.items())
        left = share * sum(count for _, count in bins)
        for number, count in bins:
            left -= count
            if left <= 0:
                return math.exp(number * _STEP)
        return None
