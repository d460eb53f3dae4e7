"""Which tasks a session has pinned, through every change of the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from runtime.errors import TaskError
from runtime.residents import Read, Residents

File = tuple[str, Read]
"""The key of a task in memory, and what reads it."""


class Pins:
    """Pinned tasks by id. Not thread-safe; Switcher has a lock for it."""

    def __init__(self, residents: Residents) -> None:
        """Start with none."""
        self._residents = residents
        self._keys: dict[str, str] = {}

    def __contains__(self, task: object) -> bool:
        return task in self._keys

    def add(self, task: str, file: File) -> None:
        """Bring a task into memory and keep it there; again changes nothing.

        Raises:
            UdaError: As `Residents.pin`.
        """
        if task not in self._keys:
            self._residents.pin(*file)
            self._keys[task] = file[0]

    def remove(self, task: str) -> None:
        """Let a task go, if it is pinned."""
        if task in self._keys:
            self._residents.unpin(self._keys.pop(task))

    def renew(self, gone: Iterable[str], stay: Iterable[str], file: Callable[[str], File]) -> None:
        """Let changed tasks go and pin their new versions.

        Args:
            gone: Tasks that changed.
            stay: Those of them that are still there.
            file: Gives a task's new file.

        Raises:
            TaskError: A new version has no room; it alone is no longer pinned.
        """
        pinned = [task for task in gone if task in self._keys]
        for task in pinned:
            self.remove(task)
        refused = None
        for task in set(pinned) & set(stay):
            try:
                self.add(task, file(task))
            except TaskError as error:
                refused = error
        if refused is not None:
            raise refused

    def clear(self) -> None:
        """Let all tasks go."""
        for task in tuple(self._keys):
            self.remove(task)
