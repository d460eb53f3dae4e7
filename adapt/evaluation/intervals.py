"""Confidence intervals and a sign test for small samples."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


def wilson(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, both ends in [0, 1].

    `(p + z^2/2n -+ z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)` (Wilson, JASA 1927). It is
    for the domain that the images came from. For the finite set they were drawn from, without
    replacement, it is a little too wide; it is not corrected for that.

    Args:
        right: Number of correct images.
        images: Number of all images, at least 1.
    """
    p, z2 = right / images, Z95**2
    middle = p + z2 / (2 * images)
    half = Z95 * math.sqrt(p * (1 - p) / images + z2 / (4 * images**2))
    scale = 1 + z2 / images
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


def sign_test(better: int, worse: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (Psychometrika 1947).

    The probability that two equally good classifiers differ at least so unevenly.

    Args:
        better: Number of images that only the first gets right.
        worse: Number of images that only the second gets right.
    """
    count, few = better + worse, min(better, worse)
    tail: int = sum(math.comb(count, k) for k in range(few + 1))
    return min(2 * (tail / (1 << count)), 1.0)
