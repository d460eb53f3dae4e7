"""Score predictions on labelled images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapt.evaluation.confusion import Confusion


@dataclass(frozen=True)
class Scores:
    """Accuracies in percent, over the images of known class."""

    accuracy: float
    """Correct over all, in [0, 100]."""
    mean_per_class: float
    """Mean of the recalls of the classes that occur: VisDA's metric."""
    per_class: dict[str, float | None]
    """Recall of each class; None for a class without images."""
    images: int
    """Number of images scored."""


def score(logits: Tensor, labels: NDArray[np.int64], classes: Sequence[str]) -> Scores | None:
    """Return the scores of logits (N, C) on labels (N,), or None when no label is known.

    Args:
        logits: Logits, one row per image.
        labels: Class positions; UNKNOWN (-1) rows do not count.
        classes: Names of the C classes.
    """
    found = Confusion.of(logits, labels, classes)
    if found.accuracy is None or found.mean_per_class is None:
        return None
    return Scores(
        accuracy=found.accuracy,
        mean_per_class=found.mean_per_class,
        per_class={line.name: line.recall for line in found.lines()},
        images=found.images,
    )
