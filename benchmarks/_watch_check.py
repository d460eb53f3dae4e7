"""An output of `uda-runtime watch` that checks predictions with a session of its own.

    python -m benchmarks._watch_check watch BUNDLE ... --check REPORT --check-bundle BUNDLE

is `uda-runtime watch` with it. One frame in `EVERY` of each source is kept and classified again by
the task that the observation names: not one logit may differ. Several times a second the counts of
each source must add up. The report is written every few seconds, and with the last counts at the
end, for which a command that hangs leaves no time.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import queue
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from runtime.commands.watch_options import SINK_OPTIONS
from runtime.console import UserPath, write_json
from runtime.sessions.session import Session
from runtime.startup import run
from runtime.watch.observation import Observation
from runtime.watch.sinks import SINKS, Entry
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.status import SourceStatus

EVERY = 5
_ROOM = 8
"""Frames that wait to be checked; others are not."""
_WRITE = 5.0
"""Seconds between two reports."""


class Check(Sink):
    """Checks frames in a thread of its own."""

    def __init__(self, report: Path, bundle: Path) -> None:
        """Prepare a report.

        Args:
            report: JSON file to write at the end.
            bundle: Bundle with every task that the watched one ever has, in the same version.
        """
        self._report, self._bundle = report, bundle
        self._watched: Watched | None = None
        self._waiting: queue.Queue[Observation] = queue.Queue(_ROOM)
        self._closing, self._writing = threading.Event(), threading.Lock()
        self._numbers: dict[str, int] = {}
        self._seen: Counter[str] = Counter()
        self._checked: Counter[str] = Counter()
        self._wrong: list[str] = []
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self, watched: Watched) -> None:
        self._watched = watched
        self._thread.start()
        atexit.register(self._thread.join)  # `close` may not wait for a prediction

    def take(self, observation: Observation) -> None:
        source, number = observation.source, observation.frame.number
        if number <= self._numbers.get(source, -1):
            self._blame(f"{source}: frame {number} came after {self._numbers[source]}")
        self._numbers[source] = number
        if observation.prediction is None:
            return
        self._seen[source] += 1
        if self._seen[source] % EVERY == 0 and not self._waiting.full():
            self._waiting.put_nowait(observation)

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        statuses = [] if self._watched is None else self._watched.status()
        for status in statuses:
            self._add_up(status)
            if status.waiting or status.predicted != self._seen[status.name]:
                self._blame(f"{self._seen[status.name]} predictions came, at the end: {status}")
        self._write(statuses, last=True)

    def _write(self, statuses: Sequence[SourceStatus], *, last: bool) -> None:
        with self._writing:
            if last or not self._closing.is_set():
                rows = [{**dataclasses.asdict(status), "drifts": {}} for status in statuses]
                found = {"sources": rows, "checked": self._checked, "wrong": self._wrong}
                write_json(self._report, {**found, "last": last})

    def _guarded(self) -> None:
        try:
            self._work()
        except Exception as error:
            self._blame(f"the check ended: {type(error).__name__}: {error}")

    def _work(self) -> None:
        assert self._watched is not None
        wrote = time.monotonic()
        with Session.open(self._bundle, threads=1) as session:
            while not self._closing.is_set():
                with contextlib.suppress(queue.Empty):
                    self._compare(session, self._waiting.get(timeout=0.2))
                statuses = self._watched.status()
                for status in statuses:
                    self._add_up(status)
                if time.monotonic() - wrote > _WRITE:
                    self._write(statuses, last=False)
                    wrote = time.monotonic()

    def _compare(self, session: Session, observation: Observation) -> None:
        found = observation.prediction
        assert found is not None
        want = session.predict(observation.frame.image, found.task)
        self._checked[found.task] += 1
        if found.label != want.label or not np.array_equal(found.logits, want.logits):
            self._blame(
                f"{observation.source}, frame {observation.frame.number}: '{found.label}' by "
                f"{found.task}, a session of its own says '{want.label}'"
            )

    def _add_up(self, status: SourceStatus) -> None:
        parts = (status.predicted, status.failed, status.skipped, status.dropped, status.waiting)
        if status.captured != sum(parts) or min(parts) < 0:
            self._blame(f"counts do not add up: {status}")

    def _blame(self, text: str) -> None:
        if len(self._wrong) < 20:
            self._wrong.append(text)


def main() -> None:
    """Run `uda-runtime` with this output among those of `watch`."""
    options = {"check": "report", "check_bundle": "bundle"}
    entry = Entry("benchmarks._watch_check:Check", options)
    SINKS["check"] = entry  # type: ignore[index]
    for name in options:
        SINK_OPTIONS[name] = click.option(  # type: ignore[index]
            f"--{name.replace('_', '-')}", type=UserPath(), help="See benchmarks._watch_check."
        )
    run("runtime.cli")  # whose options are declared when it is imported


if __name__ == "__main__":
    main()
