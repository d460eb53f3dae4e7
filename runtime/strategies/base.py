"""The interface of a strategy, which prepares tasks and computes features and logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Engine, FeaturesAndLogits
from runtime.bundles.bundle import Bundle
from runtime.bundles.entries import Encoder, TaskEntry
from runtime.bundles.task import Task
from runtime.bundles.task_checks import check_head_names
from runtime.errors import FormatError
from runtime.memory.base import Pixels, Tensors
from runtime.models import Preprocess, TaskInfo, TensorSpec
from runtime.monitoring.confidence import Calibration
from runtime.monitoring.statistics import TaskStatistics


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """A task in memory, ready to be switched to; a strategy adds the fields that it needs.

    Immutable, so strategies of one kind over one base may share it.
    """

    info: TaskInfo
    preprocess: Preprocess
    nbytes: int
    """Bytes of memory, without those that the strategy holds for all tasks."""
    share: Hashable
    """Equal for tasks whose encoders compute the same from the same frame."""
    head: str
    """SHA-256 of the task's head graph."""
    head_tensors: Tensors
    statistics: TaskStatistics | None
    """Statistics of the task's own images, if its file has some."""
    calibration: Calibration | None
    """Temperature of the task's logits, if a person sorted images for one."""

    def close(self) -> None:
        """Free the head's memory, and all else that the task holds. Safe to call more than once.

        Called when nothing uses the task.
        """
        self.head_tensors.close()


R = TypeVar("R", bound=LoadedTask)


class Strategy(ABC, Generic[R]):
    """Holds a bundle's graphs and makes one task current. Session holds a lock where needed."""

    def __init__(self, backend: Backend) -> None:
        """Start without engines, and take ownership of the backend's memory."""
        self.backend = backend
        self.closed = False
        """Whether the engines were closed."""
        self._heads: dict[str, Engine] = {}

    @property
    @abstractmethod
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""

    @property
    @abstractmethod
    def form(self) -> Hashable:
        """Strategies of one kind, one base and equal forms take each other's loaded tasks."""

    @abstractmethod
    def min_bytes(self, entry: TaskEntry) -> int:
        """Return a lower bound of a task's bytes in memory, before its file is read."""

    @abstractmethod
    def prepare(self, task: Task, preprocess: Preprocess) -> R:
        """Return a task as `switch` takes it. Thread-safe, also while another thread switches.

        Args:
            task: Task, read from the bundle for `layout`.
            preprocess: Preprocessing of the task's frames.

        Raises:
            FormatError: The task does not fit the base or its graphs.
            BackendError: An engine cannot be opened, or there is no room for the task.
        """

    @abstractmethod
    def encoder(self, loaded: R) -> Engine:
        """Return the engine that computes a task's features once it was switched to."""

    @abstractmethod
    def base_encoder(self, spec: Preprocess) -> Engine:
        """Return the engine of the untouched base; removes the task, see `switch`.

        Args:
            spec: Preprocessing of the frames.

        Raises:
            FormatError: The bundle has no graph for it.
            BackendError: The engine cannot be opened, or the device failed.
        """

    @abstractmethod
    def base_sha256(self) -> str:
        """Return the digest of the base in memory; removes the task, see `switch`."""

    def open_heads(self, bundle: Bundle) -> None:
        """Open every head of a bundle.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        for head in bundle.manifest.heads:
            content = bundle.graph(head.graph)
            self._heads[head.graph.sha256] = self.backend.open(content, small=True)

    def check_head(self, task: Task) -> None:
        """Check that a task brings the tensors of its head; the bundle has checked the shapes.

        Raises:
            FormatError: Names differ.
        """
        check_head_names(task, self._heads[task.head].inputs - {"features"})

    @abstractmethod
    def switch(self, new: R | None) -> None:
        """Restore the base, whatever is over it, and write a task; None is the bare base.

        If this is interrupted or fails, nothing may be computed until it is called again.

        Raises:
            BackendError: The engines are closed, or the device takes no new values.
            FormatError: An earlier call was interrupted, and the bundle's base, to restore a
                device's weights from, is missing or damaged.
        """

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Return at least one frame as `features` takes them. Thread-safe.

        Raises:
            DataError: A frame is not an RGB image, or too narrow to crop.
        """
        pixels: Pixels = self.backend.memory.pixels(frames, spec)
        return pixels

    def features(self, loaded: R, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (N, D) for frames.

        Args:
            loaded: Current task, or one of the same `share`.
            pixels: Result of `pixels`, or an array (N, S, S, 3), contiguous.

        Raises:
            BackendError: An engine failed.
        """
        return self.encoder(loaded).run({"pixels": self.backend.memory.ready(pixels)})

    def base_features(self, pixels: Pixels, spec: Preprocess) -> NDArray[np.float32]:
        """Return features (N, D) of the untouched base for frames; removes the task, see `switch`.

        Args:
            pixels: As for `features`.
            spec: Preprocessing of the frames.

        Raises:
            FormatError: The bundle has no graph for it, or the features are not finite.
            BackendError: The engine cannot be opened, or the device failed.
        """
        encoder = self.base_encoder(spec)
        found = encoder.run({"pixels": self.backend.memory.ready(pixels)})
        if not np.isfinite(found).all():
            raise FormatError(
                "the base gives features that are not finite; export the bundle again, with "
                "--precision fp32 if it was fp16"
            )
        return found

    def infer(self, loaded: R, pixels: Pixels) -> NDArray[np.float32]:
        """Return logits (N, K) for frames; the features stay where they are computed.

        Args:
            loaded: The task that was switched to.
            pixels: As for `features`.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """
        return self._pass(loaded, pixels, features=False)[1]

    def see(self, loaded: R, pixels: Pixels) -> FeaturesAndLogits:
        """Return features (N, D), if the task has statistics to hold them against, and logits.

        It is one pass, and the logits are those of `infer`.

        Raises:
            UdaError: As `infer`.
        """
        return self._pass(loaded, pixels, features=loaded.statistics is not None)

    def _pass(self, loaded: R, pixels: Pixels, *, features: bool) -> FeaturesAndLogits:
        ready, head = self.backend.memory.ready(pixels), self._heads[loaded.head]
        found, logits = self.encoder(loaded).run_with_head(
            {"pixels": ready}, head, loaded.head_tensors.handles, features=features
        )
        return found, _checked(loaded, ready.shape[0], logits)

    def logits(self, loaded: R, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (N, K) for features (N, D); the task need not be the current one.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """
        inputs = {"features": features, **loaded.head_tensors.handles}
        return _checked(loaded, len(features), self._heads[loaded.head].run(inputs))

    def close(self) -> None:
        """Release everything but the tasks' own memory. Safe to call more than once."""
        self.closed = True
        # The table stays: a task that another thread is preparing still looks things up.
        for engine in self._heads.values():
            engine.close()
        self.backend.memory.close()


def bare(encoders: Iterable[Encoder], spec: Preprocess) -> Encoder:
    """Return the encoder of the base alone that takes frames preprocessed in a way.

    Raises:
        FormatError: There is none.
    """
    for encoder in encoders:
        if not encoder.tokens and encoder.preprocess(spec.resize, spec.interpolation) == spec:
            return encoder
    raise FormatError(
        "the bundle has no graph of the base without tokens, through which the task of a frame is "
        "chosen; export it again, or name a task"
    )


def _checked(loaded: LoadedTask, count: int, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Check the logits of a task for `count` frames, and return them.

    Raises:
        FormatError: The logits are not finite, or not one per class and frame.
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
