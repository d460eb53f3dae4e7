"""Classify the items of a source in batches, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from runtime.errors import DataError
from runtime.outputs.base import Result
from runtime.prediction import Prediction
from runtime.sessions.session import Session
from runtime.sources.ahead import ROOM
from runtime.sources.base import Item


def classify(session: Session, items: Iterable[Item], batch: int) -> Iterator[Result]:
    """Yield a result for each item, in order; an item without a frame has its error as result.

    A batch has fewer frames where these are so large that they would fill the memory.

    Args:
        session: Session whose current task classifies them.
        items: Items; there may be no end of them.
        batch: Largest number of frames in a batch; with 1, each item is answered as it comes.

    Raises:
        UdaError: As `Session.predict`, except that a frame which cannot be classified is a result.
    """
    waiting: list[Item] = []
    size = 0
    for item in items:
        waiting.append(item)
        size += 0 if item.frame is None else item.frame.nbytes
        if len(waiting) == batch or size >= ROOM:
            yield from _results(session, waiting)
            waiting, size = [], 0
    yield from _results(session, waiting)


def _results(session: Session, items: Sequence[Item]) -> Iterator[Result]:
    predictions = iter(_predictions(session, [item for item in items if item.frame is not None]))
    for item in items:
        found = item.error if item.frame is None else next(predictions)
        if isinstance(found, Prediction):
            true = item.input.label_of(found.classes)
            yield Result(item, found.task, found, true_label=true)
        else:
            yield Result(item, session.task or "", error=found)


def _predictions(session: Session, items: Sequence[Item]) -> Sequence[Prediction | DataError]:
    """Return the prediction of each item, or why it has none."""
    frames = [item.frame for item in items if item.frame is not None]
    if not frames:
        return []
    try:
        return session.predict_batch(frames)
    except DataError as error:
        if len(frames) == 1:
            return [error]
    return [found for item in items for found in _predictions(session, [item])]
