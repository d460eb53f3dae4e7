"""Durations of a long run, counted in bins: kept one by one, they would be a growth of memory."""

from __future__ import annotations

import numpy as np

WINDOWS = 60
_BINS = 10 ** np.linspace(-5, 2, 1401)
"""Bounds of the bins in seconds, 1.2 % apart."""


class Latencies:
    """Counts of durations in each of `WINDOWS` equal parts of the run."""

    def __init__(self) -> None:
        self.counts = np.zeros((WINDOWS, _BINS.size + 1), np.int64)

    def add(self, window: int, seconds: float) -> None:
        self.counts[window, int(np.searchsorted(_BINS, seconds))] += 1

    def percentile(self, share: float, windows: range) -> float:
        """Return the median over the windows of a percentile in each, in milliseconds."""
        found = []
        for counts in self.counts[windows.start : windows.stop]:
            if total := counts.sum():
                place = int(np.searchsorted(np.cumsum(counts), share * total))
                found.append(float(_BINS[min(place, _BINS.size - 1)]))
        return 1e3 * float(np.median(found)) if found else 0.0
