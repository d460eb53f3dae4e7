"""Histograms of durations in a long run, whose memory does not grow with their number."""

from __future__ import annotations

import numpy as np

WINDOWS = 60
_BINS = 10 ** np.linspace(-5, 2, 1401)
"""Bounds of the bins in seconds, 1.2 % apart."""


class Latencies:
    """Counts of durations in each of `WINDOWS` equal parts of the run."""

    def __init__(self) -> None:
        self.counts = np.empty((WINDOWS, _BINS.size + 1), np.int32)
        self.counts.fill(0)  # unlike np.zeros touches the pages, which would come one by one

    def add(self, window: int, seconds: float) -> None:
        self.counts[window, int(np.searchsorted(_BINS, seconds))] += 1

    def number(self, windows: range) -> int:
        """Return the number of durations in some windows."""
        return int(self.counts[windows.start : windows.stop].sum())

    def percentile(self, share: float, windows: range) -> float:
        """Return the median over three parts of a percentile in each, in milliseconds."""
        found = []
        for counts in np.array_split(self.counts[windows.start : windows.stop], 3):
            cumulated = np.cumsum(counts.sum(0))
            bin_index = int(np.searchsorted(cumulated, share * cumulated[-1]))
            found.append(float(_BINS[min(bin_index, _BINS.size - 1)]))
        return 1e3 * float(np.median(found))
