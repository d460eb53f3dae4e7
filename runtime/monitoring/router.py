"""Follow the scene of one camera: which task its last frames fit, or that they fit none.

Distances are averaged over the last frames, since single frames mislead now and then. When the last
few contradict the average, the scene has changed, and the older ones are dropped. The constants
were chosen on test images of three tasks of the demo, seed 0; see `benchmarks.monitoring`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from runtime.errors import ConfigError
from runtime.monitoring.gaussian import Features
from runtime.monitoring.table import Route, RoutingTable, limit

MOST = 1000
"""Most frames that a router averages, or lets pass between two looks."""
_RECENT = 3
"""Number of last frames that tell a change of scene."""
_CHANGED = 1.5
"""Factor by which the current task must exceed its limit in these for the scene to have changed."""
_BACK = 0.8
"""Share of the limit below which frames are of a task again, after they were of none."""
_WRONG = 0.98
"""Novelty under the current task from which a frame looks wrong."""


@dataclass(frozen=True, eq=False)
class State:
    """What a router knows; replaced as a whole, so that an interrupted call leaves a valid one."""

    table: RoutingTable | None = None
    rows: Features = field(default_factory=lambda: np.empty((0, 0, 0), np.float32))
    """Features (N, G, D) of the frames that are averaged, oldest first, as the table takes them."""
    scores: Features = field(default_factory=lambda: np.empty((0, 0), np.float32))
    """Their scores (N, T) in `table`."""
    mean: Features = field(default_factory=lambda: np.empty(0, np.float32))
    """(T,), the mean of these."""
    choice: str | None = None
    """Task that classifies the frames: the one they fit, or the nearest one."""
    known: bool = False
    """Whether the frames fit that task."""
    since: int = 0
    """Frames since the last one that was looked at."""
    wrong: int = 0
    """Frames in a row that look wrong under the current task."""
    free: bool = False
    """Whether the current task's features are those of the base."""


class Seen(NamedTuple):
    """What the chosen task said of a frame."""

    novelty: float | None
    """The frame's novelty under the task; None where the task has no statistics."""
    features: Features | None
    """(D,), the task's features, where these are the base's own, so that no look is needed."""
    looked_at: bool
    """Whether the router looked at the frame before."""


class Router:
    """Chooses the task of a camera's frames. Make one for each camera; any thread may use it.

    Give it in place of a task's id to `predict` and `predict_many` of sessions and pools over one
    bundle, or to `predict_batch` of sessions. It looks at a frame through the untouched base, which
    takes another pass of the encoder and two switches unless the current task leaves the encoder
    alone. So it looks at every n-th frame, and at each one while it starts, after a change of
    scene, and, for as many frames as it averages, when frames look wrong under the current task.

    Example:
        router = runtime.Router()
        for frame in camera:
            prediction = session.predict(frame, router)
            if not prediction.route.known:
                ...  # of the domain of no task
    """

    def __init__(self, *, frames: int = 15, every: int = 10) -> None:
        """Start without a task.

        Args:
            frames: Number of looked-at frames whose distances are averaged.
            every: Looks at no fewer than one frame in so many; 1 looks at each.

        Raises:
            ConfigError: A number is out of range.
        """
        for name, value in (("frames", frames), ("every", every)):
            if type(value) is not int or not 1 <= value <= MOST:
                raise ConfigError(
                    f"{name} must be a whole number from 1 to {MOST}; found {str(value)[:60]!r}"
                )
        self.frames, self.every = frames, every
        self._state = State()

    @property
    def task(self) -> str | None:
        """The id of the task of the scene; None if it is none of the bundle's, or not known yet."""
        state = self._state
        return state.choice if state.known else None

    @property
    def nearest(self) -> str | None:
        """The id of the task that classifies the frames; None before the first one."""
        return self._state.choice

    @property
    def routes(self) -> list[Route]:
        """How well every task fits the last frames, best first; empty before the first one."""
        state = self._state
        if state.table is None or not len(state.scores):
            return []
        return state.table.ranking(state.mean, len(state.scores))

    def reset(self) -> None:
        """Forget all frames, as when a camera was moved."""
        self._state = State()

    def due(self, table: RoutingTable, count: int) -> list[int]:
        """Return which of the next frames to look at, as positions in [0, count).

        Args:
            table: Tasks to choose from.
            count: Number of the frames.
        """
        state = self._state
        settled = table.index(state.choice) is not None
        if settled and state.free:
            return []
        missing = self.frames - len(state.rows) if settled else self.frames
        # Not for longer: frames that stay wrong would cost a pass of the encoder each.
        suspicious = settled and 0 < state.wrong <= self.frames
        found: list[int] = []
        since = state.since
        for position in range(count):
            since += 1
            if len(found) < missing or suspicious or since >= self.every:
                found.append(position)
                since = 0
        return found

    def decide(
        self, table: RoutingTable, count: int, looked_at: Mapping[int, Features]
    ) -> list[Route] | None:
        """Take in what was looked at of the next frames, and return each one's route.

        None if `due` must be called again, because another call has reset the router.

        Args:
            table: Tasks to choose from.
            count: Number of the frames, at least 1.
            looked_at: Features (G, D) of the frames at the positions that `due` returned.
        """
        state, routes = _in(self._state, table), []
        if state.choice is None and 0 not in looked_at:
            return None
        for position in range(count):
            frame = None
            if position in looked_at:
                state = self._with(state, table, looked_at[position])
                frame = state.scores[-1]
            else:
                state = replace(state, since=state.since + 1)
            own = table.index(state.choice) or 0
            routes.append(table.route(state.mean, own, state.known, frame))
        self._state = state
        return routes

    def note(self, table: RoutingTable, seen: Sequence[Seen]) -> None:
        """Take in what the chosen tasks said of frames.

        Args:
            table: Tasks that were chosen from.
            seen: What they said, in the order of the frames.
        """
        state = self._state
        if state.table is not table:  # another call took in a change of the bundle, or a reset
            return
        for frame in seen:
            wrong = frame.novelty is not None and frame.novelty > _WRONG
            state = replace(
                state, wrong=state.wrong + 1 if wrong else 0, free=frame.features is not None
            )
            if frame.features is not None and not frame.looked_at:
                state = self._with(state, table, frame.features[None])
        self._state = state

    def _with(self, state: State, table: RoutingTable, row: Features) -> State:
        """Return the state with one more frame, looked at through features (G, D)."""
        new = row[None].astype(np.float32)
        rows = np.concatenate([state.rows.reshape(-1, *row.shape), new])[-self.frames :]
        scores = table.bounded(table.scores(new))
        scores = np.concatenate([state.scores.reshape(-1, len(table.tasks)), scores])
        scores = scores[-self.frames :]
        if _changed(state, table, scores):
            rows, scores = rows[-_RECENT:], scores[-_RECENT:]
        return _chosen(replace(state, rows=rows, scores=scores, since=0), table)


def _in(state: State, table: RoutingTable) -> State:
    """Return a state for a table, since tasks may have been installed or removed."""
    if state.table is table:
        return state
    before = state.table
    if before is None or (before.specs, before.size) != (table.specs, table.size):
        return State(table)
    if not len(state.rows):
        return State(table)
    kept = table.index(state.choice) is not None
    scores = table.bounded(table.scores(state.rows))
    own = State(
        table,
        state.rows,
        scores,
        choice=state.choice if kept else None,
        known=state.known and kept,
        since=state.since,
    )
    return _chosen(own, table)


def _changed(state: State, table: RoutingTable, scores: Features) -> bool:
    """Return whether the last of the scores (N, T) are of another scene than the others."""
    own = table.index(state.choice)
    if own is None or len(scores) <= _RECENT:
        return False
    excess, most = table.excess(scores[-_RECENT:].mean(0)), limit(_RECENT)
    if state.known:
        return bool(excess[own] > _CHANGED * most)
    return bool(excess.min() < _BACK * most)


def _chosen(state: State, table: RoutingTable) -> State:
    """Return a state with the task that follows from its scores, and whether it is known."""
    mean, count = state.scores.mean(0), len(state.scores)
    excess, most = table.excess(mean), limit(count)
    own, best = table.index(state.choice), int(mean.argmin())
    if own is None:
        own = best
    elif not state.known:
        most *= _BACK
    if excess[best] <= most and own != best:
        # Between two that fit, a small lead over a few frames does not count.
        lead = float(mean[own] - mean[best])
        if excess[own] > most or lead > table.spread(best) / count**0.5:
            own = best
    known = bool(excess[own] <= most)
    return replace(state, mean=mean, choice=table.tasks[own], known=known)
