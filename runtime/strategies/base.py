"""The interface of a strategy, which prepares tasks and computes features and logits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend
from runtime.bundles.task import Task
from runtime.errors import FormatError
from runtime.memory.base import Pixels
from runtime.models import Preprocess, TaskInfo, TensorSpec


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """A task in memory, ready to be switched to; a strategy adds what it needs.

    Immutable, so strategies of one kind over one base may share it.
    """

    info: TaskInfo
    preprocess: Preprocess
    nbytes: int
    """Bytes of memory, without what the strategy holds for all tasks."""
    share: Hashable
    """Equal for tasks whose encoders compute the same from the same frame."""

    def close(self) -> None:
        """Release what the task holds beside memory. Called when nothing uses the task.

        Safe to call more than once.
        """


R = TypeVar("R", bound=LoadedTask)


class Strategy(Protocol[R]):
    """Holds a bundle's graphs and makes one task current. Session holds a lock where needed."""

    backend: Backend

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""

    @property
    def form(self) -> Hashable:
        """Strategies of one kind, one base and equal forms take each other's loaded tasks."""

    @property
    def closed(self) -> bool:
        """Whether the strategy was closed."""

    def prepare(self, task: Task, preprocess: Preprocess) -> R:
        """Return a task as `switch` takes it. Thread-safe, also while another thread switches.

        Args:
            task: Task, read from the bundle for `layout`.
            preprocess: Preprocessing of the task's frames.

        Raises:
            FormatError: The task does not fit the base or its graphs.
        """

    def switch(self, new: R | None) -> None:
        """Restore the base, whatever is over it, and write a task; None is the bare base.

        If this is interrupted or fails, nothing may be computed until it is called again.

        Raises:
            BackendError: The device takes no new values.
        """

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Return at least one frame as `features` takes them. Thread-safe.

        Raises:
            DataError: A frame is not an RGB image, or too narrow to crop.
        """

    def features(self, loaded: R, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (N, D) for frames.

        Args:
            loaded: Current task, or one of the same `share`.
            pixels: Result of `pixels`, or an array (N, S, S, 3), contiguous.

        Raises:
            BackendError: An engine failed.
        """

    def infer(self, loaded: R, pixels: Pixels) -> NDArray[np.float32]:
        """Return logits (N, K) for frames; the features stay where they are computed.

        Args:
            loaded: The task that was switched to.
            pixels: As for `features`.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """

    def logits(self, loaded: R, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (N, K) for features (N, D); the task need not be the current one.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """

    def base_sha256(self) -> str:
        """Return the digest of the base in memory; removes the task, see `switch`."""

    def close(self) -> None:
        """Release everything. Safe to call more than once."""


def checked(loaded: LoadedTask, count: int, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check the logits of a task for `count` frames, and return them.

    Raises:
        FormatError: They are not finite, or not one per class and frame.
    """
    name, classes = loaded.info.id, len(loaded.info.classes)
    if logits.shape != (count, classes):
        raise FormatError(
            f"task '{name}' has {classes} classes, its head returned shape {logits.shape}; "
            "export the bundle again"
        )
    if not np.isfinite(logits).all():
        raise FormatError(
            f"task '{name}' gives values that are not finite; export it again, with "
            "--precision fp32 if it was fp16"
        )
    return logits
