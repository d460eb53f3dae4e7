"""Task switch time, and throughput of mixes of many tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.latency import conditions, summary, timed
from runtime.console import bytes_text, table
from runtime.sessions.session import Session

_ROUNDS, _SECONDS = 3, 5.0
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

Pairs = list[tuple[NDArray[np.uint8], str]]


@dataclass(frozen=True)
class MixPlan:
    """Tasks, mixes and numbers of switches to measure."""

    tasks: tuple[str, ...]
    frames: int = 32
    """Number of frames in a mix; a mix of more tasks has one frame of each."""
    samples: int = 100
    """Number of timed switches."""
    warmup: int = 10
    """Number of warm-up switches; neither they nor the frames after them are timed."""


def steps(tasks: int) -> tuple[int, ...]:
    """Return the numbers of tasks to mix: 1, 2, 5, 10, ... and all."""
    return (*(step for step in _STEPS if step < tasks), tasks)


def mix(tasks: Sequence[str], count: int, frame: NDArray[np.uint8], seed: int) -> Pairs:
    """Return frames in random order, as many of each task; each is an array of its own.

    Args:
        tasks: Tasks to mix.
        count: Number of frames; raised to one per task.
        frame: Frame (H, W, 3), uint8; copied, since the same frame under several tasks may cost
            less.
        seed: Seed of the order.
    """
    order = np.random.default_rng(seed).permutation(max(count, len(tasks)))
    return [(frame.copy(), tasks[int(number) % len(tasks)]) for number in order]


def one_by_one(session: Session, pairs: Pairs) -> None:
    """Predict frames in the order given."""
    for frame, task in pairs:
        session.predict(frame, task=task)


def measure(
    session: Session, plan: MixPlan, frame: NDArray[np.uint8], done: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Yield a row for switching, then one per number of tasks in the mix.

    Args:
        session: Session to measure.
        plan: Plan of the measurement; all its tasks are loaded first.
        frame: Frame (H, W, 3), uint8.
        done: Progress callback, called as often as `progress_calls` says.

    Raises:
        TaskError: The session has no such task, or they do not fit into its memory together.
        BackendError: An engine failed.
    """
    loaded = sum(session.load(task) for task in plan.tasks)
    yield {
        "kind": "switch",
        "tasks": len(plan.tasks),
        "loaded_bytes": loaded,
        **_switching(session, plan, frame, done),
    }
    for count in steps(len(plan.tasks)):
        times: tuple[list[float], list[float]] = ([], [])
        start = time.perf_counter()
        while len(times[0]) < _ROUNDS and (not times[0] or time.perf_counter() - start < _SECONDS):
            pairs = mix(plan.tasks[:count], plan.frames, frame, len(times[0]))
            sides = (
                lambda: session.predict_many(pairs),  # noqa: B023
                lambda: one_by_one(session, pairs),  # noqa: B023
            )
            for side in (0, 1) if len(times[0]) % 2 else (1, 0):
                times[side].append(timed(sides[side]))
        done()
        grouped, single = (len(pairs) / float(np.median(t)) for t in times)
        yield {
            "kind": "mix",
            "tasks": count,
            "frames": len(pairs),
            "rounds": len(times[0]),
            "grouped_per_second": round(grouped, 2),
            "one_by_one_per_second": round(single, 2),
        }


def progress_calls(plan: MixPlan) -> int:
    """Return how often `measure` calls `done`."""
    return plan.samples + len(steps(len(plan.tasks)))


def _switching(
    session: Session, plan: MixPlan, frame: NDArray[np.uint8], done: Callable[[], object]
) -> dict[str, Any]:
    """Return summaries of switches in random order, of the frame after one, and of the next."""
    draw = np.random.default_rng(0)
    times: dict[str, list[float]] = {"switch_ms": [], "after_ms": [], "steady_ms": []}
    start = 0.0
    for number in range(-plan.warmup, plan.samples):
        if number in (-plan.warmup, 0):
            start = time.perf_counter()
        others = [task for task in plan.tasks if task != session.task]
        task = others[int(draw.integers(len(others)))]
        turn = {"switch_ms": timed(lambda: session.switch(task))}  # noqa: B023
        if number in (0, 1) or time.perf_counter() - start < _SECONDS:
            for what in ("after_ms", "steady_ms"):
                turn[what] = timed(lambda: session.predict(frame))
        if number >= 0:
            done()
            for what, seconds in turn.items():
                times[what].append(seconds)
    return {what: summary(own) for what, own in times.items()}


def render(report: dict[str, Any]) -> str:
    """Return a report as text for people."""
    first, *mixes = report["rows"]
    rows = [
        [
            name,
            *(f"{first[what][key]:.3f}" for key in ("p50", "p90", "p99")),
            first[what]["samples"],
        ]
        for name, what in (
            ("switch", "switch_ms"),
            ("frame after a switch", "after_ms"),
            ("next frame", "steady_ms"),
        )
    ]
    cells = [
        [m["tasks"], m["frames"], *(f"{m[key]:.1f}" for key in
         ("grouped_per_second", "one_by_one_per_second")),
         f"{m['grouped_per_second'] / m['one_by_one_per_second']:.2f} x"]
        for m in mixes
    ]  # fmt: skip
    return "\n".join(
        [
            table(("milliseconds", "p50", "p90", "p99", "samples"), rows),
            "",
            table(("tasks in the mix", "frames", "predict_many/s", "one by one/s", "gain"), cells),
            "",
            f"{first['tasks']} tasks take {bytes_text(first['loaded_bytes'])}; peak memory "
            f"{bytes_text(report['peak_rss_bytes'])}",
            conditions(report),
        ]
    )
