"""Cluster features by k-means, the same way every time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
_STARTS, _STEPS = 8, 100
"""Starts, and most steps from each."""


def kmeans(rows: Rows, count: int, seed: int = 0) -> NDArray[np.intp]:
    """Return the cluster (N,), in [0, count), of each row: the best of several starts.

    Lloyd's algorithm from starts of k-means++ (Arthur and Vassilvitskii 2007).

    Args:
        rows: Rows (N, D), N at least `count`.
        count: Number of clusters; some may stay empty where rows are equal.
        seed: Seed of the starts.
    """
    draw = np.random.default_rng(seed)
    best, least = np.zeros(len(rows), np.intp), np.inf
    for _ in range(_STARTS):
        clusters, spread = _from(_start(rows, count, draw), rows)
        if spread < least:
            best, least = clusters, spread
    return best


def means(rows: Rows, clusters: NDArray[np.intp], fallback: Rows) -> Rows:
    """Return the mean (K, D) of each cluster's rows; for an empty one, its row of `fallback`."""
    counts = np.bincount(clusters, minlength=len(fallback))
    sums = np.zeros_like(fallback)
    np.add.at(sums, clusters, rows)
    found: Rows = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], fallback)
    return found


def squares(rows: Rows, centres: Rows) -> Rows:
    """Return the squared distances (N, K) of rows (N, D) to centres (K, D)."""
    found = (rows**2).sum(1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(1)
    positive: Rows = np.maximum(found, 0)
    return positive


def _from(centres: Rows, rows: Rows) -> tuple[NDArray[np.intp], float]:
    """Return the clusters that Lloyd's algorithm ends with, and the sum of squared distances."""
    clusters = squares(rows, centres).argmin(1)
    for _ in range(_STEPS):
        centres = means(rows, clusters, centres)
        found = squares(rows, centres)
        before, clusters = clusters, found.argmin(1)
        if np.array_equal(before, clusters):
            break
    return clusters, float(squares(rows, centres).min(1).sum())


def _start(rows: Rows, count: int, draw: np.random.Generator) -> Rows:
    chosen = [int(draw.integers(len(rows)))]
    nearest = squares(rows, rows[chosen])[:, 0]
    for _ in range(count - 1):
        total = nearest.sum()
        share = nearest / total if total > 0 else None  # all rows are equal
        chosen.append(int(draw.choice(len(rows), p=share)))
        nearest = np.minimum(nearest, squares(rows, rows[chosen[-1:]])[:, 0])
    return rows[chosen].copy()
