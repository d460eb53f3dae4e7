"""A pool of sessions over one bundle, for many cores or several GPUs.

Longer than most files: it is a public class, and half of it says what its calls take and raise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

from runtime import backends, strategies
from runtime.bundles.bundle import Bundle
from runtime.closing import Closing
from runtime.errors import ConfigError, UdaError
from runtime.frames.preprocess import Frame
from runtime.models import AUTO, REJECT
from runtime.monitoring.router import Router
from runtime.monitoring.table import Route
from runtime.mutex import Mutex
from runtime.prediction import Prediction
from runtime.sessions.cache import TaskCache
from runtime.sessions.grouping import checked, spread
from runtime.sessions.lending import Lending
from runtime.sessions.origin import ProcessBound
from runtime.sessions.routing import Chosen, TaskChoice, answered
from runtime.sessions.session import Session
from runtime.sessions.settings import Verify, check_number, check_settings
from runtime.sessions.sharing import SharedBase, encoding
from runtime.workers import Workers, cores

Pair = tuple[Frame, TaskChoice]
"""A frame, and the id of the task that is to classify it, or a router."""


class SessionPool(ProcessBound, Closing):
    """Runs as many frames at once as it has sessions; any thread may call it.

    The sessions share the tasks in memory, and those pages of the base weights (4 KiB each) that
    no patch has written to: a session costs the memory of the pages that its patches have changed.
    That is next to nothing for tasks that leave the encoder alone. Patches spread evenly over the
    weights touch most pages (64 % at a density of 0.1 %, 99 % at 0.5 %): then n sessions that go
    through many tasks end at n + 1 bases, and the first switches, which copy the pages, are slow.

    Example:
        with SessionPool.open("office-home.bundle", sessions=4) as pool:
            print(pool.predict(frame, "a-c").label)
    """

    _kind = "pool"

    def __init__(self, sessions: Sequence[Session]) -> None:
        """Take ownership of open sessions; `SessionPool.open` opens them."""
        super().__init__()
        self._sessions = tuple(sessions)
        self._lending = Lending(self._sessions)
        self._refreshing = Mutex()
        self._workers = Workers(len(sessions))
        self._router = Router()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        sessions: int = 2,
        devices: Sequence[str] = ("cpu",),
        backend: str = backends.DEFAULT,
        threads: int | None = None,
        blocked: bool = True,
        strategy: str = strategies.DEFAULT,
        max_task_bytes: int | None = None,
        engines: str | os.PathLike[str] | None = None,
        verify: Verify = "changed",
        reject: float = REJECT,
    ) -> SessionPool:
        """Open a bundle with several sessions; the base weights are read once for all of them.

        Args:
            path: Folder of the bundle.
            sessions: Number of sessions, assigned to the devices in rotation.
            devices: `cpu`, `cuda`, `cuda:1` and so on.
            backend: As for `Session.open`.
            threads: Threads of each session on the CPU; None divides the cores among them.
            blocked: As for `Session.open`.
            strategy: As for `Session.open`; with `engines` every session has its own tasks.
            max_task_bytes: Largest number of bytes of tasks in memory, for all sessions that share
                them. The current tasks of all sessions may take more.
            engines: As for `Session.open`.
            verify: As for `Session.open`.
            reject: As for `Session.open`.

        Raises:
            ConfigError: There are fewer sessions than devices, or none; or `threads`,
                `max_task_bytes` or `reject` is out of range.
            FormatError: The bundle is damaged.
            StorageError: There is no room for the base weights.
            BackendError: The backend, a device or the strategy cannot be used here.
        """
        assigned = _assign(sessions, devices)
        check_settings(threads, max_task_bytes, verify, reject)
        bundle = Bundle.open(path)
        if verify == "changed":
            bundle.trust_former_checks()
        base, precision = SharedBase(bundle), bundle.manifest.precision
        each = {"cpu": max(1, cores() // max(1, assigned.count("cpu")))}
        caches: dict[Hashable, TaskCache] = {}
        opened: list[Session] = []
        try:
            for device in assigned:
                own = threads or each.get(device)
                runs = backends.load(backend, device, own, bundle.path, engines, precision)
                held = strategies.load(strategy, bundle, runs, blocked, base.read)
                shared = caches.setdefault(held.form, TaskCache(max_task_bytes))
                opened.append(Session(bundle, held, shared, reject))
        except BaseException:
            for session in opened:
                session.close()
            bundle.end_check()
            raise
        finally:
            base.close()
        return cls(opened)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All sessions, closed ones included; to inspect, not to predict with."""
        return self._sessions

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks."""
        return self._bundle.tasks

    def predict(self, frame: Frame, task: TaskChoice) -> Prediction:
        """Classify one frame on a free session, or on the first that becomes free.

        Args:
            frame: As for `Session.predict`.
            task: Id of a task, or a `Router`, one for each camera; `auto` is the pool's own router.

        Raises:
            UdaError: As `Session.predict`; other calls are not affected.
        """
        self._check_process()
        router = self._router_of(task)
        loan = self._lending.lend(str(task) if router is None else router.nearest, sys._getframe())
        try:
            return loan.session.predict(frame, task if router is None else router)
        finally:
            self._lending.take_back(loan)

    def route(self, frame: Frame) -> list[Route]:
        """Return how well each task fits one frame, best first, see `Session.route`.

        Args:
            frame: As for `Session.predict`.

        Raises:
            UdaError: As `Session.route`; other calls are not affected.
        """
        self._check_process()
        loan = self._lending.lend(None, sys._getframe())
        try:
            return loan.session.route(frame)
        finally:
            self._lending.take_back(loan)

    def predict_many(self, pairs: Sequence[Pair]) -> list[Prediction]:
        """Classify each frame by its own task, on all sessions at once; the order is kept.

        Args:
            pairs: Pairs of a frame, as for `predict`, and the id of a task or a router. Frames of
                one router are of one camera, and in their order.

        Raises:
            UdaError: As `Session.predict_many`, of the first part that failed.
        """
        self._check_process()
        pairs = [(frame, self._router_of(task) or task) for frame, task in checked(pairs)]
        if any(isinstance(task, Router) for _, task in pairs):
            return answered(pairs, self._choose, self._many, lambda: self.tasks)
        return self._many(pairs)

    def _many(self, pairs: Sequence[tuple[Frame, Any]]) -> list[Prediction]:
        """Classify frames whose tasks are named."""
        bundle = self._bundle
        encodings = [encoding(bundle, task) for _, task in pairs]
        parts = spread([frame for frame, _ in pairs], encodings, len(self._sessions))
        self._lending.check_open()
        results = self._workers.run(
            [partial(self._classify, [pairs[position] for position in part]) for part in parts]
        )
        found: dict[int, Prediction] = {}
        for part, result in zip(parts, results, strict=True):
            found.update(zip(part, result, strict=True))
        return [found[position] for position in range(len(pairs))]

    def refresh(self) -> tuple[str, ...]:
        """Take over tasks that were installed, replaced or removed on disk; return their ids.

        The sessions do so one after the other: a frame that is classified meanwhile may still meet
        the old version.

        Raises:
            UdaError: As `Session.refresh`; one that failed stays as it was, the others do not.
        """
        self._check_process()
        self._lending.check_open()
        changed: dict[str, None] = {}
        errors: list[UdaError] = []
        # One manifest for all, and one at a time: else sessions could end at different versions.
        with self._refreshing:
            new = Bundle.open(self._bundle.path)
            for session in self._sessions:
                try:
                    if not session.closed:
                        changed.update(dict.fromkeys(session.refresh(new)))
                except UdaError as error:
                    errors.append(error)
        if errors:
            raise errors[0]
        return tuple(changed)

    def close(self) -> None:
        """Wait for running calls and release the sessions. Safe to call more than once."""
        self._lending.close()
        self._workers.close()
        for session in self._sessions:
            session.close()

    @property
    def _bundle(self) -> Bundle:
        return next((s for s in self._sessions if not s.closed), self._sessions[0]).bundle

    def _router_of(self, task: object) -> Router | None:
        """Return the router that is to choose a task; None where a task is named."""
        if isinstance(task, Router):
            return task
        return self._router if isinstance(task, str) and task == AUTO else None

    def _choose(self, pairs: Sequence[Pair]) -> Chosen:
        loan = self._lending.lend(None, sys._getframe())
        try:
            return loan.session.choose(pairs)
        finally:
            self._lending.take_back(loan)

    def _classify(self, pairs: Sequence[tuple[Frame, str]]) -> list[Prediction]:
        loan = self._lending.lend(pairs[0][1], sys._getframe())
        try:
            return loan.session.predict_many(pairs)
        finally:
            self._lending.take_back(loan)


def _assign(sessions: int, devices: Sequence[str]) -> list[str]:
    """Return the device of each session: all devices in rotation.

    Raises:
        ConfigError: There are fewer sessions than devices, or none.
    """
    check_number("sessions", sessions, 1)
    if isinstance(devices, str):
        devices = (devices,)
    if not devices or sessions < len(devices):
        raise ConfigError(
            f"a pool needs a device, and a session for each; found {sessions} sessions for "
            f"{len(devices)} devices"
        )
    return [devices[number % len(devices)] for number in range(sessions)]
