"""Choose the task of frames by a look at them through the untouched base.

For a look the current patch comes off. It is not put back at once: as after an interrupted switch,
the next call writes the task that it needs. So a look costs two switches, whether the task changes
or not, and an exception in between needs no repair.

Longer than most files: a public class, with what sessions and pools share of choosing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.bundle import Bundle
from runtime.errors import FormatError, TaskError
from runtime.frames.preprocess import Frame, as_frame, check_frames
from runtime.models import AUTO, Preprocess
from runtime.monitoring.router import Router, Seen
from runtime.monitoring.table import Route, RoutingTable
from runtime.prediction import Prediction
from runtime.sessions.cache import Lease, TaskCache
from runtime.sessions.switching import SwitchingSession
from runtime.strategies.base import Strategy

TaskChoice = str | Router
"""Id of a task, `auto`, or the router of a camera."""
_MOST = 32
"""Most frames to look at in one pass."""


def routed(task: object) -> TypeGuard[TaskChoice]:
    """Return whether an argument asks for a task to be chosen."""
    return isinstance(task, Router) or (isinstance(task, str) and task == AUTO)


def opaque(frames: Sequence[Frame]) -> bool:
    """Return whether no frame can have transparent pixels: all are arrays, not images or files."""
    return all(isinstance(frame, np.ndarray) for frame in frames)


class Chosen:
    """Frames with the tasks that were chosen for them, and their routers."""

    def __init__(
        self,
        table: RoutingTable,
        pairs: Sequence[tuple[Frame, TaskChoice]],
        routes: dict[int, Route],
        looked_at: Sequence[int],
    ) -> None:
        """Replace routers by the tasks of their routes.

        Args:
            table: Tasks that were chosen from.
            pairs: Frames, each with a task's id or a router.
            routes: Routes of those with a router, by position.
            looked_at: Positions of the frames that were looked at.
        """
        self.pairs: list[tuple[Frame, Any]] = [
            (frame, routes[position].task if position in routes else task)
            for position, (frame, task) in enumerate(pairs)
        ]
        """The frames, each with the id of a task."""
        self._table, self._routes, self._looked_at = table, routes, set(looked_at)
        self._routers = [task if isinstance(task, Router) else None for _, task in pairs]

    def noted(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Tell the routers what their tasks predicted, and return the predictions with routes."""
        found: list[Prediction] = []
        seen: dict[Router, list[Seen]] = {}
        for position, prediction in enumerate(predictions):
            router = self._routers[position]
            if router is not None:
                prediction = replace(prediction, route=self._routes[position])
                free = prediction.features if prediction.task in self._table.free else None
                seen.setdefault(router, []).append(
                    Seen(prediction.novelty, free, position in self._looked_at)
                )
            found.append(prediction)
        for router, own in seen.items():
            router.note(self._table, own)
        return found


def answered(
    pairs: Sequence[tuple[Frame, TaskChoice]],
    choose: Callable[[Sequence[tuple[Frame, TaskChoice]]], Chosen],
    predict: Callable[[list[tuple[Frame, str]]], list[Prediction]],
    tasks: Callable[[], Collection[str]],
) -> list[Prediction]:
    """Choose tasks for frames, and return the predictions of these tasks.

    Args:
        pairs: Frames, each with a task's id or a router.
        choose: Function that chooses.
        predict: Function that classifies frames by tasks that are named.
        tasks: Function that returns the tasks that there are now.
    """
    while True:
        chosen = choose(pairs)
        try:
            return chosen.noted(predict(chosen.pairs))
        except TaskError:
            there = tasks()
            gone = [n for n, (_, task) in enumerate(chosen.pairs) if task not in there]
            # A refresh may have removed a task after it was chosen: choose again. A missing task
            # that the caller named is an error.
            if not gone or any(not routed(pairs[number][1]) for number in gone):
                raise


class RoutingSession(SwitchingSession):
    """A session that can look at frames through the untouched base."""

    def __init__(
        self, bundle: Bundle, strategy: Strategy[Any], cache: TaskCache | None = None
    ) -> None:
        """Take ownership of an open bundle, see `SwitchingSession`."""
        super().__init__(bundle, strategy, cache)
        self._router = Router()

    def route(self, frame: Frame) -> list[Route]:
        """Return how well each task fits one frame, best first, by a look through the base.

        Tasks that do not carry routing are left out. The current task stays.

        Args:
            frame: As for `predict`.

        Raises:
            TaskError: The bundle cannot route frames.
            DataError: The frame is not an RGB image, or its file cannot be read.
            FormatError: A task's file is damaged, or the bundle's parts do not fit together.
            BackendError: The session is closed, or the engine failed.
        """
        table = self._table()
        return table.ranking(table.scores(self._look([frame], table))[0], 1)

    def base_features(
        self, frames: Sequence[Frame], task: str | None = None
    ) -> NDArray[np.float32]:
        """Return the features (N, D) of frames under the untouched base, a fresh array.

        Args:
            frames: Frames, each as for `predict`.
            task: Id of the task that says how frames are resized; None takes the current one.

        Raises:
            TaskError: No task is selected, or the bundle has no such task.
            UdaError: As `route`; also a DataError if there is no frame.
        """
        check_frames(frames)
        return self._through_base(frames, self._spec(task, frames))

    def choose(self, pairs: Sequence[tuple[Frame, TaskChoice]]) -> Chosen:
        """Choose a task for each frame that has a router in place of a task's id.

        Args:
            pairs: Frames, each with a task's id, `auto` or a router; those of one router are
                frames of one camera, in their order.

        Raises:
            UdaError: As `route`.
        """
        table = self._table()
        pairs = [
            (frame, self._router if isinstance(task, str) and task == AUTO else task)
            for frame, task in pairs
        ]
        cameras: dict[Router, list[int]] = {}
        for position, (_, task) in enumerate(pairs):
            if isinstance(task, Router):
                cameras.setdefault(task, []).append(position)
        due = {
            router: [own[turn] for turn in router.due(table, len(own))]
            for router, own in cameras.items()
        }
        chosen = [position for own in due.values() for position in own]
        looks = self._look([pairs[position][0] for position in chosen], table) if chosen else ()
        rows = dict(zip(chosen, looks, strict=True))
        routes: dict[int, Route] = {}
        for router, own in cameras.items():
            seen = {turn: rows[place] for turn, place in enumerate(own) if place in rows}
            found = router.decide(table, len(own), seen)
            if found is None:  # it was reset meanwhile
                return self.choose(pairs)
            routes.update(zip(own, found, strict=True))
        return Chosen(table, pairs, routes, chosen)

    def _with_routers(
        self,
        pairs: Sequence[tuple[Frame, TaskChoice]],
        predict: Callable[[list[tuple[Frame, str]]], list[Prediction]],
    ) -> list[Prediction]:
        """Choose tasks for frames, and return what a function predicts for the pairs."""
        return answered(pairs, self.choose, predict, lambda: self._opened().keys)

    def _table(self) -> RoutingTable:
        return self._cache.tables.of(self._opened().bundle)

    def _spec(self, task: str | None, frames: Sequence[Frame] = ()) -> Preprocess:
        """Return a task's preprocessing, with its background if a frame may be transparent."""
        view, current = self._opened(), self._held.task
        named = view.current(current) if task is None else task
        if current is not None and current.info.id == named in view.keys:
            return current.preprocess
        if opaque(frames):
            return view.preprocess(named)
        lease = Lease()  # the background is in the task's own file
        self._cache.lease(lease)
        try:
            return view.load(named, lease, beside=False).preprocess
        finally:
            self._cache.end(lease)

    def _look(self, frames: Sequence[Frame], table: RoutingTable) -> NDArray[np.float32]:
        """Return features (N, G, D) of the untouched base, for each preprocessing of a table.

        Raises:
            FormatError: The base has features of another size than the bundle's whitening.
        """
        passes: dict[object, NDArray[np.float32]] = {}
        for spec in table.specs:
            own = _pixels_key(spec, frames)
            if own not in passes:
                passes[own] = self._through_base(frames, spec)
        found = np.stack([passes[_pixels_key(spec, frames)] for spec in table.specs], 1)
        if found.shape[2] != table.size:
            raise FormatError(
                f"the base has features of {found.shape[2]} dimensions, the bundle's whitening "
                f"takes {table.size}; export the bundle again"
            )
        return found

    def _through_base(self, frames: Sequence[Frame], spec: Preprocess) -> NDArray[np.float32]:
        check_frames(frames)
        found = []
        for start in range(0, len(frames), _MOST):
            ready = [as_frame(frame, spec.background) for frame in frames[start : start + _MOST]]
            pixels = self._strategy.pixels(ready, spec)
            try:
                with self._turn:
                    self._opened()
                    self._known = False
                    found.append(self._strategy.base_features(pixels, spec).copy())
            finally:
                self._close_if_asked()
        return np.concatenate(found)


def _pixels_key(spec: Preprocess, frames: Sequence[Frame]) -> object:
    """Return a value that is equal where frames become the same pixels."""
    return spec if opaque(frames) else (spec, spec.background)
