"""What monitors and harvests need of a prediction; `runtime.Prediction` has it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.monitoring.statistics import TaskStatistics
from runtime.monitoring.table import Route


class Watched(Protocol):
    """A prediction of a task for one frame."""

    @property
    def task(self) -> str:
        """Id of the task."""

    @property
    def label(self) -> str:
        """The most likely class."""

    @property
    def score(self) -> float:
        """The softmax score of the most likely class, in [0, 1]."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(K,)."""

    @property
    def features(self) -> NDArray[np.float32] | None:
        """(D,), under the task."""

    @property
    def statistics(self) -> TaskStatistics | None:
        """Statistics of the task's own images."""

    @property
    def blank(self) -> bool:
        """Whether the frame shows nothing."""

    @property
    def route(self) -> Route | None:
        """How well the task fits the last frames; None where no router chose it."""
