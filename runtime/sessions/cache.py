"""LRU cache of loaded tasks, bounded by bytes.

A task is known here by the digest of its file, so that what is in memory is right for whatever
bundle names it, and several sessions over one base can share it.

An exception may come between any two bytecodes and must leave nothing behind. So nothing is counted
here. What is held is looked up in what holds it: a session's state, which one assignment changes,
and leases, which end with the call that took them.

The rules are long, and all in this file, since each holds whatever another one was interrupted at.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from runtime.errors import BackendError, TaskError
from runtime.mutex import Hold, Mutex
from runtime.sessions.loading import Background, SharedLoads
from runtime.strategies.base import LoadedTask

Read = Callable[[], LoadedTask]
"""Reads, checks and prepares a task; may take long."""


@dataclass(eq=False)
class Holder:
    """What a session keeps in memory; each field is changed by one assignment."""

    task: LoadedTask | None = None
    """The current task."""
    coming: Sequence[str] = ()
    """Keys of the tasks of the call that has the session's turn."""
    pins: dict[str, str] = field(default_factory=dict)
    """Keys of pinned tasks by the tasks' ids."""


class Lease(Hold):
    """What a call keeps in memory while it waits, until it ends or says so."""

    __slots__ = ("keys", "tasks")

    def __init__(self) -> None:
        """Start with nothing, for the call that makes this."""
        super().__init__(sys._getframe(1))
        self.keys: tuple[str, ...] = ()
        self.tasks: tuple[LoadedTask, ...] = ()


class LRUCache:
    """Tasks by key, and when each was used last. Not thread-safe but for `get` and `touch`."""

    def __init__(self) -> None:
        self._tasks: dict[str, LoadedTask] = {}
        self._used: dict[LoadedTask, int] = {}
        self._clock = itertools.count()

    @property
    def nbytes(self) -> int:
        """Bytes that the tasks take."""
        return sum(loaded.nbytes for loaded in tuple(self._tasks.values()))

    def get(self, key: str) -> LoadedTask | None:
        """Return a task that is there, and count it as used just now."""
        loaded = self._tasks.get(key)
        if loaded is not None:
            self._used[loaded] = next(self._clock)
        return loaded

    def peek(self, key: str) -> LoadedTask | None:
        """Return a task that is there."""
        return self._tasks.get(key)

    def touch(self, loaded: LoadedTask) -> None:
        """Count a task as used just now, if it is there."""
        if loaded in self._used:
            self._used[loaded] = next(self._clock)

    def put(self, key: str, loaded: LoadedTask) -> None:
        """Add a task, used just now."""
        self._used[loaded] = next(self._clock)
        self._tasks[key] = loaded

    def drop(self, key: str) -> None:
        """Remove a task that is there."""
        self._tasks.pop(key)
        there = tuple(self._tasks.values())
        if len(self._used) > len(there):
            self._used = {loaded: self._used.get(loaded, 0) for loaded in there}

    def items(self) -> list[tuple[str, LoadedTask]]:
        """Return the tasks by key, least recently used first."""
        used = self._used
        return sorted(tuple(self._tasks.items()), key=lambda item: used.get(item[1], 0))


class TaskCache:
    """Keeps tasks in memory. Thread-safe; tasks are read without the lock, and once at a time."""

    def __init__(self, limit: int | None = None) -> None:
        """Start empty.

        Args:
            limit: Bytes that all tasks together may take; None for no bound. A task that is held
                is never evicted, so what is in use may exceed it until it is let go of.
        """
        self._limit = limit
        self._lru = LRUCache()
        self._shares: dict[str, Hashable] = {}
        self._named: dict[Holder, frozenset[str]] = {}
        """What the manifest of each session names: all that may stay, so that what a device has
        replaced over the years costs nothing."""
        self._leases: dict[Lease, None] = {}
        self._all_named: frozenset[str] | None = None
        """What any of them names; None until `trim` has looked."""
        self._leaving: dict[LoadedTask, str] = {}
        """Those to be closed when nobody holds them, with their keys; also those that just came."""
        self._loads = SharedLoads()
        self._background: Background | None = None
        self.excess = False
        """Whether something may have to leave as soon as it is not held; see `trim`."""
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

        Counts the current task as used until now, and these as used just now.
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
        """Let a lease hold what is loaded with it; `end` ends it."""
        self._leases[lease] = None

    def end(self, lease: Lease) -> None:
        """Let go of what a lease held."""
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
    ) -> LoadedTask:
        """Return a task, from memory or else by reading it, and let a lease hold it.

        Args:
            key: Digest of its file.
            read: Called if the task is absent and nobody is reading it already.
            lease: Lease of the calling frame.
            beside: Whether it must fit beside what is in use, since it does not take its place.
            pin: Whether it is going to be pinned: then it must fit beside other pinned ones though
                it is in memory.
            instead: Held tasks that count for nothing, since they will be let go of soon.

        Raises:
            TaskError: There is no room for it.
            UdaError: What `read` raises.
        """
        self._check_open()
        lease.keys = (*lease.keys, key)  # from here on nobody evicts it
        loaded = self._lru.get(key)
        if loaded is None:
            loaded = self._loads.load(
                key,
                lambda: self._lru.get(key),
                read,
                lambda new: self._add(key, new, lease, beside, instead),
            )
        elif pin:
            with self._mutex:
                self._check_room(key, loaded, False, instead)
        return loaded

    def share(self, key: str, read: Read) -> Hashable:
        """Return the `share` of a task, which stays known when the task leaves memory.

        Raises:
            TaskError: There is no room for it beside what is pinned.
            UdaError: What `read` raises.
        """
        share = self._shares.get(key)
        if share is None:
            lease = Lease()
            self.lease(lease)
            try:
                share = self.load(key, read, lease, beside=False).share
            finally:
                self.end(lease)
        return share

    def prefetch(self, key: str, read: Read) -> None:
        """Read a task on the background thread; its errors show when it is wanted later."""
        with self._mutex:
            self._check_open()
            if self._background is None:
                self._background = Background()
            background = self._background

        def fetch() -> None:
            lease = Lease()
            self.lease(lease)
            try:
                self.load(key, read, lease)
            finally:
                self.end(lease)

        if self._lru.peek(key) is None:
            background.submit(fetch, key)

    def join(self, holder: Holder, keys: Iterable[str]) -> None:
        """Count a session in, or take note of its new manifest.

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
        """Count a session out. The last one forgets all tasks and ends the background thread.

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
        """Let leave what must: what nobody names, and the least recently used beyond the limit."""
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
        """Put a task that was read into memory and return it, or one that came meanwhile."""
        lease.tasks = (*lease.tasks, loaded)
        self._leaving[loaded] = key  # closed in the end, unless it gets in
        with self._mutex:
            self._check_open()
            there = self._lru.get(key)
            if there is not None:
                return there
            self._check_room(key, loaded, beside, instead)
            self.excess = True
            self._lru.put(key, loaded)
            self._leaving.pop(loaded)
            if key in self._names():
                self._shares[key] = loaded.share
        self.trim()
        return loaded

    def _check_room(
        self, key: str, new: LoadedTask, beside: bool, instead: Collection[str]
    ) -> None:
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
                f"task '{new.info.id}' takes {new.nbytes} bytes{stay}; max_task_bytes is "
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
        """Remove a task unless it is held, and have it closed by `trim`."""
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
