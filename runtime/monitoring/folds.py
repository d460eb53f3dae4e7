"""Score images by fits that did not see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
"""Parts that images are divided into; each part is scored by a fit of the others."""
T = TypeVar("T", bound=np.floating)


def cross_fitted(count: int, score: Callable[[NDArray[np.bool_]], NDArray[T]]) -> NDArray[T]:
    """Return a score (N,) for each of N images, from a fit that did not see it.

    Args:
        count: Number N of the images, at least `FOLDS`.
        score: Function of the mask (N,) of the images to fit, which returns the scores of the
            others, in their order.
    """
    fold = np.arange(count) % FOLDS
    parts = [score(fold != number) for number in range(FOLDS)]
    found = np.empty(count, parts[0].dtype)
    for number, part in enumerate(parts):
        found[fold == number] = part
    return found
