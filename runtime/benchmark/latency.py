"""Latency of prediction and task switching, with percentiles and machine data."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends import BACKENDS
from runtime.console import bytes_text, table
from runtime.frames.preprocess import preprocess
from runtime.sessions.session import Session
from runtime.workers import cores


@dataclass(frozen=True)
class LatencyPlan:
    """Tasks, batch sizes and numbers of calls to measure."""

    tasks: tuple[str, ...]
    batches: tuple[int, ...] = (1,)
    samples: int = 100
    """Number of timed calls per row."""
    warmup: int = 10
    """Number of warm-up calls, which are not timed."""


def summary(seconds: Sequence[float]) -> dict[str, float | int]:
    """Return percentiles of durations in milliseconds, with their number."""
    ms = np.asarray(seconds, dtype=np.float64) * 1e3
    p50, p90, p99 = (float(v) for v in np.percentile(ms, (50, 90, 99)))
    values = {"p50": p50, "p90": p90, "p99": p99, "mean": float(ms.mean()), "min": float(ms.min())}
    return {**{k: round(v, 4) for k, v in values.items()}, "samples": int(ms.size)}


def timed(call: Callable[[], object]) -> float:
    """Return the seconds one call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def machine() -> dict[str, Any]:
    """Return a description of this machine and its libraries."""
    libraries = [name for backend in BACKENDS.values() for name in backend.packages]
    versions = {"python": platform.python_version()}
    for name in ("numpy", "pillow", "safetensors", *libraries):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": cores(),
        "versions": versions,
    }


def measure_open(open_session: Callable[[], Session], frame: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the milliseconds of opening a bundle, its first switch and its first prediction."""
    start = time.perf_counter()
    with open_session() as session:
        opened = time.perf_counter()
        session.switch(session.tasks[0])
        switched = time.perf_counter()
        session.predict(frame)
        done = time.perf_counter()
    marks = {"open": opened - start, "load_task": switched - opened, "first": done - switched}
    return {name: round(value * 1e3, 3) for name, value in marks.items()}


def measure(
    session: Session, plan: LatencyPlan, frame: NDArray[np.uint8], done: Callable[[], object]
) -> Iterator[dict[str, Any]]:
    """Yield one row per task and batch size, then one for switching if there are two tasks.

    Args:
        session: Session to measure.
        plan: Plan of the measurement.
        frame: Frame (H, W, 3), uint8; a batch repeats it.
        done: Progress callback, called after every timed call.
    """
    for task in plan.tasks:
        session.switch(task)
        pixels = preprocess(frame, session.preprocess)
        for batch in plan.batches:
            frames = [frame] * batch
            stack = np.ascontiguousarray(np.broadcast_to(pixels, (batch, *pixels.shape)))
            end_to_end, engine = [], []
            for i in range(plan.warmup + plan.samples):
                whole, alone = (
                    timed(lambda: session.predict_batch(frames)),  # noqa: B023
                    timed(lambda: session.infer(stack)),  # noqa: B023
                )
                if i >= plan.warmup:
                    end_to_end.append(whole)
                    engine.append(alone)
                    done()
            yield {
                "kind": "predict",
                "task": task,
                "batch": batch,
                "predict_ms": summary(end_to_end),
                "engine_ms": summary(engine),
                "images_per_second": round(batch / float(np.median(end_to_end)), 2),
            }
    if len(plan.tasks) > 1:
        yield {"kind": "switch", "switch_ms": summary(_switches(session, plan, done))}


def progress_calls(plan: LatencyPlan) -> int:
    """Return how often `measure` calls `done`."""
    groups = len(plan.tasks) * len(plan.batches) + (len(plan.tasks) > 1)
    return groups * plan.samples


def _switches(session: Session, plan: LatencyPlan, done: Callable[[], object]) -> list[float]:
    for task in plan.tasks:
        session.load(task)
    draw = np.random.default_rng(0)
    times: list[float] = []
    for i in range(plan.warmup + plan.samples):
        others = [task for task in plan.tasks if task != session.task]
        task = others[int(draw.integers(len(others)))]
        times.append(timed(lambda: session.switch(task)))  # noqa: B023
        if i >= plan.warmup:
            done()
    return times[plan.warmup :]


def peak_rss() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    try:  # getrusage goes on counting what the parent had before it started this program
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def render(report: dict[str, Any]) -> str:
    """Return a report as text for people."""
    rows = []
    for row in report["rows"]:
        if row["kind"] == "predict":
            for what in ("predict", "engine"):
                t = row[f"{what}_ms"]
                name = f"{row['task']} batch {row['batch']}, {what}"
                rate = f"{row['images_per_second']:.1f}" if what == "predict" else ""
                rows.append([name, *_cells(t), rate, t["samples"]])
        else:
            t = row["switch_ms"]
            rows.append(["switch", *_cells(t), "", t["samples"]])
    header = ("milliseconds", "p50", "p90", "p99", "mean", "min", "images/s", "samples")
    first = report["open_ms"]
    return "\n".join(
        [
            table(header, rows),
            "",
            f"open {first['open']:.1f} ms, load first task {first['load_task']:.1f} ms, "
            f"first prediction {first['first']:.1f} ms; peak memory "
            f"{bytes_text(report['peak_rss_bytes'])}",
            conditions(report),
        ]
    )


def conditions(report: dict[str, Any]) -> str:
    """Return one line with the conditions under which a report was measured."""
    return (
        f"{report['backend']} on {report['device']}, strategy {report['strategy']}, "
        f"{report['precision']}, frame {report['frame']}, "
        f"threads {report['threads'] or 'default'}; {machine_text(report['machine'])}"
    )


def machine_text(here: dict[str, Any]) -> str:
    """Return what `machine` found, for people."""
    return f"{here['processor']}, {here['cores']} cores, {here['system']}"


def _cells(times: dict[str, Any]) -> list[str]:
    return [f"{times[key]:.3f}" for key in ("p50", "p90", "p99", "mean", "min")]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
