"""A CUSUM over how far frames are from a task's own images, and the threshold of its alarm.

Page 1954 (doi:10.1093/biomet/41.1-2.100). A distance counts in standard deviations from the mean of
the class that was predicted, since some classes are farther than others and a video shows one for a
while. The sum rises by what exceeds `K`. The constants were chosen on test images of three tasks of
the demo, seed 0; see `benchmarks.monitoring`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.monitoring.folds import cross_fitted
from runtime.monitoring.gaussian import Features

K = 0.4
"""Deviations above the mean from which a distance raises the sum."""
CLIP = 4.0
"""Most deviations of one frame, so that no single frame raises the alarm."""
RATE = 2e-5
"""False alarms per frame that a threshold is computed for."""
RUN = 30
"""Longest run of frames of one class that thresholds are computed for; on average, half of it."""
SHIFT = 0.3
"""Standard deviation by which a run's mean is off that of its class: a camera shows one object of a
class for a while, training showed many."""
_SHRINK = 20
"""Number of images that the whole task counts for in the mean and deviation of a class."""
_STREAMS, _FRAMES = 1024, 1024
"""Drawn streams, and frames of each: `RATE` allows 20 alarms in all of them."""
_LEAST, _MOST = CLIP, 1e4
"""Range of thresholds."""


@dataclass(frozen=True, eq=False)
class Limits:
    """Means and deviations of the distances of a task's own images, and the alarm's threshold."""

    means: Features
    """(K,), by predicted class."""
    deviations: Features
    """(K,), positive."""
    threshold: float
    """Sum that raises the alarm, in deviations."""

    @property
    def enough(self) -> int:
        """Number of frames in which a shift by `K + 1` deviations raises the alarm."""
        return math.ceil(self.threshold)

    def rise(self, level: float, distance: float, predicted: int) -> float:
        """Return the sum after one more frame, as a share of the threshold, in [0, 1].

        It goes no higher, so that the alarm does not outlast a long change by as many frames.

        Args:
            level: Share before this frame.
            distance: Distance of the frame; one that is not finite counts as `CLIP` deviations.
            predicted: Class that was predicted for it.
        """
        away = (distance - float(self.means[predicted])) / float(self.deviations[predicted])
        rise = min(away, CLIP) if math.isfinite(away) else CLIP
        return min(max(level + (rise - K) / self.threshold, 0.0), 1.0)


def checked(means: Features, deviations: Features, threshold: object, classes: int) -> Limits:
    """Return limits from a file.

    Raises:
        ValueError: They are damaged.
    """
    for name, array in (("drift_means", means), ("drift_deviations", deviations)):
        if array.shape != (classes,):
            raise ValueError(f"'{name}' has shape {array.shape}, expected ({classes},)")
    if not bool((deviations > 0).all()):
        raise ValueError("a deviation of drift is not positive")
    if type(threshold) not in (int, float) or not _LEAST <= float(str(threshold)) <= _MOST:
        raise ValueError(f"a threshold of drift is {threshold!r:.40}")
    return Limits(means, deviations, float(str(threshold)))


def fit_limits(
    distances: Features, predicted: NDArray[np.integer], classes: int, seed: int = 0
) -> Limits:
    """Return limits with `RATE` false alarms per frame, for streams that show a class for a while.

    Frames of a video are not independent: an unusual class raises the sum frame by frame. So
    streams are drawn from the task's own images in runs of 1 to `RUN` frames of one predicted
    class, each run off its mean by about `SHIFT`, and the threshold is what their sums exceed at
    that rate.

    Args:
        distances: Cross-fitted distances (N,) of the task's own images.
        predicted: Classes (N,) that the task predicts for them.
        classes: Number K of the task's classes.
        seed: Seed of the draws.
    """
    wide = distances.astype(np.float64)
    means, deviations = _by_class(wide, predicted, classes)

    def away(seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        mean, deviation = _by_class(wide[seen], predicted[seen], classes)
        group = predicted[~seen]
        found: NDArray[np.float64] = (wide[~seen] - mean[group]) / deviation[group]
        return found

    # Deviations from means of the same images would be too small, as distances would.
    peaks = _peaks(cross_fitted(len(wide), away), predicted, np.random.default_rng(seed))
    allowed = int(RATE * _STREAMS * _FRAMES)
    highest = float(peaks[-allowed - 1]) if len(peaks) > allowed else 0.0
    threshold = min(max(highest, _LEAST), _MOST)
    return Limits(means.astype(np.float32), deviations.astype(np.float32), threshold)


def _by_class(
    distances: NDArray[np.float64], predicted: NDArray[np.integer], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the deviation (K,) of each predicted class, mixed with those of all."""
    count = np.bincount(predicted, minlength=classes) + _SHRINK
    whole, spread = distances.mean(), max(float(distances.var()), 1e-12)
    means = (np.bincount(predicted, distances, classes) + _SHRINK * whole) / count
    squares = np.bincount(predicted, (distances - means[predicted]) ** 2, classes)
    return means, np.sqrt((squares + _SHRINK * spread) / count)


def _peaks(
    away: NDArray[np.float64], groups: NDArray[np.integer], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the highest sums between returns to 0 of drawn streams, rising."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    ordered, share = away[order], counts / counts.sum()
    level, peak, shift = np.zeros((3, _STREAMS))
    group, left = np.zeros((2, _STREAMS), np.intp)
    found: list[NDArray[np.float64]] = []
    for _ in range(_FRAMES):
        (new,) = np.nonzero(left == 0)
        group[new] = random.choice(len(counts), len(new), p=share)
        left[new] = random.integers(1, RUN + 1, len(new))
        shift[new] = random.normal(0, SHIFT, len(new))
        left -= 1
        images = starts[group] + (random.random(_STREAMS) * counts[group]).astype(np.intp)
        level = np.maximum(level + np.minimum(ordered[images] + shift, CLIP) - K, 0)
        found.append(peak[(level == 0) & (peak > 0)])
        peak = np.where(level == 0, 0, np.maximum(peak, level))
    return np.sort(np.concatenate([*found, peak[peak > 0]]))
