"""The live object in a camera app: a bundle, opened, with one current task."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import backends, strategies
from runtime.backends.base import Backend
from runtime.bundle import Bundle
from runtime.errors import BackendError, DataError, TaskError
from runtime.prediction import Prediction
from runtime.preprocess import preprocess_batch
from runtime.residents import Residents
from runtime.spec import Preprocess, TensorSpec
from runtime.strategies.base import Resident, Strategy


class Session:
    """Runs the tasks of one bundle, one at a time. Safe to call from several threads.

    Example:
        with Session.open("office-home.bundle") as session:
            session.switch("a-c")
            print(session.predict(frame).label)
    """

    def __init__(self, bundle: Bundle, strategy: Strategy[Any]) -> None:
        """Take over opened parts; `Session.open` makes them."""
        self.bundle = bundle
        self._strategy = strategy
        self._residents = Residents(bundle, strategy)
        self._current: Resident | None = None
        self._closed = False
        self._lock = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: str = "ort",
        device: str = "cpu",
        threads: int | None = None,
        blocked: bool = True,
        strategy: str = "patch",
    ) -> Session:
        """Open a bundle: check it, read the base weights, start every engine it has.

        A bundle of one task starts with it; otherwise call `switch` before `predict`.

        Args:
            path: Folder of the bundle.
            backend: `ort`.
            device: `cpu` or `cuda`. A device that is not there is an error, never a fallback.
            threads: Threads on the CPU; None leaves it to the backend.
            blocked: Take the encoder for this processor's blocked convolutions if there is one;
                False takes the one that every engine can read.
            strategy: `patch` changes the weights in place.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        bundle = Bundle.open(path)
        opened = backends.load(backend, device, threads)
        session = cls(bundle, strategies.load(strategy, bundle, opened, blocked))
        try:
            if len(bundle.tasks) == 1:
                session.switch(bundle.tasks[0])
        except BaseException:
            session.close()
            raise
        return session

    @property
    def backend(self) -> Backend:
        """What runs the engines."""
        return self._strategy.backend

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self._strategy.layout

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks that `switch` takes."""
        return self.bundle.tasks

    @property
    def task(self) -> str | None:
        """The id of the current task, or None before the first switch."""
        current = self._current
        return None if current is None else current.info.id

    @property
    def preprocess(self) -> Preprocess:
        """How the current task turns frames into pixels.

        Raises:
            TaskError: No task is selected.
            BackendError: The session is closed.
        """
        return self._selected().preprocess

    def load(self, task: str) -> int:
        """Bring a task into memory without switching to it; return its bytes there.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: The task's file is damaged.
        """
        with self._lock:
            self._check_open()
            return self._residents.get(task).nbytes

    def switch(self, task: str) -> None:
        """Make `task` the current one, in place; does nothing when it already is.

        The first switch to a task reads its file. A switch that fails leaves the current task; if
        the device does not take that one back, the session is closed.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device took no new weights.
        """
        with self._lock:
            self._check_open()
            if self._current is not None and self._current.info.id == task:
                return
            new = self._residents.get(task)
            try:
                self._strategy.switch(new, self._current)
            except BaseException:
                if self._strategy.closed:
                    self.close()
                raise
            self._current = new

    def predict(self, frame: NDArray[np.uint8]) -> Prediction:
        """Judge one frame with the current task.

        Args:
            frame: (H, W, 3) uint8, RGB, any size.

        Raises:
            TaskError: No task is selected.
            DataError: The frame is no RGB image.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        return self.predict_batch([frame])[0]

    def predict_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        """Judge several frames with the current task, in one pass; the order is kept.

        Args:
            frames: Each (H, W, 3) uint8, RGB, any size.

        Raises:
            TaskError: No task is selected.
            DataError: A frame is no RGB image, or there is none.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        if not len(frames):
            raise DataError("predict needs at least one frame, found none")
        spec = self.preprocess
        pixels = preprocess_batch(frames, spec)
        with self._lock:
            current = self._selected()
            if current.preprocess != spec:  # another thread switched while this one resized
                pixels = preprocess_batch(frames, current.preprocess)
            logits = self._judge(current, pixels)
        info = current.info
        return [Prediction(info.id, info.classes, row) for row in logits]

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the current task's logits (N, K) for preprocessed pixels (N, S, S, 3) uint8.

        Raises:
            TaskError: No task is selected.
            DataError: The pixels do not fit the graph.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        with self._lock:
            current = self._selected()
            size = current.preprocess.size
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3) or not len(pixels):
                raise DataError(
                    f"pixels must be (N, {size}, {size}, 3) uint8, found "
                    f"{pixels.dtype}{pixels.shape}"
                )
            return self._judge(current, np.ascontiguousarray(pixels))

    def base_sha256(self) -> str:
        """Return the digest of the base as it is now in memory; a sound one equals the manifest's.

        Takes the current patch off for a moment: a health check for devices that run for months.
        It reads the host's memory; with `device="cuda"` the engines have a copy of their own.
        """
        with self._lock:
            self._check_open()
            return self._strategy.base_sha256()

    def close(self) -> None:
        """Release the engines. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            self._strategy.close()
            self._residents = Residents(self.bundle, self._strategy)
            self._current = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _judge(self, task: Resident, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._strategy.logits(task, self._strategy.features(task, pixels))

    def _selected(self) -> Resident:
        self._check_open()
        current = self._current  # read once: another thread may close the session
        if current is None:
            raise TaskError(
                f"no task is selected; choose one (--task, or switch): {', '.join(self.tasks)}"
            )
        return current

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the session is closed; open a new one")
