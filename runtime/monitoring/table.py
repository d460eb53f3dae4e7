"""Distances of frames to the tasks of a bundle, and the ranking that follows from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.models import Preprocess
from runtime.monitoring import kmeans
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.routing import TaskRouting
from runtime.monitoring.whitening import Whitening

_SOFT = 8.0
"""Difference of squared distances within which several near centres count together; the nearest one
alone tells the demo's domains apart a little less well."""
_FOREIGN = 10.0
"""Excess from which a frame is foreign to a task."""


class Route(NamedTuple):
    """How well one task fits a frame, or the last frames of a camera."""

    task: str
    """Id of the task."""
    distance: float
    """Distance to the task's own images, in the whitened features of the untouched base."""
    margin: float | None
    """Distance of the nearest other task less this one's; negative if that is nearer, None without
    another task."""
    excess: float
    """How far the squared distance is above the mean of the task's own images, in their standard
    deviations."""
    known: bool
    """Whether the excess is usual for the task's own images."""
    frame_excess: float | None
    """The excess of this frame alone; None if the router did not look at it."""


class Placed(NamedTuple):
    """A task in the whitened space of a bundle."""

    centres: Features
    """(C, D), whitened."""
    mean: float
    """Mean of the scores of the task's own images."""
    spread: float
    """Their standard deviation."""


def place(task: str, routing: TaskRouting, whitening: Whitening) -> Placed:
    """Return where the images of a task lie under the whitening of a bundle.

    Raises:
        FormatError: They have features of another size than the whitening.
    """
    if routing.centres.shape[1] != whitening.size:
        raise FormatError(
            f"task '{task}' is routed by features of {routing.centres.shape[1]} dimensions, the "
            f"bundle's whitening takes {whitening.size}; export the bundle again"
        )
    centres = whitening.apply(routing.centres)
    sample = whitening.apply(routing.sample)
    squares = kmeans.squares(_wide(sample), _wide(centres))
    own = _soft(squares[:, :, None], np.array([len(centres)], np.float32))[:, 0]
    mean = float(own.mean())
    # Equal images have no spread, and then no other image would be known.
    return Placed(centres, mean, max(float(own.std()), 0.05 * abs(mean), 1e-6))


class RoutingTable:
    """All tasks of a bundle that frames can be routed to. Immutable."""

    def __init__(
        self,
        whitening: Whitening,
        tasks: Mapping[str, tuple[Placed, Preprocess]],
        untouched: Collection[str] = (),
    ) -> None:
        """Put the tasks of a bundle side by side.

        Args:
            whitening: Whitening of the bundle.
            tasks: For each task, at least one, its images and the preprocessing of its frames.
            untouched: Tasks whose encoder is the untouched base.
        """
        kinds: dict[tuple[Preprocess, str], list[str]] = {}
        for task, (_, spec) in tasks.items():
            kinds.setdefault((spec, spec.background), []).append(task)
        self.specs: tuple[Preprocess, ...] = tuple(spec for spec, _ in kinds)
        """The tasks' ways to preprocess frames, each of which takes a pass of the encoder; those
        that differ in the background alone take one for frames without transparency."""
        groups = list(kinds.values())
        self.tasks = tuple(task for group in groups for task in group)
        """Ids of the tasks, those of one preprocessing together."""
        self._names = np.array(self.tasks, object)
        self._index = {task: position for position, task in enumerate(self.tasks)}
        self.free = frozenset(untouched if len(self.specs) == 1 else ())
        """Tasks whose own features are all that a look at a frame would bring."""
        self.size = whitening.size
        """Number D of a feature's dimensions."""
        self._whitening = whitening
        self._groups = [_Group([tasks[task][0] for task in group]) for group in groups]
        placed = [tasks[task][0] for task in self.tasks]
        self._mean = np.array([each.mean for each in placed], np.float32)
        self._spread = np.array([each.spread for each in placed], np.float32)

    def index(self, task: str | None) -> int | None:
        """Return the position of a task in `tasks`; None where it is not there."""
        return None if task is None else self._index.get(task)

    def scores(self, features: NDArray[np.floating]) -> Features:
        """Return squared distances (N, T) of N frames to the T tasks.

        Args:
            features: Features (N, G, D) of the untouched base, of frames as each of `specs` takes
                them.
        """
        rows = unit(features)
        found = [
            group.scores(self._whitening.apply(rows[:, number]))
            for number, group in enumerate(self._groups)
        ]
        return found[0] if len(found) == 1 else np.concatenate(found, 1)

    def bounded(self, scores: Features) -> Features:
        """Return scores (N, T) in which a frame that is foreign to all tasks does not count much.

        It would outweigh the other frames of an average, and says nothing of which task fits them.
        """
        foreign = self.excess(scores).min(1, keepdims=True) > _FOREIGN
        found: Features = np.where(foreign, self._mean + _FOREIGN * self._spread, scores)
        return found

    def excess(self, scores: Features) -> Features:
        """Return how far scores (..., T) are above the mean of those of the tasks' own images.

        In standard deviations of a single image's, (..., T).
        """
        found: Features = (scores - self._mean) / self._spread
        return found

    def spread(self, index: int) -> float:
        """Return the standard deviation of the scores of a task's own images."""
        return float(self._spread[index])

    def route(
        self, scores: Features, index: int, known: bool, frame: Features | None = None
    ) -> Route:
        """Return how well a task fits frames.

        Args:
            scores: Mean scores (T,) of the frames.
            index: Position of the task.
            known: Whether the frames are of the task's domain.
            frame: Scores (T,) of the last frame, if it was looked at.
        """
        own, margin = float(scores[index]), None
        distance = max(own, 0.0) ** 0.5
        if len(scores) > 1:
            first, second = np.partition(scores, 1)[:2].tolist()
            margin = max(second if own <= first else first, 0.0) ** 0.5 - distance
        mean, spread = float(self._mean[index]), float(self._spread[index])
        alone = None if frame is None else (float(frame[index]) - mean) / spread
        return Route(self.tasks[index], distance, margin, (own - mean) / spread, known, alone)

    def ranking(self, scores: Features, frames: int) -> list[Route]:
        """Return how well every task fits frames, best first.

        Args:
            scores: Mean scores (T,) of the frames.
            frames: Number of the frames.
        """
        order = np.argsort(scores, kind="stable")
        distances = np.sqrt(np.maximum(scores[order], 0))
        margins: list[float | None] = [None]
        if len(order) > 1:
            margins = [*(distances[1:2] - distances[0]).tolist()]
            margins += (distances[0] - distances[1:]).tolist()
        above = self.excess(scores)[order]
        known, excess = (above <= limit(frames)).tolist(), above.tolist()
        tasks = self._names[order].tolist()
        alone = excess if frames == 1 else [None] * len(order)
        parts = zip(tasks, distances.tolist(), margins, excess, known, alone, strict=True)
        return [*map(partial(tuple.__new__, Route), parts)]  # half the time of `Route(...)`


def limit(frames: int) -> float:
    """Return the largest excess, of the mean of so many frames, that is usual for a task.

    It does not fall to 0, since frames in a row show the same things, so that their mean varies as
    well. Chosen like the constants of `runtime.monitoring.router`.
    """
    return float(1.5 + 2.5 / np.sqrt(frames))


class _Group:
    """Tasks whose frames are preprocessed alike."""

    def __init__(self, tasks: list[Placed]) -> None:
        counts = np.array([len(task.centres) for task in tasks])
        self._most = int(counts.max())
        centres = np.concatenate([task.centres for task in tasks])
        # Subtracted, since small differences of large numbers would lose their digits.
        self._middle = centres.mean(0)
        # The first centres of all tasks, then the second ones, and so on: NumPy reduces these
        # several times faster than the centres of one task after another.
        rank = np.concatenate([np.arange(count) for count in counts])
        order = np.argsort(rank, kind="stable")
        apart = (centres - self._middle)[order]
        self._twice, self._squares = -2 * apart, (apart**2).sum(1)
        task = np.repeat(np.arange(len(tasks)), counts)
        self._place = None if np.ptp(counts) == 0 else (rank * len(tasks) + task)[order]
        self._counts = counts.astype(np.float32)

    def scores(self, white: Features) -> Features:
        """Return squared distances (N, T) of whitened features (N, D)."""
        apart = white - self._middle
        squares: NDArray[np.floating] = apart @ self._twice.T
        squares += self._squares
        squares += np.einsum("nd,nd->n", apart, apart)[:, None]
        shape = len(white), self._most, len(self._counts)
        if self._place is not None:
            full = np.full((shape[0], shape[1] * shape[2]), np.inf, np.float32)
            full[:, self._place] = squares
            squares = full
        return _soft(squares.reshape(shape), self._counts)


def _wide(rows: Features) -> kmeans.Rows:
    return rows.astype(np.float64)


def _soft(squares: NDArray[np.floating], counts: Features) -> Features:
    """Return squared distances (N, T) to tasks from those (N, C, T) to their centres.

    Args:
        squares: Squared distances to the C-th centre of each task; infinite where it has none.
        counts: Numbers of centres (T,).
    """
    least = squares.min(1)
    shares = np.exp((least[:, None] - squares) / _SOFT).sum(1) / counts
    found: Features = (least - _SOFT * np.log(shares)).astype(np.float32)
    return found
