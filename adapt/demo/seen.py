"""What a session predicted for a camera's frames, summed up by part of the story and over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

BIN = 25
"""Frames of one point over time."""
ADAPTING = "adapting"
"""Part of the story whose number of frames depends on the machine: one point over time."""


@dataclass(frozen=True)
class Seen:
    """What the session predicted for one frame."""

    phase: str
    """Part of the story."""
    scene: str
    task: str
    """Task that classified the frame."""
    right: bool
    known: bool
    """Whether the last frames fit that task; otherwise they fit none."""
    drifting: bool


def alarms(seen: Sequence[Seen]) -> int:
    """Return how often the state became `drifting`."""
    before = [False, *(one.drifting for one in seen)]
    return sum(now and not was for was, now in zip(before, before[1:], strict=False))


def first(seen: Sequence[Seen], holds: Callable[[Seen], bool]) -> int | None:
    """Return the number of frames up to the first for which something holds; None without one."""
    return next((number for number, one in enumerate(seen, 1) if holds(one)), None)


def phases(seen: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    """Return the figures of each part of the story."""
    return {name: _figures(list(own)) for name, own in groupby(seen, lambda one: one.phase)}


def timeline(seen: Sequence[Seen]) -> list[dict[str, Any]]:
    """Return the figures of every `BIN` frames, and of `ADAPTING` as a whole."""
    found = []
    for name, group in groupby(seen, lambda one: one.phase):
        own = list(group)
        step = len(own) if name == ADAPTING else BIN
        for start in range(0, len(own), step):
            found.append({"phase": name, **_figures(own[start : start + step])})
    return found


def _figures(seen: Sequence[Seen]) -> dict[str, Any]:
    """Return the figures of some frames; shares are percentages."""

    def share(values: Sequence[bool]) -> float:
        return round(100 * sum(values) / len(values), 1)

    tasks = Counter(one.task for one in seen)
    return {
        "frames": len(seen),
        "accuracy": share([one.right for one in seen]),
        "known": share([one.known for one in seen]),
        "drifting": share([one.drifting for one in seen]),
        "tasks": {task: round(100 * count / len(seen), 1) for task, count in tasks.items()},
    }
