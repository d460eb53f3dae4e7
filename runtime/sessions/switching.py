"""Hold a bundle's tasks, one of them current, and switch between them in place.

A switch is two-phase: the state is marked unknown, the strategy restores the base and writes the
task, the state is marked known. A call that finds it unknown, because a former one was interrupted
or failed, first does the same for the task that the session names. So an answer is always that of
the task whose name it bears.

Longer than most files: every call has to leave a state that any other one can go on from, so the
way of a switch, from a task's id through the cache and the strategy, is read in one place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.bundles.changes import changes
from runtime.closing import Closing
from runtime.errors import BackendError, FormatError, UdaError
from runtime.models import TensorSpec
from runtime.mutex import Mutex
from runtime.sessions.cache import Holder, Lease, TaskCache
from runtime.sessions.origin import ProcessBound, leak
from runtime.sessions.view import View
from runtime.strategies.base import LoadedTask, Strategy

T = TypeVar("T")


class SwitchingSession(ProcessBound, Closing):
    """The tasks of one session: the current one, those in memory, and those on disk."""

    _kind = "session"

    def __init__(
        self, bundle: Bundle, strategy: Strategy[Any], cache: TaskCache | None = None
    ) -> None:
        """Take ownership of an open bundle; `Session.open` opens one.

        Args:
            bundle: Bundle to load tasks from.
            strategy: Strategy opened for the bundle.
            cache: Cache of tasks, which sessions over the same base may share; None makes one
                without a bound.
        """
        super().__init__()
        self._strategy = strategy
        self._cache = TaskCache() if cache is None else cache
        self._view = View(bundle, strategy, self._cache)
        self._held = Holder()
        self._known = True
        """Whether the strategy has the current task as a whole, and nothing else."""
        self._closed = self._deferred = False
        self._turn = Mutex()
        """Held by the call that uses the strategy."""
        self._changing = Mutex()
        """Held by the call that changes pins or the view; it may take the turn meanwhile."""
        self._cache.join(self._held, self._view.keys.values())
        self._base_check = bundle.base_check
        if self._base_check is not None:
            self._base_check.join()

    @property
    def bundle(self) -> Bundle:
        """The bundle, as of opening or the last `refresh`."""
        return self._view.bundle

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks that `switch` takes."""
        return self.bundle.tasks

    @property
    def closed(self) -> bool:
        """Whether the session was closed, by `close` or because a device failed."""
        return self._closed

    @property
    def task(self) -> str | None:
        """The id of the current task, or None before the first switch."""
        current = self._held.task  # read once: another thread may close the session
        return None if current is None else current.info.id

    @property
    def resident(self) -> tuple[str, ...]:
        """The ids of the tasks in memory, least recently used first."""
        return tuple(loaded.info.id for loaded in self._cache.tasks)

    @property
    def task_bytes(self) -> int:
        """Bytes that the tasks in memory take."""
        return self._cache.nbytes

    @property
    def backend(self) -> Backend:
        """Backend that runs the engines."""
        return self._strategy.backend

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self._strategy.layout

    def check_open(self) -> None:
        """Check that frames can be classified.

        Raises:
            BackendError: The session is closed.
            FormatError: The base, verified in the background, is damaged.
        """
        self._opened()

    def switch(self, task: str) -> None:
        """Make `task` the current one, in place; does nothing when it already is.

        The first switch to a task reads its file. A switch that fails leaves the current task; if
        the device does not take that one back, the session is closed.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device took no new weights.
        """
        self._run(_nothing, task)

    def load(self, task: str) -> int:
        """Load a task into memory without switching to it; return its size in bytes.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        return self._load(task).nbytes

    def prefetch(self, *tasks: str) -> None:
        """Load tasks in the background, and return at once.

        An error in a task's file is raised when the task is loaded or switched to.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        view = self._opened()
        for key, read, min_size in [
            (view.key(task), view.reader(task), view.min_size(task)) for task in tasks
        ]:
            self._cache.prefetch(key, read, min_size)

    def pin(self, task: str) -> None:
        """Load a task and keep it in memory. Safe to call more than once.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        lease = Lease()
        with self._changing:
            view = self._opened()
            key = view.key(task)
            if task in self._held.pins:
                return
            self._cache.lease(lease)
            try:
                view.load(task, lease, pin=True)
                self._held.pins[task] = key
            finally:
                self._cache.end(lease)

    def unpin(self, task: str) -> None:
        """Let a pinned task leave memory again. Safe to call more than once.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        with self._changing:
            self._opened().key(task)
            self._held.pins.pop(task, None)
        self._cache.trim()

    def refresh(self, new: Bundle | None = None) -> tuple[str, ...]:
        """Take over tasks that were installed, replaced or removed on disk; return their ids.

        If the current task was replaced, the new version is current; if it was removed, none is.
        After an error the session goes on with the bundle as it knew it.

        Args:
            new: Bundle as it is on disk; None reads its manifest.

        Raises:
            FormatError: The bundle is damaged, its base or graphs have changed (open a new
                session), or the new version of the current or a pinned task is damaged.
            TaskError: There is no room for the new version.
            BackendError: The session is closed, or the device took no new weights.
        """
        lease, held = Lease(), self._held
        with self._changing:
            old = self._opened()
            bundle = Bundle.open(old.bundle.path) if new is None else new
            changed = changes(old.bundle, bundle)
            view = View(bundle, self._strategy, self._cache)
            gone = {old.keys[task] for task in changed if task in old.keys}
            self._cache.lease(lease)
            try:
                # Read before any frame has to wait; errors show before anything changes.
                pins = {task: view.keys[task] for task in held.pins if task in view.keys}
                for task in [task for task in pins if task in changed]:
                    view.load(task, lease, pin=True, instead=gone)
                if self.task in changed and self.task in view.keys:
                    view.load(self.task, lease, beside=False, instead=gone)
                with self._turn:
                    self._opened()
                    current = self.task  # maybe another one than above
                    if current is None or (current in view.keys and current not in changed):
                        self._view, held.pins = view, pins
                    else:
                        loaded = None
                        if current in view.keys:
                            loaded = view.load(current, lease, beside=False, instead=gone)
                        self._commit(view, pins, loaded)
                self._cache.join(held, view.keys.values())
            finally:
                self._cache.end(lease)
                self._close_if_asked()
        return changed

    def base_sha256(self) -> str:
        """Return the digest of the base in memory; it equals the manifest's if the base is intact.

        A health check for devices that run for months: takes the current patch off for a moment.
        On a GPU it reads the GPU's memory. With `strategy="engines"`, which keeps no base in
        memory, it reads the bundle's file.

        Raises:
            FormatError: The bundle's file is damaged.
            BackendError: The session is closed, or the device failed.
        """
        try:
            with self._turn:
                self._opened()
                known, self._known = self._known, False
                digest = self._strategy.base_sha256()
                if known:  # else the next call does it
                    self._change(self._held.task)
                return digest
        finally:
            self._close_if_asked()

    def close(self) -> None:
        """Release the engines and the tasks. Safe to call more than once.

        A call that is running ends before that. From a signal handler that interrupts a call of the
        same thread, this returns at once, and that call releases them when it ends. In a process
        that was forked meanwhile, nothing is released.
        """
        self._closed = True
        if self._forked:
            return
        if self._turn.mine:
            self._deferred = True
            return
        with self._turn:
            self._release()

    def _run(self, work: Callable[..., T], *tasks: str) -> T:
        """Call `work` with tasks in memory, the first of them current, while no other call runs.

        Args:
            work: Function of the loaded tasks.
            tasks: Ids of the tasks; the current one if there are none.
        """
        held, cache = self._held, self._cache
        lease: Lease | None = None
        try:
            while True:
                with self._turn:
                    view = self._opened()
                    current = held.task
                    if not tasks and current is not None and self._known:
                        return work(current)
                    try:
                        keys = [view.keys[task] for task in tasks or (view.current(current),)]
                    except (KeyError, TypeError):
                        keys = [view.key(task) for task in tasks]  # says what is wrong
                    try:
                        found = cache.claim(held, keys)
                        if found is not None:
                            if found[0] is not current or not self._known:
                                self._change(found[0])
                            return work(*found)
                    finally:
                        held.coming = ()
                # Files are read while others have the turn, and what was read stays until then.
                if lease is None:
                    lease = Lease()
                    cache.lease(lease)
                for task in tasks or (view.current(held.task),):
                    view.load(task, lease, beside=False)
        finally:
            if lease is not None:
                cache.end(lease)
            if cache.excess:
                cache.trim()
            self._close_if_asked()

    def _load(self, task: str) -> LoadedTask:
        view, lease = self._opened(), Lease()
        self._cache.lease(lease)
        try:
            return view.load(task, lease)
        finally:
            self._cache.end(lease)

    def _change(self, new: LoadedTask | None) -> None:
        """Make a task the current one; the caller has the turn and keeps the task in memory."""
        old, self._known = self._held.task, False
        try:
            self._strategy.switch(new)
        except UdaError as error:
            self._go_back(old, error)
            raise
        self._held.task = new
        self._known = True

    def _go_back(self, old: LoadedTask | None, first: UdaError) -> None:
        """Return to the former task after a switch that failed, or close."""
        if self._strategy.closed:
            self._closed = True
            self._release()
            return
        try:
            self._strategy.switch(old)
            self._known = True
        except UdaError as second:
            self._closed = True
            self._release()
            raise BackendError(
                f"the device took no new weights ({first}) and not the former ones either "
                f"({second}); the session is closed, open a new one"
            ) from second

    def _commit(self, view: View, pins: dict[str, str], current: LoadedTask | None) -> None:
        """Take over a view in which the current task was replaced or removed."""
        before = self._view, self._held.pins
        self._known = False  # from here on the next call would take the new version
        self._view, self._held.pins = view, pins
        try:
            self._change(current)
        except UdaError:
            self._view, self._held.pins = before
            raise

    def _release(self) -> None:
        self._held.task = None
        self._held.coming = ()
        self._cache.leave(self._held)
        self._strategy.close()
        check, self._base_check = self._base_check, None
        if check is not None:
            check.leave()

    def _close_if_asked(self) -> None:
        if self._deferred:
            self._deferred = False
            self.close()

    def __del__(self) -> None:
        if self._forked:
            leak(self._strategy)

    def _opened(self) -> View:
        if os.getpid() != self._process:
            self._check_process()
        if self._closed:
            raise BackendError("the session is closed; open a new one")
        check = self._base_check  # read once: another thread may close the session
        if check is not None and check.error is not None:
            raise FormatError(str(check.error))
        return self._view


def _nothing(_: LoadedTask) -> None:
    """Leave a task as it is: switching to it is all that was asked."""
