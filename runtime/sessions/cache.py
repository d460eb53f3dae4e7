"""LRU cache of loaded tasks, bounded by bytes.

A task is known here by the digest of its file, so that what is in memory is right for whatever
bundle names it, and several sessions over one base can share it.

An exception may come between any two bytecodes and must leave nothing behind. So there are no
reference counts. What is held is looked up in what holds it: a session's state, which changes by
one assignment, and leases, which end with the call that took them.

Longer than most files: every rule must hold wherever another one was interrupted, so they are read
together.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.errors import BackendError, TaskError
from runtime.mutex import Hold, Mutex
from runtime.sessions.loading import Background, SharedLoads
from runtime.sessions.tables import Tables
from runtime.strategies.base import LoadedTask

Read = Callable[[], LoadedTask]
"""Reads, checks and prepares a task; may take long."""


class Size(NamedTuple):
    """The bytes of memory that a task takes."""

    task: str
    """Id of the task."""
    nbytes: int


def _size_of(loaded: LoadedTask) -> Size:
    return Size(loaded.info.id, loaded.nbytes)


@dataclass(eq=False)
class Holder:
    """The tasks that a session keeps in memory; each field is changed by one assignment."""

    task: LoadedTask | None = None
    """The current task."""
    coming: Sequence[str] = ()
    """Keys of the tasks of the call that uses the strategy."""
    pins: dict[str, str] = field(default_factory=dict)
    """Keys of pinned tasks by the tasks' ids."""


class Lease(Hold):
    """The tasks that a waiting call keeps in memory, until the call or the lease ends."""

    __slots__ = ("keys", "tasks")

    def __init__(self) -> None:
        """Start empty; the lease belongs to the calling frame."""
        super().__init__(sys._getframe(1))
        self.keys: tuple[str, ...] = ()
        self.tasks: tuple[LoadedTask, ...] = ()


class LRUCache:
    """Tasks by key, and when each was used last. Only `get` and `touch` are thread-safe."""

    def __init__(self) -> None:
        self._tasks: dict[str, LoadedTask] = {}
        self._used: dict[LoadedTask, int] = {}
        self._clock = itertools.count()

    @property
    def nbytes(self) -> int:
        """Bytes that the tasks take."""
        return sum(loaded.nbytes for loaded in tuple(self._tasks.values()))

    def get(self, key: str) -> LoadedTask | None:
        """Return a task, or None, and mark it as used just now."""
        loaded = self._tasks.get(key)
        if loaded is not None:
            self._used[loaded] = next(self._clock)
        return loaded

    def peek(self, key: str) -> LoadedTask | None:
        """Return a task, or None, without marking it as used."""
        return self._tasks.get(key)

    def touch(self, loaded: LoadedTask) -> None:
        """Mark a task as used just now, if it is in the cache."""
        if loaded in self._used:
            self._used[loaded] = next(self._clock)

    def put(self, key: str, loaded: LoadedTask) -> None:
        """Add a task and mark it as used just now."""
        self._used[loaded] = next(self._clock)
        self._tasks[key] = loaded

    def drop(self, key: str) -> None:
        """Remove a task that is in the cache."""
        self._tasks.pop(key)
        there = tuple(self._tasks.values())
        if len(self._used) > len(there):
            self._used = {loaded: self._used.get(loaded, 0) for loaded in there}

    def items(self) -> list[tuple[str, LoadedTask]]:
        """Return the tasks by key, least recently used first."""
        used = self._used
        return sorted(tuple(self._tasks.items()), key=lambda item: used.get(item[1], 0))


class TaskCache:
    """Keeps tasks in memory. Thread-safe; each task is read once, without holding the lock."""

    def __init__(self, limit: int | None = None) -> None:
        """Start empty.

        Args:
            limit: Largest number of bytes of all tasks; None for no bound. A task that is held is
                never evicted, so tasks in use may exceed it until they are released.
        """
        self._limit = limit
        self._lru = LRUCache()
        self._shares: dict[str, Hashable] = {}
        self._named: dict[Holder, frozenset[str]] = {}
        """Keys that each session's manifest names; no other tasks stay, so versions that were
        replaced take no memory."""
        self._leases: dict[Lease, None] = {}
        self._all_named: frozenset[str] | None = None
        """All these keys together; None until they are needed again."""
        self._leaving: dict[LoadedTask, str] = {}
        """Tasks to close when nobody holds them, with their keys; also those just loaded."""
        self._loads = SharedLoads()
        self.tables = Tables()
        """What routes frames to the tasks, for the sessions that share these."""
        self._background: Background | None = None
        self.excess = False
        """Whether `trim` may have something to evict."""
        self._closed = False
        self._mutex = Mutex()
        self._closing = Mutex()

    @property
    def tasks(self) -> tuple[LoadedTask, ...]:
        """The tasks in memory, least recently used first."""
        return tuple(loaded for _, loaded in self._lru.items())

    @property
    def nbytes(self) -> int:
        """Bytes that the tasks in memory take."""
        return self._lru.nbytes

    def claim(self, holder: Holder, keys: Sequence[str]) -> list[LoadedTask] | None:
        """Return tasks and let `holder.coming` hold them; None if one is not in memory.

        Marks the current task, then these, as used just now.
        """
        holder.coming = keys  # first: from here on nobody evicts them
        if holder.task is not None:
            self._lru.touch(holder.task)
        found = []
        for key in keys:
            loaded = self._lru.get(key)
            if loaded is None:
                return None
            found.append(loaded)
        return found

    def lease(self, lease: Lease) -> None:
        """Let a lease hold the tasks that are loaded with it, until `end`."""
        self._leases[lease] = None

    def end(self, lease: Lease) -> None:
        """End a lease, and evict tasks that nothing holds any more if there is a need."""
        lease.end()
        self._leases.pop(lease, None)
        if self.excess or self._leaving:
            self.trim()

    def load(
        self,
        key: str,
        read: Read,
        lease: Lease,
        *,
        beside: bool = True,
        pin: bool = False,
        instead: Collection[str] = (),
        min_size: Size | None = None,
    ) -> LoadedTask:
        """Return a task from memory, or read it, and let a lease hold it.

        Args:
            key: Digest of the task's file.
            read: Function that reads the task, called if nobody is reading it already.
            lease: Lease of the calling frame.
            min_size: Lower bound of the task's size; there must be room for it before it is read.
            beside: Whether the task must fit beside those in use, since it replaces none of them.
            pin: Whether the task will be pinned: it must then fit beside other pinned ones even if
                it is in memory.
            instead: Keys of held tasks to ignore, since they will be released soon.

        Raises:
            TaskError: There is no room for it.
            UdaError: What `read` raises.
        """
        self._check_open()
        lease.keys = (*lease.keys, key)  # from here on nobody evicts it
        loaded = self._lru.get(key)
        if loaded is None:
            if min_size is not None:
                with self._mutex:
                    self._check_room(key, min_size, beside, instead)
            loaded = self._loads.load(
                key,
                lambda: self._lru.get(key),
                read,
                lambda new: self._add(key, new, lease, beside, instead),
            )
        elif pin:
            with self._mutex:
                self._check_room(key, _size_of(loaded), False, instead)
        return loaded

    def share(self, key: str, read: Read, min_size: Size | None = None) -> Hashable:
        """Return the `share` of a task, also after the task has left memory.

        Raises:
            TaskError: There is no room for it beside what is pinned.
            UdaError: What `read` raises.
        """
        share = self._shares.get(key)
        if share is None:
            lease = Lease()
            self.lease(lease)
            try:
                share = self.load(key, read, lease, beside=False, min_size=min_size).share
            finally:
                self.end(lease)
        return share

    def prefetch(self, key: str, read: Read, min_size: Size | None = None) -> None:
        """Read a task on the background thread; its errors are raised when it is next needed."""
        with self._mutex:
            self._check_open()
            if self._background is None:
                self._background = Background()
            background = self._background

        def fetch() -> None:
            lease = Lease()
            self.lease(lease)
            try:
                self.load(key, read, lease, min_size=min_size)
            finally:
                self.end(lease)

        if self._lru.peek(key) is None:
            background.submit(fetch, key)

    def join(self, holder: Holder, keys: Iterable[str]) -> None:
        """Register a session, or the new manifest of a registered one.

        A task that no session's manifest names any more leaves as soon as nobody holds it.

        Args:
            holder: Holder of the session's tasks in memory.
            keys: Keys of all tasks that its manifest names.
        """
        with self._mutex:
            self._check_open()
            self._forget_names()
            self._named[holder] = frozenset(keys)
        self.trim()

    def leave(self, holder: Holder) -> None:
        """Unregister a session. The last one forgets all tasks and ends the background thread.

        Safe to call more than once.
        """
        with self._mutex:
            self._forget_names()
            self._named.pop(holder, None)
            last = self._closed = not self._named
        if last and self._background is not None:
            self._background.close()
        self.trim()

    def trim(self) -> None:
        """Evict tasks that no manifest names, and the least recently used beyond the limit."""
        with self._mutex:
            named = self._names()
            for key, _ in self._lru.items():
                if key not in named or self._over():
                    self._evict(key)
            self.excess = self._over() or any(key not in named for key, _ in self._lru.items())
            there = dict.fromkeys(self.tasks)
            gone = []
            for loaded, key in tuple(self._leaving.items()):
                if loaded in there:
                    self._leaving.pop(loaded)
                elif not self._held(key, loaded):
                    gone.append(loaded)
        # With another lock, since a device may have to be waited for.
        with self._closing:
            for loaded in gone:
                if loaded in self._leaving:
                    loaded.close()
                    self._leaving.pop(loaded)

    def _forget_names(self) -> None:
        self._all_named, self.excess = None, True

    def _names(self) -> frozenset[str]:
        """Return the keys of tasks that may stay when nobody holds them."""
        if self._all_named is None:
            named = frozenset[str]().union(*self._named.values())
            self._shares = {key: own for key, own in self._shares.items() if key in named}
            self._all_named = named
        return self._all_named

    def _add(
        self,
        key: str,
        loaded: LoadedTask,
        lease: Lease,
        beside: bool,
        instead: Collection[str],
    ) -> LoadedTask:
        """Add a task that was read and return it, or the one that another call added meanwhile."""
        lease.tasks = (*lease.tasks, loaded)
        self._leaving[loaded] = key  # closed in the end, unless it gets in
        with self._mutex:
            self._check_open()
            there = self._lru.get(key)
            if there is not None:
                return there
            self._check_room(key, _size_of(loaded), beside, instead)
            self.excess = True
            self._lru.put(key, loaded)
            self._leaving.pop(loaded)
            if key in self._names():
                self._shares[key] = loaded.share
        self.trim()
        return loaded

    def _check_room(self, key: str, new: Size, beside: bool, instead: Collection[str]) -> None:
        if self._limit is None:
            return
        held = self._held if beside else self._pinned
        others = [
            loaded
            for other, loaded in self._lru.items()
            if other != key and other not in instead and held(other, loaded)
        ]
        taken = sum(loaded.nbytes for loaded in others)
        if new.nbytes + taken > self._limit:
            names = ", ".join(f"'{loaded.info.id}'" for loaded in others)
            stay = f", and the current and pinned ones ({names}) keep {taken}" if others else ""
            raise TaskError(
                f"task '{new.task}' takes {new.nbytes} bytes{stay}; max_task_bytes is "
                f"{self._limit}: raise it" + (", or unpin tasks" if others else "")
            )

    def _over(self) -> bool:
        return self._limit is not None and self.nbytes > self._limit

    def _pinned(self, key: str, _: LoadedTask) -> bool:
        return any(key in tuple(holder.pins.values()) for holder in tuple(self._named))

    def _held(self, key: str, loaded: LoadedTask) -> bool:
        for holder in tuple(self._named):
            if holder.task is loaded or key in holder.coming:
                return True
        for lease in tuple(self._leases):
            if lease.over:  # its call was interrupted
                self._leases.pop(lease, None)
            elif key in lease.keys or loaded in lease.tasks:
                return True
        return self._pinned(key, loaded)

    def _evict(self, key: str) -> None:
        """Remove a task unless it is held; `trim` closes it."""
        loaded = self._lru.peek(key)
        if loaded is None or self._held(key, loaded):
            return
        self._leaving[loaded] = key
        self._lru.drop(key)
        if self._held(key, loaded):  # claimed meanwhile, which takes no lock
            self._lru.put(key, loaded)

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the session is closed; open a new one")
