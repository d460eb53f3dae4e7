"""Classify the items of a source in batches, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from runtime.errors import DataError
from runtime.monitoring.router import Router
from runtime.outputs.base import Result
from runtime.prediction import Prediction, compare_at_once
from runtime.sessions.session import Session
from runtime.sources.ahead import ROOM
from runtime.sources.base import Input, Item


def classify(
    session: Session, items: Iterable[Item], batch: int, *, auto: bool = False
) -> Iterator[Result]:
    """Yield a result for each item, in order; an item without a frame has its error as result.

    A batch has fewer frames where these are so large that they would fill the memory.

    Args:
        session: Session that classifies them, by its current task unless `auto`.
        items: Items; there may be no end of them.
        batch: Largest number of frames in a batch; with 1, each item is answered as it comes.
        auto: Whether to choose the task, of an image by itself and of a video as it goes on.

    Raises:
        UdaError: As `Session.predict`, except that a frame which cannot be classified is a result.
    """
    waiting: list[Item] = []
    size, routers = 0, _Routers() if auto else None
    for item in items:
        waiting.append(item)
        size += 0 if item.frame is None else item.frame.nbytes
        if len(waiting) == batch or size >= ROOM:
            yield from _results(session, waiting, routers)
            waiting, size = [], 0
    yield from _results(session, waiting, routers)


class _Routers:
    """The routers of items."""

    def __init__(self) -> None:
        self._video: tuple[Input, Router] | None = None

    def of(self, item: Item) -> Router:
        """Return the router of a video that goes on, or a new one."""
        if item.number is None:
            return Router(frames=1)
        if self._video is None or self._video[0] is not item.input:
            self._video = item.input, Router()
        return self._video[1]


def _results(session: Session, items: Sequence[Item], routers: _Routers | None) -> Iterator[Result]:
    seen = [item for item in items if item.frame is not None]
    predictions = iter(_predictions(session, seen, routers))
    for item in items:
        found = item.error if item.frame is None else next(predictions)
        if isinstance(found, Prediction):
            true = item.input.label_of(found.classes)
            yield Result(item, found.task, found, true_label=true)
        else:
            task = "" if routers else session.task or ""
            yield Result(item, task, error=found)


def _predictions(
    session: Session, items: Sequence[Item], routers: _Routers | None
) -> Sequence[Prediction | DataError]:
    """Return the prediction of each item, or why it has none."""
    frames = [item.frame for item in items if item.frame is not None]
    if not frames:
        return []
    try:
        if routers is None:
            found = session.predict_batch(frames)
            compare_at_once(found)
            return found
        chosen = [routers.of(item) for item in items]
        return session.predict_many(list(zip(frames, chosen, strict=True)))
    except DataError as error:
        if len(frames) == 1:
            return [error]
    return [found for item in items for found in _predictions(session, [item], routers)]
