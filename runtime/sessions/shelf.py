"""What is in memory, who holds it and what must leave: the rules of `residents.py`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable

from runtime.errors import TaskError
from runtime.strategies.base import Resident


class Shelf:
    """Tasks by key, least recently used first. Not thread-safe; Residents has the lock.

    A task that is held, because someone uses it or pinned it, never leaves. What is in use may
    exceed the bound until it is released; what is pinned may not.
    """

    def __init__(self, limit: int | None) -> None:
        """Start empty; `limit` is in bytes, None is no bound."""
        self._limit = limit
        self.tasks: OrderedDict[str, Resident] = OrderedDict()
        self.nbytes = 0
        self.users: Counter[str] = Counter()
        self.pins: Counter[str] = Counter()
        self._named: frozenset[str] | None = None
        self._doomed: set[str] = set()
        """Those that are here without being named: few, mostly none."""

    def add(self, key: str, resident: Resident, instead: Collection[str] = ()) -> list[Resident]:
        """Put a task on the shelf; return what must leave for it.

        Args:
            key: The task's.
            resident: The task.
            instead: Held tasks that will be let go of when this one is there.

        Raises:
            TaskError: There is no room for it beside what stays.
        """
        # The current task leaves soon if this one is to come, and stays if not.
        beside = self.pins if self.users[key] else self.pins + self.users
        self.check_room(key, resident, beside.keys() - set(instead))
        self.tasks[key] = resident
        self.nbytes += resident.nbytes
        if not self.names(key):
            self._doomed.add(key)
        return self.leaving()

    def touch(self, key: str) -> None:
        """Count a task as used just now, if it is there."""
        if key in self.tasks:
            self.tasks.move_to_end(key)

    def let_go(self, holds: Counter[str], key: str) -> list[Resident]:
        """Take back one of the holds on a task; return what must leave now.

        Args:
            holds: `users` or `pins`.
            key: The task's.
        """
        holds[key] -= 1
        if not holds[key]:
            del holds[key]
        if holds is self.users:
            self.touch(key)
        return self.leaving()

    def name(self, keys: Iterable[str]) -> list[Resident]:
        """Let tasks stay that are among these, and others leave as soon as nobody holds them.

        Until this is called all tasks may stay. Returns what leaves now.
        """
        self._named = frozenset(keys)
        self._doomed = self.tasks.keys() - self._named
        return self.leaving()

    def names(self, key: str) -> bool:
        """Return whether a task may stay when nobody holds it."""
        return self._named is None or key in self._named

    def clear(self) -> list[Resident]:
        """Remove everything and return it."""
        return [self._remove(key) for key in tuple(self.tasks)]

    def leaving(self) -> list[Resident]:
        """Remove what must leave and return it."""
        free = [key for key in self._doomed if not self._held(key)]
        gone = [self._remove(key) for key in free]
        if self._limit is not None and self.nbytes > self._limit:
            for key in [key for key in self.tasks if not self._held(key)]:
                gone.append(self._remove(key))
                if self.nbytes <= self._limit:
                    break
        return gone

    def check_room(self, key: str, new: Resident, beside: Collection[str]) -> None:
        """Check that a task fits beside others.

        Raises:
            TaskError: It does not.
        """
        others = [resident for k, resident in self.tasks.items() if k in beside and k != key]
        held = sum(resident.nbytes for resident in others)
        if self._limit is not None and new.nbytes + held > self._limit:
            names = ", ".join(f"'{resident.info.id}'" for resident in others)
            stay = f", and the current and pinned ones ({names}) keep {held}" if others else ""
            raise TaskError(
                f"task '{new.info.id}' takes {new.nbytes} bytes{stay}; max_task_bytes is "
                f"{self._limit}: raise it" + (", or unpin tasks" if others else "")
            )

    def _held(self, key: str) -> bool:
        return key in self.users or key in self.pins

    def _remove(self, key: str) -> Resident:
        resident = self.tasks.pop(key)
        self.nbytes -= resident.nbytes
        self._doomed.discard(key)
        return resident
