"""The tasks in memory: read once, least recently used first out, bounded by bytes.

A task is known here by the digest of its file, so that what is in memory is right for whatever
bundle names it, and several sessions over one base can share it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from runtime.errors import BackendError
from runtime.sessions.shelf import Shelf
from runtime.strategies.base import Resident

Read = Callable[[], Resident]
"""Reads, checks and prepares a task; may take long."""


class Residents:
    """Keeps tasks in memory. Thread-safe; tasks are read without the lock, and once at a time."""

    def __init__(self, limit: int | None = None) -> None:
        """Start empty.

        Args:
            limit: Bytes that all tasks together may take; None is no bound. A task that someone
                uses or pinned is never evicted, so what is in use may exceed it until released.
        """
        self._shelf = Shelf(limit)
        self._shares: dict[str, Hashable] = {}
        self._reading: dict[str, Future[Resident]] = {}
        self._worker: ThreadPoolExecutor | None = None
        self._named: dict[object, frozenset[str]] = {}
        """What the manifest of each session names: all that may stay, so that what a device has
        replaced over the years costs nothing."""
        self._closed = False
        self._lock = threading.Lock()

    @property
    def tasks(self) -> tuple[Resident, ...]:
        """The tasks in memory, least recently used first."""
        with self._lock:
            return tuple(self._shelf.tasks.values())

    @property
    def nbytes(self) -> int:
        """Bytes that the tasks in memory take."""
        return self._shelf.nbytes

    def get(self, key: str, read: Read) -> Resident:
        """Return a task, from memory or else by reading it, and count it as used just now.

        Args:
            key: Digest of its file.
            read: Called if the task is absent and nobody is reading it already.

        Raises:
            TaskError: There is no room for it beside what is pinned or in use.
            UdaError: What `read` raises.
        """
        return self._find(None, key, read)

    def take(self, key: str, read: Read, instead: Collection[str] = ()) -> Resident:
        """Do as `get`, and hold the task until `release`.

        Args:
            key: As for `get`.
            read: As for `get`.
            instead: Held tasks that count for nothing, since they will be let go of soon.

        Raises:
            TaskError: There is no room for it beside what is pinned.
            UdaError: What `read` raises.
        """
        return self._find(self._shelf.users, key, read, instead)

    def hold(self, key: str) -> None:
        """Hold a task that is held already once more."""
        with self._lock:
            self._shelf.users[key] += 1

    def release(self, key: str) -> None:
        """Let go of what was taken or held, used until now."""
        self._let_go(self._shelf.users, key)

    def pin(self, key: str, read: Read, instead: Collection[str] = ()) -> None:
        """Do as `take`, but until `unpin`.

        Raises:
            TaskError: There is no room for it beside what is pinned or in use.
            UdaError: What `read` raises.
        """
        self._find(self._shelf.pins, key, read, instead)

    def unpin(self, key: str) -> None:
        """Let go of what `pin` held."""
        self._let_go(self._shelf.pins, key)

    def share(self, key: str, read: Read) -> Hashable:
        """Return the `share` of a task, which stays known when the task leaves memory.

        Raises:
            TaskError: There is no room for it beside what is pinned.
            UdaError: What `read` raises.
        """
        share = self._shares.get(key)
        if share is None:
            share = self.take(key, read).share
            self.release(key)
        return share

    def prefetch(self, key: str, read: Read) -> None:
        """Have a task read on the background thread; who wants it later is told of errors."""
        with self._lock:
            if self._closed or key in self._shelf.tasks or key in self._reading:
                return
            if self._worker is None:
                self._worker = ThreadPoolExecutor(1, "uda-prefetch", _step_back)
            future: Future[Resident] = Future()
            self._reading[key] = future
            self._worker.submit(self._read_ahead, key, read, future)

    def join(self, session: object, keys: Iterable[str]) -> None:
        """Count a session in, or take note of its new manifest.

        A task that no session's manifest names any more leaves as soon as nobody holds it.

        Args:
            session: Whose manifest it is.
            keys: Of all tasks that this names.
        """
        with self._lock:
            self._check_open()
            self._named[session] = frozenset(keys)
            out = self._name()
        _close(out)

    def leave(self, session: object) -> None:
        """Count a session out. The last one forgets all tasks and ends the background thread."""
        worker = None
        with self._lock:
            self._named.pop(session, None)
            if self._named:
                out = self._name()
            else:
                self._closed = True
                worker, self._worker = self._worker, None
                out = self._shelf.clear()
        if worker is not None:
            worker.shutdown(cancel_futures=True)
        _close(out)

    def _name(self) -> list[Resident]:
        out = self._shelf.name(frozenset().union(*self._named.values()))
        self._shares = {key: own for key, own in self._shares.items() if self._shelf.names(key)}
        return out

    def _find(
        self,
        holds: Counter[str] | None,
        key: str,
        read: Read,
        instead: Collection[str] = (),
    ) -> Resident:
        with self._lock:
            self._check_open()
            if holds is not None:
                holds[key] += 1  # from here on nobody evicts it
            resident = self._shelf.tasks.get(key)
            if resident is not None and holds is not self._shelf.pins:
                self._shelf.touch(key)
                return resident
            future = self._reading.get(key)
            mine = resident is None and not (future and future.running())
            if mine:  # also what waits behind other tasks for the background thread
                future = self._reading[key] = future or Future()
                future.set_running_or_notify_cancel()
        try:
            if mine and future:
                self._read(key, read, future, instead)
            if resident is None and future:
                resident = future.result()
            assert resident is not None
            with self._lock:
                self._shelf.touch(key)
                if holds is self._shelf.pins:
                    self._shelf.check_room(key, resident, holds.keys() - set(instead))
        except BaseException:
            if holds is not None:
                self._let_go(holds, key)
            raise
        return resident

    def _let_go(self, holds: Counter[str], key: str) -> None:
        with self._lock:
            out = self._shelf.let_go(holds, key)
        _close(out)

    def _read_ahead(self, key: str, read: Read, future: Future[Resident]) -> None:
        with self._lock:
            if future.running() or future.done():  # somebody could not wait
                return
            future.set_running_or_notify_cancel()
        self._read(key, read, future)

    def _read(
        self, key: str, read: Read, future: Future[Resident], instead: Collection[str] = ()
    ) -> None:
        out: list[Resident] = []
        try:
            resident = read()
            out = [resident]
            with self._lock:
                # If there is no room, that is so for those who wait by now, not for later ones.
                del self._reading[key]
                self._check_open()
                out = self._shelf.add(key, resident, instead)
                if self._shelf.names(key):
                    self._shares[key] = resident.share
            future.set_result(resident)
        except BaseException as error:
            with self._lock:
                if self._reading.get(key) is future:
                    del self._reading[key]
            future.set_exception(error)
        finally:
            _close(out)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the session is closed; open a new one")


def _close(residents: Iterable[Resident]) -> None:
    for resident in residents:
        resident.close()


def _step_back() -> None:
    """Let this thread give way to those that judge frames, where threads have priorities."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
