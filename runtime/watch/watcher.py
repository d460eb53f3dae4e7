"""Watch several sources with one session or pool, for months."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence

from runtime.closing import Closing
from runtime.errors import ConfigError
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session
from runtime.watch.ending import end_at_once
from runtime.watch.model import Model
from runtime.watch.notes import Notes
from runtime.watch.settings import Monitoring, SourceSettings, check_sources
from runtime.watch.sinks.base import Sink
from runtime.watch.source import WatchedSource
from runtime.watch.status import SourceStatus
from runtime.watch.tasks import TaskRefresher
from runtime.watch.turns import Turns
from runtime.watch.upkeep import Upkeep

END = 0.9
"""Seconds that `close` waits for cameras and workers, and then for sinks."""
_IDLE = 0.5
"""Seconds after which a worker without a frame says that it is alive."""


class Watcher(Closing):
    """Classifies the frames of sources, each by its own task, and hands them to sinks.

    Each session has a worker thread, which takes the next source that has a frame waiting. A frame
    is classified by the one task that its source had chosen when the worker took it.

    Example:
        with Session.open("shops.bundle") as session:
            with Watcher(session, [SourceSettings("door", "0", task="a-c")], [sink]) as watcher:
                while not watcher.wait(60):
                    print(watcher.status())
    """

    def __init__(
        self,
        model: Session | SessionPool,
        sources: Sequence[SourceSettings],
        sinks: Sequence[Sink] = (),
        monitoring: Monitoring | None = None,
    ) -> None:
        """Start to capture and to classify.

        Args:
            model: Open session or pool, which stays the caller's.
            sources: Sources, at least one.
            sinks: What takes the observations; the watcher closes them.
            monitoring: What is noticed and kept of the frames.

        Raises:
            ConfigError: There is no source, or two have one name, or one is not possible.
            TaskError: The bundle has no such task, or several and none was chosen.
            UdaError: A source, a harvest or a sink cannot begin.
        """
        check_sources(sources)
        self._model, self._sinks = Model(model), tuple(sinks)
        self._notes = Notes()
        self._turns, self._closing = Turns(), threading.Event()
        self._failure: BaseException | None = None
        self._sources: dict[str, WatchedSource] = {}
        self._workers: list[threading.Thread] = []
        self._busy: dict[int, float] = {}
        """When workers began with the frames that they have, by their numbers."""
        self._upkeep: Upkeep | None = None
        self.hanging = False
        """Whether something did not end when the watcher was closed."""
        try:
            self._start(sources, monitoring or Monitoring())
        except BaseException:
            self.close()
            raise

    def _start(self, sources: Sequence[SourceSettings], monitoring: Monitoring) -> None:
        tasks = [self._model.checked(source.task) for source in sources]
        for source, task in zip(sources, tasks, strict=True):
            self._sources[source.name] = WatchedSource(
                *(source, task, monitoring, self._notes, self._turns.wake),
                background=self._model.background(task),
                alone=len(sources) == 1,
            )
        self._turns.join(tuple(self._sources.values()))
        for sink in self._sinks:
            sink.start(self)
        self._upkeep = Upkeep(
            TaskRefresher(self._model), self._notes, self._replaced, self._keep, self._fail
        )
        for number in range(len(self._model.sessions)):
            name = f"uda-watch-{number}"
            worker = threading.Thread(target=self._work, args=(number,), name=name, daemon=True)
            self._workers.append(worker)
            worker.start()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the bundle's tasks, as they are now."""
        return self._model.tasks

    @property
    def can_route(self) -> bool:
        """Whether `auto` can be chosen."""
        return self._model.can_route

    @property
    def ended(self) -> bool:
        """Whether all frames of all sources were classified, and no other will come."""
        return all(source.ended for source in self._sources.values())

    def status(self) -> tuple[SourceStatus, ...]:
        """Return what every source has done so far."""
        return tuple(source.status() for source in self._sources.values())

    def choose(self, source: str, task: str) -> None:
        """Have a source's frames classified by a task, or by `auto`, from the next one on.

        Raises:
            ConfigError: There is no such source.
            TaskError: The bundle has no such task, or cannot route frames.
            FormatError: The task's file is damaged.
        """
        if source not in self._sources:
            raise ConfigError(f"unknown source '{source}'; available: {', '.join(self._sources)}")
        self._sources[source].choose(self._model.checked(task))

    def wait(self, seconds: float) -> bool:
        """Wait until all sources have ended; return whether they have.

        Args:
            seconds: Longest time to wait.

        Raises:
            Exception: What ended a worker, as where the session was closed.
        """
        end = time.monotonic() + seconds
        while not self.ended and (left := end - time.monotonic()) > 0:
            self.check()
            self._closing.wait(min(left, 0.1))
        self.check()
        return self.ended

    def check(self) -> None:
        """Raise what ended a worker.

        Raises:
            Exception: As where the session was closed.
        """
        if self._failure is not None:
            raise self._failure

    def stuck(self, seconds: float) -> bool:
        """Return whether a worker has been busy with one frame for longer than so many seconds."""
        now = time.monotonic()
        return any(now - began > seconds for began in tuple(self._busy.values()))

    def refresh(self) -> None:
        """Take over tasks that were installed, replaced or removed, soon, and say which."""
        if self._upkeep is not None:
            self._upkeep.refresh()

    def close(self) -> None:
        """End cameras, workers and sinks. Safe to call more than once.

        Frames that wait are dropped. It takes less than two seconds: what hangs is left behind.
        """
        self._closing.set()
        self._turns.wake()
        sources = tuple(self._sources.values())
        joins = [each.join for each in self._workers if each is not threading.current_thread()]
        upkeep = [self._upkeep.close] if self._upkeep is not None else []
        ended = self._end([source.close for source in sources], [*joins, *upkeep])
        for source in sources:
            source.abandon()
        last = [sink.close for sink in self._sinks], [source.finish for source in sources]
        self.hanging = not (self._end(*last) and ended)

    def _end(self, *calls: Sequence[Callable[[], object]]) -> bool:
        return end_at_once(
            [call for each in calls for call in each],
            END,
            lambda error: self._notes.say(f"end {error}", f"warning: {error}"),
        )

    def _replaced(self, tasks: Collection[str]) -> None:
        self._model.look_again()
        for source in self._sources.values():
            source.replaced(tasks)

    def _keep(self) -> None:
        for source in self._sources.values():
            source.keep()

    def _work(self, number: int) -> None:
        try:
            while not self._closing.is_set():
                self._busy.pop(number, None)
                turn = self._turns.next(_IDLE)
                if turn is None:
                    continue
                source, frame = turn
                self._busy[number] = time.monotonic()
                observation = source.observe(self._model.predicts, frame)
                if observation is None:  # it took too long
                    return
                for sink in self._sinks:
                    sink.take(observation)
                source.release()
                if observation.error is not None:
                    self._model.check()
        except BaseException as error:  # nobody else would hear of it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._closing.set()
