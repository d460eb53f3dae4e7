"""The tasks in memory: read once, checked, ready to be switched to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Engine
from runtime.bundle import Bundle
from runtime.errors import FormatError
from runtime.spec import TaskInfo
from runtime.weights import ResidentPatch, Weights, patch_nbytes


@dataclass(frozen=True)
class Resident:
    """A task in memory."""

    info: TaskInfo
    head: str
    """SHA-256 of its head graph."""
    head_tensors: dict[str, NDArray[np.float32]]
    patch: ResidentPatch
    tensors: tuple[str, ...]
    """Names of the tensors the patch changes."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return patch_nbytes(self.patch) + sum(array.nbytes for array in self.head_tensors.values())


class Residents:
    """Reads tasks of a bundle when they are first wanted. Not thread-safe; Session has the lock."""

    def __init__(self, bundle: Bundle, weights: Weights, heads: Mapping[str, Engine]) -> None:
        """Start empty; `heads` are the bundle's head engines by digest."""
        self._bundle, self._weights, self._heads = bundle, weights, heads
        self._tasks: dict[str, Resident] = {}

    def get(self, task: str) -> Resident:
        """Return a task, from memory or else from its file.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: Its file is damaged, or does not fit the base or the head.
        """
        if task not in self._tasks:
            loaded = self._bundle.task(task, self._weights.layout)
            wanted = self._heads[loaded.head].inputs - {"features"}
            if loaded.head_tensors.keys() != wanted:
                raise FormatError(
                    f"task '{task}' brings {sorted(loaded.head_tensors)} for its head, needed "
                    f"{sorted(wanted)}; export the task again"
                )
            patch = self._weights.prepare(loaded.patch)
            heads = dict(loaded.head_tensors)
            self._tasks[task] = Resident(
                loaded.info, loaded.head, heads, patch, tuple(loaded.patch)
            )
        return self._tasks[task]
