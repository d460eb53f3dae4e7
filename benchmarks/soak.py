"""Soak test: many threads predict and switch while tasks come and go.

    python -m benchmarks.soak [--minutes 30] [--json FILE]

A bundle of demo size that the script makes itself: 20 tasks with a patch, 6 that are a head over
the untouched encoder. Four threads predict frame by frame, in batches and in mixes, switch,
prefetch and pin; memory holds about a third of the tasks, so that tasks are evicted and read all
the time. A fifth thread installs, removes and rolls back tasks, and offers damaged files. Exits
with 1 if

- one result differs in one bit from what that version of that task answers in a single thread,
- a change leaves the bundle or the session with other tasks than it should,
- memory grows by 1 % or more after a warm-up of 20 seconds and a tenth of the run, from the median
  of the first third of what follows to that of the last, or
- the 99th percentile of a prediction becomes 1.5 x, less what other programs do to the machine: a
  fixed piece of NumPy work in the same threads says how much that is. With fewer than
  2,000 predictions in a third this is printed and has no limit.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks._latencies import WINDOWS, Latencies
from benchmarks._resident import resident
from benchmarks._soak_report import render, verdict
from benchmarks._soak_world import BATCH, FRAMES, World
from runtime.benchmark.latency import machine, timed
from runtime.bundles.install import install
from runtime.console import write_json
from runtime.errors import FormatError, TaskError
from runtime.sessions.session import Session

WORKERS = 4
CHANGE_EVERY = 0.25
BEFORE = 20.0
"""Seconds of the same before the run begins."""


class Soak:
    """One run."""

    def __init__(self, world: World, session: Session, seconds: float) -> None:
        self.world, self.session, self.seconds = world, session, seconds
        self.calls: Counter[str] = Counter()
        self.trouble: list[str] = []
        self.predict = [Latencies() for _ in range(WORKERS)]
        self.control = [Latencies() for _ in range(WORKERS)]
        self.memory = np.zeros((WINDOWS, 2))
        self._start = 0.0
        self._lock = threading.Lock()

    def run(self) -> None:
        self._start = time.monotonic()
        work: list[Callable[[], None]] = [lambda n=n: self._work(n) for n in range(WORKERS)]  # type: ignore[misc]
        threads = [
            threading.Thread(target=self._guarded, args=(call,)) for call in (*work, self._change)
        ]
        for thread in threads:
            thread.start()
        while self._going():
            self.memory[self._window()] += resident(), 1
            time.sleep(min(1.0, self.seconds / WINDOWS / 3))
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self.trouble.append("a thread hangs")

    def _going(self) -> bool:
        return not self.trouble and time.monotonic() - self._start < self.seconds

    def _window(self) -> int:
        return min(int((time.monotonic() - self._start) / self.seconds * WINDOWS), WINDOWS - 1)

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.trouble.append(f"{type(error).__name__}: {error}")

    def _work(self, number: int) -> None:
        draw, world = np.random.default_rng(number), self.world
        fixed, room = draw.random(20_000), np.empty(20_000)
        own: Counter[str] = Counter()
        kinds = ("predict", "predict", "switch", "batch", "mix", "shared", "hint")
        while self._going():
            kind = str(draw.choice(kinds))
            known = world.tasks if draw.random() < 0.05 else world.there()
            tasks = [str(t) for t in draw.choice(known, 5, replace=False)]
            before = {task: world.allowed(task) for task in world.tasks}
            try:
                getattr(self, f"_{kind}")(number, draw, tasks, before)
            except TaskError:
                if not any(None in before[t] | world.allowed(t) for t in (*tasks, *world.plain)):
                    raise
                kind = "refused: task removed"
            own[kind] += 1
            np.copyto(room, fixed)
            self.control[number].add(self._window(), timed(room.sort))
        with self._lock:
            self.calls += own

    def _check(
        self, wanted: str | None, found: Any, position: int, before: Any, batch: bool = False
    ) -> None:
        task = found.task
        versions = before[task] | self.world.allowed(task)
        right = self.world.right(task, position, found.logits, versions, batch)
        if not right or wanted not in (None, task):
            self.trouble.append(
                f"a wrong result: task {task}, wanted {wanted}, frame {position}, "
                f"{'batch' if batch else 'single'}, versions {sorted(map(str, versions))}"
            )

    def _predict(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        position = int(draw.integers(FRAMES))
        start = time.perf_counter()
        found = self.session.predict(self.world.frames[position], task=tasks[0])
        self.predict[number].add(self._window(), time.perf_counter() - start)
        self._check(tasks[0], found, position, before)

    def _switch(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        position = int(draw.integers(FRAMES))
        self.session.switch(tasks[0])
        try:
            found = self.session.predict(self.world.frames[position])
        except TaskError:  # the current task was removed, whichever it was by now
            return
        self._check(None, found, position, before)

    def _batch(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        frames = self.world.frames[:BATCH]
        for position, found in enumerate(self.session.predict_batch(frames, task=tasks[0])):
            self._check(tasks[0], found, position, before, batch=True)

    def _mix(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        chosen = [task for task in tasks if task not in self.world.plain] or tasks[:1]
        positions = draw.integers(FRAMES, size=len(chosen)).tolist()
        pairs = [(self.world.frames[p], task) for p, task in zip(positions, chosen, strict=True)]
        results = self.session.predict_many(pairs)
        for position, task, found in zip(positions, chosen, results, strict=True):
            self._check(task, found, position, before)

    def _shared(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        position = int(draw.integers(FRAMES))
        plain = [task for task in self.world.there() if task in self.world.plain]
        results = self.session.predict_many([(self.world.frames[position], t) for t in plain])
        for task, found in zip(plain, results, strict=True):
            self._check(task, found, position, before)

    def _hint(self, number: int, draw: Any, tasks: list[str], before: Any) -> None:
        self.session.prefetch(*tasks[:2])
        self.session.pin(tasks[2])
        self.session.unpin(tasks[2])

    def _change(self) -> None:
        draw, own = np.random.default_rng(99), Counter[str]()
        while self._going():
            own[self.world.change(self.session, draw)] += 1
            if draw.random() < 0.1:
                try:
                    install(self.world.bundle, self.world.damaged)
                except FormatError:
                    own["refused: damaged file"] += 1
                else:
                    raise AssertionError("a damaged task file was installed")
            time.sleep(CHANGE_EVERY)
        with self._lock:
            self.calls += own


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--minutes", type=click.FloatRange(min=0.1), default=30.0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, minutes: float, json_file: Path | None) -> None:
    """Run a device's life for some minutes, and fail if it wears out."""
    with tempfile.TemporaryDirectory() as temporary:
        # In a process of its own: the memory that torch takes would hide what a session leaks.
        command = [sys.executable, "-m", "benchmarks._soak_world", str(folder), temporary]
        subprocess.run(command, check=True)
        world = World(Path(temporary))
        with Session.open(world.bundle, threads=1) as session:
            sizes = [session.load(task) for task in world.tasks]
        bound = sum(sizes) // 3
        with Session.open(world.bundle, threads=1, max_task_bytes=bound) as session:
            before, soak = (Soak(world, session, s) for s in (BEFORE, 60 * minutes))
            before.run()
            soak.run()
            soak.trouble += before.trouble
            report = verdict(soak, session)
    click.echo(render(report))
    if json_file:
        write_json(json_file, {**report, "machine": machine()})
    if report["failures"]:
        for failure in report["failures"]:
            click.echo(f"error: {failure}", err=True)
        sys.exit(1)
    total = sum(report["calls"].values())
    steady = "memory and p99 steady" if report["p99_checked"] else "memory steady"
    click.echo(f"\n{total:,} calls in {minutes:g} min: no wrong result, {steady}")


if __name__ == "__main__":
    main()
