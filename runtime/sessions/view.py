"""A session's view of its bundle: the file of each task, and how to load it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import Any

from runtime.bundles.bundle import Bundle
from runtime.errors import TaskError
from runtime.models import Preprocess
from runtime.sessions.cache import Lease, Read, Size, TaskCache
from runtime.strategies.base import LoadedTask, Strategy


class View:
    """An immutable snapshot of a bundle; a refresh makes another one."""

    def __init__(self, bundle: Bundle, strategy: Strategy[Any], cache: TaskCache) -> None:
        """Map the tasks of a bundle to their keys."""
        self.bundle = bundle
        self.keys = {task: bundle.entry(task).file.sha256 for task in bundle.tasks}
        """Digests of the tasks' files."""
        self._strategy, self._cache = strategy, cache

    def key(self, task: str) -> str:
        """Return the key of a task.

        Raises:
            TaskError: The bundle has no such task.
        """
        return self.bundle.entry(task).file.sha256

    def preprocess(self, task: str) -> Preprocess:
        """Return the preprocessing of a task's frames.

        Raises:
            TaskError: The bundle has no such task.
        """
        return self.bundle.preprocess(task)

    def current(self, loaded: LoadedTask | None) -> str:
        """Return the id of a session's current task.

        Raises:
            TaskError: There is none, or a refresh removed it and was interrupted.
        """
        if loaded is None or loaded.info.id not in self.keys:
            raise TaskError(
                f"no task is selected; available: {', '.join(self.keys)}; switch to one first"
            )
        return loaded.info.id

    def reader(self, task: str) -> Read:
        """Return a function that reads a task's file and prepares it."""
        return partial(_read, self.bundle, self._strategy, task)

    def min_size(self, task: str) -> Size:
        """Return a lower bound of a task's size in memory, from the manifest."""
        return Size(task, self._strategy.min_bytes(self.bundle.entry(task)))

    def load(self, task: str, lease: Lease, **how: Any) -> LoadedTask:
        """Load a task into memory and let a lease hold it.

        Args:
            task: Id of the task.
            lease: Lease of the calling frame.
            how: Further arguments of `TaskCache.load`.

        Raises:
            UdaError: As `TaskCache.load`.
        """
        return self._cache.load(
            self.key(task), self.reader(task), lease, min_size=self.min_size(task), **how
        )

    def share(self, task: str) -> Hashable:
        """Return a value that is equal for tasks that can share an encoder pass.

        Raises:
            UdaError: As `TaskCache.share`.
        """
        return self._cache.share(self.key(task), self.reader(task), self.min_size(task))


def _read(bundle: Bundle, strategy: Strategy[Any], task: str) -> LoadedTask:
    content = bundle.task(task, strategy.layout)
    spec = replace(bundle.preprocess(task), background=content.background)
    loaded: LoadedTask = strategy.prepare(content, spec)
    return loaded
