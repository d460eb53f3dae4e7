"""Smooth the label of a source over its last frames."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from runtime.prediction import Prediction
from runtime.watch.observation import Smoothed


class Smoother:
    """Means of the softmax scores of the last frames under one task. Used by one thread at a time.

    It starts anew with another task, and on `reset`.
    """

    def __init__(self, frames: int) -> None:
        """Start without a frame.

        Args:
            frames: Largest number of frames that it takes the mean of.
        """
        self._scores: deque[NDArray[np.float32]] = deque(maxlen=frames)
        self._of: tuple[str, tuple[str, ...]] | None = None

    def see(self, prediction: Prediction) -> Smoothed:
        """Take in the next frame's prediction, and return the smoothed label."""
        of = prediction.task, prediction.classes
        if of != self._of:
            self.reset()
            self._of = of
        self._scores.append(prediction.scores)
        mean: NDArray[np.float64] = np.stack(self._scores).mean(axis=0, dtype=np.float64)
        best = int(mean.argmax())
        return Smoothed(prediction.classes[best], float(mean[best]), len(self._scores))

    def reset(self) -> None:
        """Forget all frames."""
        self._scores.clear()
        self._of = None
