"""The prediction of a session for one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.models import REJECT
from runtime.monitoring.confidence import Calibration, described
from runtime.monitoring.statistics import TaskStatistics
from runtime.monitoring.table import Route

WATCHED = ("confidence", "calibration", "novelty", "affinity", "known")
"""Properties that come from what a task carries; a row leaves out those that are None."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction of one task for one frame."""

    task: str
    """Id of the task that classified the frame."""
    classes: tuple[str, ...]
    logits: NDArray[np.float32]
    """(K,), in the order of `classes`."""
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    """(D,), the frame's features under the task; None where the task has no statistics."""
    statistics: TaskStatistics | None = field(default=None, repr=False)
    """Statistics of the task's own images."""
    reject: float = REJECT
    """Share of the task's own images that `known` may take for unknown."""
    blank: bool = False
    """Whether the frame shows nothing, see `runtime.frames.blank`; for tasks with statistics."""
    calibrated: Calibration | None = field(default=None, repr=False)
    """The task's temperature."""
    route: Route | None = None
    """How well the task fits the last frames of the camera; None where no router chose it."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        same = (self.task, self.classes) == (other.task, other.classes)
        return same and np.array_equal(self.logits, other.logits)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Softmax of the logits, (K,), in [0, 1]."""
        shifted = np.exp(self.logits - self.logits.max())
        scores: NDArray[np.float32] = shifted / shifted.sum()
        return scores

    @property
    def confidence(self) -> float | None:
        """The probability that the label is right, in [0, 1], as sorted images calibrated it.

        It holds for frames like the sorted ones: of the task's domain, and of one of its classes.
        None for an uncalibrated task, whose scores are not probabilities.
        """
        if self.calibrated is None:
            return None
        return float(self.calibrated.probabilities(self.logits).max())

    @property
    def calibration(self) -> str:
        """What `confidence` is from: `50 sorted images`, or `uncalibrated`."""
        return described(self.calibrated)

    @property
    def label(self) -> str:
        """The most likely class."""
        return self.classes[int(self.logits.argmax())]

    @property
    def score(self) -> float:
        """The softmax score of the most likely class, in [0, 1]."""
        return float(self.scores.max())

    @cached_property
    def novelty(self) -> float | None:
        """How far the frame is from the task's own images, in [0, 1].

        The share of the task's own images that are nearer to their mean, by Mahalanobis distance of
        the features. None where the task has no statistics.
        """
        if self.statistics is None or self.features is None:
            return None
        return float(self.statistics.novelty(self.features[None])[0])

    @cached_property
    def affinity(self) -> float | None:
        """Cosine of the features to the nearest mean of a class, in [-1, 1].

        It is low for classes that the task does not know. None where the task has no statistics.
        """
        if self.statistics is None or self.features is None:
            return None
        return float(self.statistics.affinity(self.features[None])[0])

    @property
    def known(self) -> bool | None:
        """Whether the frame seems to be of the task's domain, and of one of its classes.

        A blank frame is unknown, and so is one that a router found to be of no task's domain. Of
        the task's own images, the share `reject` is taken for unknown. None where the task has no
        statistics, unless a router found the frame to be of no task's domain.
        """
        if self.route is not None and not self.route.known:
            return False
        if self.statistics is None or self.novelty is None or self.affinity is None:
            return None
        known = self.statistics.accepts(self.novelty, self.affinity, self.reject)
        return not self.blank and bool(known)

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the most likely classes with their scores, best first.

        Args:
            count: Number of classes, at least 1; all of them if there are fewer.

        Raises:
            ConfigError: The count is below 1.
        """
        if count < 1:
            raise ConfigError(f"expected a count of at least 1 class, found {count}")
        scores = self.scores
        order = np.argsort(-scores, kind="stable")[:count]
        return [(self.classes[i], float(scores[i])) for i in order]

    def to_dict(self, top: int = 1) -> dict[str, Any]:
        """Return the prediction as a row for a table or a line of JSON.

        Args:
            top: Number of classes in `top`, as for the method of that name.

        Returns:
            `task`, `label`, `score`, `top`: pairs of a class and its score, best first, and
            `calibration`. For a calibrated task also `confidence`; for one with statistics also
            `novelty`, `affinity` and `known`. Where a router chose the task also `route`.

        Raises:
            ConfigError: The number is below 1.
        """
        best = self.top(top)
        label, score = best[0]
        row: dict[str, Any] = {"task": self.task, "label": label, "score": score, "top": best}
        watched = {name: getattr(self, name) for name in WATCHED}
        if self.route is not None:
            row["route"] = self.route._asdict()
        return row | {name: value for name, value in watched.items() if value is not None}


def compare_at_once(predictions: Sequence[Prediction]) -> None:
    """Compute novelty and affinity of one task's predictions, ten times as fast as one by one."""
    statistics = predictions[0].statistics if predictions else None
    rows = [each.features for each in predictions if each.features is not None]
    if statistics is None or len(rows) < len(predictions):
        return
    features = np.stack(rows)
    found = zip(
        predictions, statistics.novelty(features), statistics.affinity(features), strict=True
    )
    for prediction, novelty, affinity in found:
        vars(prediction).update(novelty=float(novelty), affinity=float(affinity))
