"""The tasks in memory: read once, checked, ready to be switched to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Bundle
from runtime.engines import Engines
from runtime.errors import FormatError
from runtime.spec import Preprocess, TaskInfo
from runtime.weights import ResidentPatch, patch_nbytes


@dataclass(frozen=True, eq=False)
class Resident:
    """A task in memory."""

    info: TaskInfo
    preprocess: Preprocess
    encoder: str
    """SHA-256 of its encoder graph, the one that is not blocked."""
    tokens: NDArray[Any]
    """All its tokens in one array, as `EncoderEngine.put` takes them."""
    head: str
    """SHA-256 of its head graph."""
    head_tensors: dict[str, NDArray[np.float32]]
    patch: ResidentPatch
    tensors: tuple[str, ...]
    """Names of the tensors the patch changes."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        heads = sum(array.nbytes for array in self.head_tensors.values())
        return patch_nbytes(self.patch) + self.tokens.nbytes + heads


class Residents:
    """Reads tasks of a bundle when they are first wanted. Not thread-safe; Session has the lock."""

    def __init__(self, bundle: Bundle, engines: Engines) -> None:
        """Start empty; `engines` are the bundle's."""
        self._bundle, self._engines = bundle, engines
        self._tasks: dict[str, Resident] = {}

    def get(self, task: str) -> Resident:
        """Return a task, from memory or else from its file.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: Its file is damaged, or does not fit the base, the encoder or the head.
        """
        if task not in self._tasks:
            weights = self._engines.weights
            loaded = self._bundle.task(task, weights.layout)
            wanted = self._engines.heads[loaded.head].inputs - {"features"}
            if loaded.head_tensors.keys() != wanted:
                raise FormatError(
                    f"task '{task}' brings {sorted(loaded.head_tensors)} for its head, needed "
                    f"{sorted(wanted)}; export the task again"
                )
            self._tasks[task] = Resident(
                info=loaded.info,
                preprocess=self._bundle.preprocess(task),
                encoder=loaded.encoder,
                tokens=self._engines.encoders[loaded.encoder].flat(loaded.tokens),
                head=loaded.head,
                head_tensors=dict(loaded.head_tensors),
                patch=weights.prepare(loaded.patch),
                tensors=tuple(loaded.patch),
            )
        return self._tasks[task]
