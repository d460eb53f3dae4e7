"""The live object in a camera app: a bundle, opened, with one current task."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from runtime import backends, strategies
from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.engines.store import store_of
from runtime.errors import DataError
from runtime.frames.preprocess import check_frame
from runtime.prediction import Prediction
from runtime.sessions.grouping import checked, plan
from runtime.sessions.residents import Residents
from runtime.sessions.settings import check_settings
from runtime.sessions.switcher import Switcher
from runtime.spec import Preprocess, TensorSpec
from runtime.strategies.base import Resident
from runtime.strategies.pixels import Pixels


class Session(Switcher):
    """Runs the tasks of one bundle, one at a time. Safe to call from several threads.

    Example:
        with Session.open("office-home.bundle") as session:
            session.switch("a-c")
            print(session.predict(frame).label)
    """

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
        max_task_bytes: int | None = None,
        engines: str | os.PathLike[str] | None = None,
    ) -> Session:
        """Open a bundle: check it, read the base weights, start every engine it has.

        A bundle of one task starts with it; otherwise call `switch` before `predict`.

        Args:
            path: Folder of the bundle.
            backend: `ort`, or `trt` over engines that `uda-runtime build` made.
            device: `cpu`, `cuda`, or `cuda:1` for the second GPU and so on. A device that is not
                there is an error, never a fallback.
            threads: Threads on the CPU; None leaves it to the backend.
            blocked: Take the encoder for this processor's blocked convolutions if there is one;
                False takes the one that every engine can read.
            strategy: `patch` changes the weights in place, `engines` holds one engine per task.
            max_task_bytes: Bytes that tasks in memory may take; the least recently used leave
                first, the current and pinned ones never. None is no bound.
            engines: Folder where `trt` finds its engines; None is the bundle's own.

        Raises:
            ConfigError: `threads` or `max_task_bytes` is no number that can be meant.
            FormatError: The bundle is damaged.
            BackendError: The backend, the device or the strategy cannot be used here.
            TaskError: A bundle's only task takes more than `max_task_bytes`.
        """
        check_settings(threads, max_task_bytes)
        bundle = Bundle.open(path)
        store = store_of(bundle.path, engines)
        opened = backends.load(backend, device, threads, store)
        session = cls(
            bundle, strategies.load(strategy, bundle, opened, blocked), Residents(max_task_bytes)
        )
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
    def preprocess(self) -> Preprocess:
        """How the current task turns frames into pixels.

        Raises:
            TaskError: No task is selected.
            BackendError: The session is closed.
        """
        return self._selected().preprocess

    def predict(self, frame: NDArray[np.uint8], task: str | None = None) -> Prediction:
        """Judge one frame.

        Args:
            frame: (H, W, 3) uint8, RGB, any size.
            task: By which task, which is then the current one; None takes the current one.

        Raises:
            TaskError: No task is selected, or the bundle has no such task, or no room for it.
            DataError: The frame is no RGB image.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        return self.predict_batch([frame], task)[0]

    def predict_batch(
        self, frames: Sequence[NDArray[np.uint8]], task: str | None = None
    ) -> list[Prediction]:
        """Judge several frames by one task, in one pass; the order is kept.

        Args:
            frames: Each (H, W, 3) uint8, RGB, any size.
            task: As for `predict`.

        Raises:
            UdaError: As `predict`; also a DataError if there is no frame.
        """
        if not len(frames):
            raise DataError("predict needs at least one frame, found none")
        spec = self._spec(task)
        pixels = self._strategy.pixels(frames, spec)
        with self._on(*([] if task is None else [task])) as (resident,):
            if resident.preprocess != spec:  # another thread switched while this one resized
                pixels = self._strategy.pixels(frames, resident.preprocess)
            logits = self._judge(resident, pixels)
        info = resident.info
        return [Prediction(info.id, info.classes, row) for row in logits]

    def predict_many(self, pairs: Sequence[tuple[NDArray[np.uint8], str]]) -> list[Prediction]:
        """Judge each frame by its own task; the order is kept.

        Frames are grouped so that the session switches least. The same array under several tasks
        whose encoders do the same (zero-shot, UniMoS) is encoded once. The last group's task is
        the current one afterwards.

        Args:
            pairs: A frame as for `predict`, and the id of a task.

        Raises:
            UdaError: As `predict`.
        """
        pairs = checked(pairs)
        frames, tasks = [check_frame(frame) for frame, _ in pairs], [task for _, task in pairs]
        bundle = self._opened()
        files = {task: self._file(task, bundle) for task in tasks}
        shares = {task: self._residents.share(*files[task]) for task in files}
        found: dict[int, Prediction] = {}
        for batch in plan(frames, tasks, shares, self.task):
            spec = self._spec(next(iter(batch.heads)))
            wanted = [frames[position] for position in batch.frames]
            pixels = self._strategy.pixels(wanted, spec)
            with self._on(*batch.heads) as residents:
                first = residents[0]
                if first.preprocess != spec or any(r.share != first.share for r in residents):
                    return self.predict_many(pairs)  # a refresh came between
                features = self._strategy.features(first, pixels)
                for resident, judged in zip(residents, batch.heads.values(), strict=True):
                    rows = np.ascontiguousarray(features[[row for row, _ in judged]])
                    logits = self._strategy.logits(resident, rows)
                    for (_, position), row in zip(judged, logits, strict=True):
                        info = resident.info
                        found[position] = Prediction(info.id, info.classes, row)
        return [found[position] for position in range(len(pairs))]

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the current task's logits (N, K) for preprocessed pixels (N, S, S, 3) uint8.

        Raises:
            TaskError: No task is selected.
            DataError: The pixels do not fit the graph.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        with self._on() as (resident,):
            size = resident.preprocess.size
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3) or not len(pixels):
                raise DataError(
                    f"pixels must be (N, {size}, {size}, 3) uint8, found "
                    f"{pixels.dtype}{pixels.shape}"
                )
            return self._judge(resident, np.ascontiguousarray(pixels))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spec(self, task: str | None) -> Preprocess:
        return self.preprocess if task is None else self._opened().preprocess(task)

    def _judge(self, task: Resident, pixels: Pixels) -> NDArray[np.float32]:
        strategy = self._strategy
        return strategy.logits(task, strategy.features(task, pixels))
