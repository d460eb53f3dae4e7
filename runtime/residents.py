"""The tasks in memory: read once, checked, ready to be switched to."""

from __future__ import annotations

from typing import Any

from runtime.bundle import Bundle
from runtime.strategies.base import Resident, Strategy


class Residents:
    """Reads tasks of a bundle when they are first wanted. Not thread-safe; Session has the lock."""

    def __init__(self, bundle: Bundle, strategy: Strategy[Any]) -> None:
        """Start empty; `strategy` is open for the bundle."""
        self._bundle, self._strategy = bundle, strategy
        self._tasks: dict[str, Resident] = {}

    def get(self, task: str) -> Resident:
        """Return a task, from memory or else from its file.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: Its file is damaged, or does not fit the base, the encoder or the head.
        """
        if task not in self._tasks:
            loaded = self._bundle.task(task, self._strategy.layout)
            self._tasks[task] = self._strategy.prepare(loaded, self._bundle.preprocess(task))
        return self._tasks[task]
