"""Streams of frames that show one class for a while, and the CUSUM of `DriftMonitor` over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.monitoring.cusum import Limits
from runtime.monitoring.gaussian import Features

Rows = NDArray[np.int64]


def streams(
    labels: Rows,
    count: int,
    frames: int,
    draw: np.random.Generator,
    runs: tuple[int, int],
    repeated: int = 1,
) -> Rows:
    """Return positions (count, frames) of images, in runs of one class, each image repeated.

    Args:
        labels: Classes (N,) of the images.
        count: Number of streams.
        frames: Frames of a stream.
        draw: Random numbers.
        runs: Least and most images of a run.
        repeated: How often each image is repeated.
    """
    needed = -(-frames // repeated)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    share = np.array([len(group) for group in groups]) / len(labels)
    found = np.empty((count, needed), np.int64)
    for stream in found:
        start = 0
        while start < needed:
            group = groups[draw.choice(len(groups), p=share)]
            some = stream[start : start + int(draw.integers(runs[0], runs[1] + 1))]
            some[:] = draw.choice(group, len(some))
            start += len(some)
    return np.repeat(found, repeated, 1)[:, :frames]


def sums(limits: Limits, distances: Features, predicted: Rows, rows: Rows) -> NDArray[np.float64]:
    """Return the sums (S, T) of streams, as shares of the threshold.

    Args:
        limits: Limits of a task.
        distances: Distances (N,) of the images.
        predicted: Classes (N,) that the task predicts for them.
        rows: Positions (S, T) of the images that the streams show.
    """
    values, classes = distances.tolist(), predicted.tolist()
    found = np.empty(rows.shape)
    for stream, into in zip(rows.tolist(), found, strict=True):
        level = 0.0
        for frame, row in enumerate(stream):
            level = limits.rise(level, values[row], classes[row])
            into[frame] = level
    return found


def raised(levels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where (S, T) an alarm is raised: at 1, and again only after a return to 0."""
    found, drifting = np.zeros(levels.shape, np.bool_), np.zeros(len(levels), np.bool_)
    for frame in range(levels.shape[1]):
        now = levels[:, frame]
        found[:, frame] = ~drifting & (now >= 1)
        drifting = found[:, frame] | (drifting & (now > 0))
    return found
