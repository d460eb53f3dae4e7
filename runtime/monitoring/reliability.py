"""How far scores of predictions can be trusted: calibration error, and risk against coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Predictions whose scores lie in one interval."""

    low: float
    high: float
    count: int
    score: float
    """Mean score; the middle of the interval where there are none."""
    accuracy: float
    """Share that is right; 0 where there are none."""


def bins(scores: NDArray[np.floating], right: NDArray[np.bool_], count: int = BINS) -> list[Bin]:
    """Return predictions, grouped by their scores into intervals of equal width.

    Args:
        scores: Scores (N,) of the predicted classes, in [0, 1].
        right: Whether each prediction (N,) is right.
        count: Number of intervals.
    """
    wide = np.asarray(scores, np.float64)
    position = np.minimum((wide * count).astype(np.intp), count - 1)
    filled = np.bincount(position, minlength=count)
    sums = np.bincount(position, wide, count)
    hits = np.bincount(position, np.asarray(right, np.float64), count)
    found = []
    for i, own in enumerate(filled.tolist()):
        low, high = i / count, (i + 1) / count
        score = float(sums[i]) / own if own else (low + high) / 2
        found.append(Bin(low, high, own, score, float(hits[i]) / own if own else 0.0))
    return found


def calibration_error(
    scores: NDArray[np.floating], right: NDArray[np.bool_], count: int = BINS
) -> float:
    """Return the expected calibration error (ECE) in [0, 1] (Guo et al. 2017, arXiv:1706.04599).

    The mean distance between score and accuracy over `bins`, weighted by their counts. For few
    predictions it is well above 0 even if the scores are true probabilities.

    Args:
        scores: As for `bins`, N at least 1.
        right: As for `bins`.
        count: As for `bins`.
    """
    apart = (own.count * abs(own.score - own.accuracy) for own in bins(scores, right, count))
    return sum(apart) / len(scores)


def risks(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> Floats:
    """Return the share of errors (N,) among the 1, 2, ... N predictions with the highest scores.

    Equal scores have no order: the mean over all orders is taken.

    Args:
        scores: As for `bins`.
        right: As for `bins`.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    wrong = ~np.asarray(right, bool)[order]
    _, group, sizes = np.unique(
        -np.asarray(scores, np.float64)[order], return_inverse=True, return_counts=True
    )
    shared = np.bincount(group, wrong) / sizes
    found: Floats = np.cumsum(shared[group]) / np.arange(1, len(wrong) + 1)
    return found


def area(scores: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Return the area under the risk-coverage curve (AURC) in [0, 1]: the mean of `risks`.

    Geifman and El-Yaniv 2017 (arXiv:1705.08500). Lower is better; scores that tell right from wrong
    bring it below the share of errors.

    Args:
        scores: As for `bins`, N at least 1.
        right: As for `bins`.
    """
    return float(risks(scores, right).mean())
