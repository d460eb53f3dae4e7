"""A session: an opened bundle that classifies frames by its current task.

Which task that is, and how it is switched, is in `runtime.sessions.switching`. Longer than most
files: it is the public class, and most of it says what each call takes and raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime import backends, strategies
from runtime.backends.base import FeaturesAndLogits
from runtime.bundles.bundle import Bundle
from runtime.errors import DataError
from runtime.frames.blank import blank
from runtime.frames.preprocess import Frame, as_frame, check_frames
from runtime.memory.base import Pixels
from runtime.models import REJECT, Preprocess
from runtime.prediction import Prediction
from runtime.sessions.cache import TaskCache
from runtime.sessions.grouping import checked, plan
from runtime.sessions.routing import RoutingSession, TaskChoice, routed
from runtime.sessions.settings import Verify, check_settings
from runtime.strategies.base import LoadedTask, Strategy

T = TypeVar("T")
Image = NDArray[np.uint8]


class Session(RoutingSession):
    """Runs the tasks of one bundle, one at a time. Safe to call from several threads.

    An exception from outside, such as Ctrl-C or what a signal handler raises, may interrupt any
    call: it reaches the caller as it is, and the session goes on.

    Example:
        with Session.open("office-home.bundle") as session:
            session.switch("a-c")
            print(session.predict(frame).label)
    """

    def __init__(
        self,
        bundle: Bundle,
        strategy: Strategy[Any],
        cache: TaskCache | None = None,
        reject: float = REJECT,
    ) -> None:
        """Take ownership of an open bundle; `open` opens one.

        Args:
            bundle: As for `SwitchingSession`.
            strategy: As for `SwitchingSession`.
            cache: As for `SwitchingSession`.
            reject: As for `open`.
        """
        super().__init__(bundle, strategy, cache)
        self._reject = reject

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        backend: str = backends.DEFAULT,
        device: str = "cpu",
        threads: int | None = None,
        blocked: bool = True,
        strategy: str = strategies.DEFAULT,
        max_task_bytes: int | None = None,
        engines: str | os.PathLike[str] | None = None,
        verify: Verify = "changed",
        reject: float = REJECT,
    ) -> Session:
        """Open a bundle: check it, read the base weights, start every engine it has.

        A bundle of one task starts with it; otherwise call `switch` before `predict`.

        Args:
            path: Folder of the bundle.
            backend: A key of `runtime.backends.BACKENDS`, which says what each is.
            device: `cpu`, `cuda`, or `cuda:1` for the second GPU and so on. A device that is not
                there is an error, never a fallback.
            threads: Threads on the CPU; None leaves it to the backend.
            blocked: Whether to use the encoder with blocked convolutions, where the bundle has one
                and this processor is fast with it.
            strategy: A key of `runtime.strategies.STRATEGIES`: `patch` changes the weights in
                place, `engines` holds one engine per task.
            max_task_bytes: Largest number of bytes of tasks in memory; the least recently used
                leave first, the current and pinned ones never. None for no bound.
            engines: Folder of engines that were built before; None for the bundle's own.
            verify: When to verify the base before it is used. `changed`: unless this user has
                verified it before and nothing has touched it since, nor the machine crashed; then
                it is verified in the background, and the next call fails if it is damaged. `full`:
                always.
            reject: Share of a task's own images that `Prediction.known` may take for unknown, from
                0, for blank frames alone, and below 1. Of a task with statistics of n images, about
                two in n at least are taken for unknown, if any.

        Raises:
            ConfigError: `threads`, `max_task_bytes` or `reject` is out of range.
            FormatError: The bundle is damaged.
            BackendError: The backend, the device or the strategy cannot be used here.
            TaskError: A bundle's only task takes more than `max_task_bytes`.
        """
        check_settings(threads, max_task_bytes, verify, reject)
        bundle = Bundle.open(path)
        if verify == "changed":
            bundle.trust_former_checks()
        precision = bundle.manifest.precision
        opened = backends.load(backend, device, threads, bundle.path, engines, precision)
        try:
            held = strategies.load(strategy, bundle, opened, blocked)
        except BaseException:
            bundle.end_check()
            raise
        session = cls(bundle, held, TaskCache(max_task_bytes), reject)
        try:
            if len(bundle.tasks) == 1:
                session.switch(bundle.tasks[0])
        except BaseException:
            session.close()
            raise
        return session

    @property
    def preprocess(self) -> Preprocess:
        """How the current task turns frames into pixels.

        Raises:
            TaskError: No task is selected.
            BackendError: The session is closed.
        """
        return self._spec(None)

    def predict(self, frame: Frame, task: TaskChoice | None = None) -> Prediction:
        """Classify one frame.

        Args:
            frame: (H, W, 3) uint8, RGB, any size; or an image file's path, or a PIL image, whose
                transparent pixels are laid on the task's background.
            task: Id of the task to switch to first; None keeps the current one; a `Router`, one for
                each camera, chooses it, and `auto` is the session's own router.

        Raises:
            TaskError: No task is selected, or the bundle has no such task, or no room for it.
            DataError: The frame is not an RGB image, or its file cannot be read.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        return self.predict_batch([frame], task)[0]

    def predict_batch(
        self, frames: Sequence[Frame], task: TaskChoice | None = None
    ) -> list[Prediction]:
        """Classify several frames by one task, in one pass; the order is kept.

        Args:
            frames: Frames, each as for `predict`.
            task: As for `predict`; a router may divide the frames among several tasks, and takes
                them for frames of one camera that follow each other.

        Raises:
            UdaError: As `predict`; also a DataError if there is no frame.
        """
        if routed(task):
            check_frames(frames)
            return self._with_routers([(frame, task) for frame in frames], self._by_task)
        named: Any = task
        loaded, seen, (features, logits) = self._see(frames, named, self._strategy.see)
        return self._predictions(loaded, logits, features, seen)

    def features(self, frames: Sequence[Frame], task: str | None = None) -> NDArray[np.float32]:
        """Return the features (N, D) of frames under one task's encoder, a fresh array.

        Args:
            frames: Frames, each as for `predict`.
            task: As for `predict`.

        Raises:
            UdaError: As `predict`; also a DataError if there is no frame.
        """

        def encode(loaded: LoadedTask, pixels: Pixels) -> NDArray[np.float32]:
            return self._strategy.features(loaded, pixels).copy()

        return self._see(frames, task, encode)[2]

    def predict_many(self, pairs: Sequence[tuple[Frame, TaskChoice]]) -> list[Prediction]:
        """Classify each frame by its own task; the order is kept.

        Frames are grouped so that the session switches least. The same array under several tasks
        whose encoders do the same (zero-shot, UniMoS) is encoded once. The last group's task is
        the current one afterwards.

        Args:
            pairs: Pairs of a frame, as for `predict`, and the id of a task or a router.

        Raises:
            UdaError: As `predict`.
        """
        pairs = checked(pairs)
        if any(routed(task) for _, task in pairs):
            return self._with_routers(pairs, self._many)
        return self._many(pairs)

    def _many(self, pairs: Sequence[tuple[Frame, str]]) -> list[Prediction]:
        tasks = [task for _, task in pairs]
        view = self._opened()
        shares = {task: view.share(task) for task in tasks}
        shown = [frame for frame, _ in pairs]
        backgrounds = {task: self._spec(task, shown).background for task in shares}
        decoded = {
            (id(frame), backgrounds[task]): as_frame(frame, backgrounds[task])
            for frame, task in pairs
        }
        frames = [decoded[id(frame), backgrounds[task]] for frame, task in pairs]
        found: dict[int, Prediction] = {}
        for batch in plan(frames, tasks, shares, self.task):
            spec = self._spec(next(iter(batch.heads)))
            wanted = [frames[position] for position in batch.frames]
            _, pixels = self._pixels(wanted, spec)

            def classify(*loaded: LoadedTask) -> bool:
                first = loaded[0]
                if first.preprocess != spec or any(each.share != first.share for each in loaded):  # noqa: B023
                    return False
                heads = batch.heads.values()  # noqa: B023
                rows = [[row for row, _ in positions] for positions in heads]
                seen = self._by_heads(loaded, pixels, rows)  # noqa: B023
                for each, positions, (features, logits) in zip(loaded, heads, seen, strict=True):
                    own = [wanted[row] for row, _ in positions]  # noqa: B023
                    made = self._predictions(each, logits, features, own)
                    for (_, position), prediction in zip(positions, made, strict=True):
                        found[position] = prediction
                return True

            if not self._run(classify, *batch.heads):  # a refresh came between
                return self._many(pairs)
        return [found[position] for position in range(len(pairs))]

    def _by_heads(
        self, loaded: Sequence[LoadedTask], pixels: Pixels, rows: Sequence[Sequence[int]]
    ) -> list[FeaturesAndLogits]:
        """Return features and logits for frames that are encoded once, of each task's own rows.

        Args:
            loaded: Tasks of one share; one alone takes the one pass of `predict_batch`.
            pixels: Frames.
            rows: Rows of the frames for each task.
        """
        if len(loaded) == 1:
            features, logits = self._strategy.see(loaded[0], pixels)
            return [(None if features is None else features[rows[0]], logits[rows[0]])]
        encoded = self._strategy.features(loaded[0], pixels)
        found: list[FeaturesAndLogits] = []
        for each, own in zip(loaded, rows, strict=True):
            some = np.ascontiguousarray(encoded[own])
            found.append((some, self._strategy.logits(each, some)))
        return found

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the current task's logits (N, K) for preprocessed pixels (N, S, S, 3) uint8.

        Raises:
            TaskError: No task is selected.
            DataError: The pixels do not fit the graph.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """

        def classify(loaded: LoadedTask) -> NDArray[np.float32]:
            size = loaded.preprocess.size
            if not hasattr(pixels, "dtype"):
                raise DataError(f"pixels must be an array, found {type(pixels).__name__}")
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3) or not len(pixels):
                raise DataError(
                    f"pixels must be (N, {size}, {size}, 3) uint8, found "
                    f"{pixels.dtype}{pixels.shape}"
                )
            return self._logits(loaded, np.ascontiguousarray(pixels))

        return self._run(classify)

    def _by_task(self, pairs: Sequence[tuple[Frame, str]]) -> list[Prediction]:
        """Classify frames task by task, each as `predict_batch` does for one task."""
        positions: dict[str, list[int]] = {}
        for position, (_, task) in enumerate(pairs):
            positions.setdefault(task, []).append(position)
        found: dict[int, Prediction] = {}
        for task, own in positions.items():
            made = self.predict_batch([pairs[position][0] for position in own], task)
            found.update(zip(own, made, strict=True))
        return [found[position] for position in range(len(pairs))]

    def _see(
        self,
        frames: Sequence[Frame],
        task: str | None,
        call: Callable[[LoadedTask, Pixels], T],
    ) -> tuple[LoadedTask, Sequence[Image], T]:
        """Call a function with a task and the pixels of frames.

        Returns:
            The task, the frames as it saw them, and the function's result.
        """
        check_frames(frames)
        spec = self._spec(task, frames)
        images, pixels = self._pixels(frames, spec)

        def see(loaded: LoadedTask) -> tuple[LoadedTask, Sequence[Image], T]:
            if loaded.preprocess == spec:
                return loaded, images, call(loaded, pixels)
            # Another thread switched while this one resized.
            own_images, own_pixels = self._pixels(frames, loaded.preprocess)
            return loaded, own_images, call(loaded, own_pixels)

        return self._run(see, *(() if task is None else (task,)))

    def _pixels(self, frames: Sequence[Frame], spec: Preprocess) -> tuple[list[Image], Pixels]:
        images = [as_frame(frame, spec.background) for frame in frames]
        return images, self._strategy.pixels(images, spec)

    def _logits(self, loaded: LoadedTask, pixels: Pixels) -> NDArray[np.float32]:
        return self._strategy.infer(loaded, pixels)

    def _predictions(
        self,
        loaded: LoadedTask,
        logits: NDArray[np.float32],
        features: NDArray[np.float32] | None,
        images: Sequence[Image],
    ) -> list[Prediction]:
        """Return a task's predictions for logits (N, K), features (N, D) and N frames.

        Raises:
            FormatError: The task's statistics are of other features.
        """
        info, statistics, calibration = loaded.info, loaded.statistics, loaded.calibration
        if statistics is None or features is None:
            return [
                Prediction(info.id, info.classes, row, calibrated=calibration) for row in logits
            ]
        statistics.check_size(features.shape[1])
        return [
            Prediction(
                *(info.id, info.classes, row, own, statistics, self._reject),
                blank=blank(image),
                calibrated=calibration,
            )
            for row, own, image in zip(logits, features, images, strict=True)
        ]
