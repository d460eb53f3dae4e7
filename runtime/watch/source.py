"""One source that is watched: its camera, the task that was chosen for it, and its counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from runtime.errors import UdaError
from runtime.models import AUTO, Background
from runtime.monitoring.router import Router
from runtime.prediction import Prediction
from runtime.sessions.pool import SessionPool
from runtime.sessions.routing import TaskChoice
from runtime.sessions.session import Session
from runtime.sources.live.base import Counts, LiveFrame, UnreadableFile
from runtime.sources.live.base import Settings as Reading
from runtime.sources.live.camera import Camera
from runtime.watch.latencies import Latencies
from runtime.watch.monitors import Monitors
from runtime.watch.notes import Notes
from runtime.watch.observation import Observation, Smoothed
from runtime.watch.settings import Monitoring, SourceSettings
from runtime.watch.smoothing import Smoother
from runtime.watch.status import SourceStatus


class Choice(NamedTuple):
    """What was chosen to classify a source's frames."""

    name: str
    """Id of a task, or `auto`."""
    task: TaskChoice
    """The same, or the source's own router."""


class WatchedSource:
    """Classifies the frames of one camera, one at a time and in order. Safe to use from threads."""

    def __init__(
        self,
        settings: SourceSettings,
        task: str,
        monitoring: Monitoring,
        notes: Notes,
        wake: Callable[[], None],
        *,
        background: Background,
        alone: bool,
    ) -> None:
        """Begin to capture.

        Args:
            settings: Name, address and so on.
            task: Id of the first task, or `auto`.
            monitoring: What is noticed and kept of its frames.
            notes: Where it is said which files of a folder cannot be read.
            wake: Called when a frame came.
            background: Colour behind transparent pixels of pictures.
            alone: Whether there is no other source.

        Raises:
            UdaError: There is no such source, or its monitors cannot begin.
        """
        self.name, self._notes = settings.name, notes
        self._smoother = Smoother(settings.smooth) if settings.smooth > 1 else None
        self._latencies = Latencies()
        self._lock = threading.Lock()
        self._busy = self._ended = self._abandoned = False
        self._task: str | None = None
        self._error: UdaError | None = None
        self._anew = False
        self._connections = 0
        self._predicted = self._failed = self._switches = 0
        self.choose(task)
        self._monitors = Monitors(settings, monitoring, notes, alone=alone)
        try:
            self.camera = Camera(
                *(settings.name, settings.where, settings.queue),
                every=settings.every,
                stall=settings.stall,
                settings=Reading(fast=settings.fast, background=background),
                wake=wake,
                on_error=self._explain,
            )
        except BaseException:
            self._monitors.close()
            raise

    @property
    def ended(self) -> bool:
        """Whether all frames were classified, and no other will come."""
        return self._ended and not self._busy

    def choose(self, task: str) -> None:
        """Have the next frames classified by a task, or by `auto`; returns at once."""
        self._choice = Choice(task, Router() if task == AUTO else task)

    def replaced(self, tasks: Collection[str]) -> None:
        """Say that tasks were replaced: what is smoothed starts anew under these."""
        self._anew = self._anew or self._task in tasks

    def claim(self) -> LiveFrame | None:
        """Take the next frame; None while there is none, or the last one was not released."""
        with self._lock:
            if self._busy or self._ended:
                return None
            try:
                frame = self.camera.frames.get(0)
            except EOFError:
                self._ended = True
                return None
            self._busy = frame is not None
            return frame

    def release(self) -> None:
        """Let the next frame be taken."""
        with self._lock:
            self._busy = False

    def observe(self, model: Session | SessionPool, frame: LiveFrame) -> Observation | None:
        """Classify a frame that was claimed, and count it; None if it was abandoned meanwhile."""
        choice = self._choice  # read once: another thread may choose meanwhile
        began = time.perf_counter()
        waited = 1e3 * (began - frame.captured)
        try:
            prediction = model.predict(frame.image, choice.task)
        except UdaError as error:
            with self._lock:
                if self._abandoned:
                    return None
                self._failed += 1
                self._error = error
            return Observation(self.name, frame, error=error, waited=waited)
        took = 1e3 * (time.perf_counter() - began)
        drift = self._monitors.see(frame, prediction)
        smoothed = self._smooth(prediction)
        with self._lock:
            if self._abandoned:
                return None
            switched = self._task is not None and prediction.task != self._task
            self._task, self._error = prediction.task, None
            self._predicted += 1
            self._switches += switched
            self._latencies.add(took)
        return Observation(
            self.name,
            frame,
            prediction,
            milliseconds=took,
            waited=waited,
            switched=switched,
            smoothed=smoothed,
            drift=drift,
        )

    def status(self) -> SourceStatus:
        """Return what it has done so far; the counts are of one moment."""
        with self._lock:
            counts, error = self.camera.counts(), self.camera.error or self._error
            unfinished = _taken(counts) - self._predicted - self._failed - self._abandoned
            return SourceStatus(
                name=self.name,
                where=self.camera.shown,
                state=self.camera.state,
                choice=self._choice.name,
                task=self._task,
                error=None if error is None else str(error),
                captured=counts.captured,
                predicted=self._predicted,
                failed=self._failed,
                skipped=counts.skipped,
                dropped=counts.dropped + self._abandoned,
                waiting=counts.waiting + unfinished,
                switches=self._switches,
                reconnects=self.camera.reconnects,
                p50=self._latencies.percentile(0.5),
                p99=self._latencies.percentile(0.99),
                drifts=self._monitors.drifts,
                harvested=self._monitors.harvested(),
            )

    def keep(self) -> None:
        """Save what should outlast a crash."""
        self._monitors.keep()

    def close(self) -> None:
        """End the camera; what waits is dropped. Safe to call more than once."""
        self.camera.frames.close(drop=True)
        self.camera.close()

    def abandon(self) -> None:
        """Count the frame that is still being classified as dropped, once the camera has ended."""
        with self._lock:
            taken = _taken(self.camera.counts())
            self._abandoned = self._abandoned or taken > self._predicted + self._failed

    def finish(self) -> None:
        """Keep what was noticed and collected. Safe to call more than once."""
        self._monitors.close()

    def _explain(self, camera: Camera, error: UdaError) -> None:
        if isinstance(error, UnreadableFile):  # others are in the status
            self._notes.say(f"file {self.name}", f"warning: {self.name}: {error}")

    def _smooth(self, prediction: Prediction) -> Smoothed | None:
        if self._smoother is None:
            return None
        # What was seen before a gap, or by the former version of a task, says nothing of now.
        if self._anew or self.camera.reconnects != self._connections:
            self._anew, self._connections = False, self.camera.reconnects
            self._smoother.reset()
        return self._smoother.see(prediction)


def _taken(counts: Counts) -> int:
    """Return the number of frames that were taken out of the queue."""
    return counts.captured - counts.skipped - counts.dropped - counts.waiting
