"""Group the frames of several tasks into batches."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from runtime.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Frames to encode together, and the tasks that classify them."""

    frames: tuple[int, ...]
    """Positions of the frames to encode, each frame once."""
    heads: dict[str, list[tuple[int, int]]]
    """Pairs (row of `frames`, position of the result) for each task; all tasks have one share."""


def checked(pairs: object) -> list[tuple[Any, str]]:
    """Return pairs of a frame and a task's id as a list.

    Raises:
        DataError: `pairs` is not a sequence of pairs.
    """
    try:
        found = [(frame, task) for frame, task in pairs]  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"frames of several tasks come as pairs [(frame, task), ...]; found "
            f"{type(pairs).__name__}: {error}"
        ) from error
    return found


def plan(
    frames: Sequence[object],
    tasks: Sequence[str],
    shares: Mapping[str, Hashable],
    current: str | None,
    most: int = 32,
) -> list[Batch]:
    """Plan batches with the fewest switches that encode no frame twice.

    The group of the current task comes first, the others in the order of their first frame.

    Args:
        frames: Frames to classify; the same object is the same frame.
        tasks: Id of the task of each frame.
        shares: A value per task, equal for tasks that can share an encoder pass.
        current: Id of the current task, if there is one; it leads its batch.
        most: Largest number of frames in a batch.
    """
    groups: dict[Hashable, dict[int, list[int]]] = {}
    if current is not None and current in tasks:
        groups[shares[current]] = {}
    for position, (frame, task) in enumerate(zip(frames, tasks, strict=True)):
        groups.setdefault(shares[task], {}).setdefault(id(frame), []).append(position)
    batches = []
    for group in groups.values():
        wanted = list(group.values())
        for start in range(0, len(wanted), most):
            part = wanted[start : start + most]
            heads: dict[str, list[tuple[int, int]]] = {}
            for row, positions in enumerate(part):
                for position in positions:
                    heads.setdefault(tasks[position], []).append((row, position))
            if current is not None and current in heads:
                heads = {current: heads.pop(current), **heads}
            batches.append(Batch(tuple(positions[0] for positions in part), heads))
    return batches


def spread(
    frames: Sequence[object], encodings: Sequence[Hashable], count: int, most: int = 32
) -> list[list[int]]:
    """Divide the positions of frames into parts of equal size, for several sessions at once.

    A part has one encoding. All uses of a frame under one encoding stay together.

    Args:
        frames: Frames to classify; the same object is the same frame.
        encodings: A value per frame, equal for tasks that can share an encoder pass.
        count: Number of sessions.
        most: Largest number of frames in a part.
    """
    groups: dict[Hashable, dict[int, list[int]]] = {}
    for position, (frame, encoding) in enumerate(zip(frames, encodings, strict=True)):
        groups.setdefault(encoding, {}).setdefault(id(frame), []).append(position)
    total = sum(len(group) for group in groups.values())
    size = max(1, min(most, -(-total // count)))
    return [
        list(chain.from_iterable(wanted[start : start + size]))
        for wanted in (list(group.values()) for group in groups.values())
        for start in range(0, len(wanted), size)
    ]
