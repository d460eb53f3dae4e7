"""A session: an opened bundle with one current task.

A switch is two-phase: the state is marked unknown, the strategy restores the base and writes the
task, the state is marked known. A call that finds it unknown, because a former one was interrupted
or failed, first does the same for the task that the session names. So an answer is always that of
the task whose name it bears.

Half of this file is what callers need to know. The rest stays together so that the way of a switch,
from a task's id through the cache and the strategy to the weights, can be read here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime import backends, strategies
from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.bundles.changes import changes
from runtime.errors import BackendError, DataError, UdaError
from runtime.frames.preprocess import Frame, as_frame
from runtime.memory.base import Pixels
from runtime.models import Preprocess, TensorSpec
from runtime.mutex import Mutex
from runtime.prediction import Prediction
from runtime.sessions.cache import Holder, Lease, TaskCache
from runtime.sessions.grouping import checked, plan
from runtime.sessions.settings import check_settings
from runtime.sessions.view import View
from runtime.strategies.base import LoadedTask, Strategy

T = TypeVar("T")


class Session:
    """Runs the tasks of one bundle, one at a time. Safe to call from several threads.

    An exception from outside, such as Ctrl-C or what a signal handler raises, may interrupt any
    call: it reaches the caller as it is, and the session goes on.

    Example:
        with Session.open("office-home.bundle") as session:
            session.switch("a-c")
            print(session.predict(frame).label)
    """

    def __init__(
        self, bundle: Bundle, strategy: Strategy[Any], cache: TaskCache | None = None
    ) -> None:
        """Take over opened parts; `Session.open` makes them.

        Args:
            bundle: Bundle to load tasks from.
            strategy: Open for it.
            cache: The tasks in memory, shared with sessions over the same base; None makes them
                this session's own, without a bound.
        """
        self._strategy = strategy
        self._cache = TaskCache() if cache is None else cache
        self._view = View(bundle, strategy, self._cache)
        self._held = Holder()
        self._known = True
        """Whether the strategy has the current task as a whole, and nothing else."""
        self._closed = self._deferred = False
        self._turn = Mutex()
        """Of the calls that use the strategy."""
        self._changing = Mutex()
        """Of those that change pins or the view; they may take the turn meanwhile."""
        self._cache.join(self._held, self._view.keys.values())

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
            backend: A key of `runtime.backends.BACKENDS`, which says what each is.
            device: `cpu`, `cuda`, or `cuda:1` for the second GPU and so on. A device that is not
                there is an error, never a fallback.
            threads: Threads on the CPU; None leaves it to the backend.
            blocked: Take the encoder for this processor's blocked convolutions if there is one;
                False takes the one that every engine can read.
            strategy: A key of `runtime.strategies.STRATEGIES`: `patch` changes the weights in
                place, `engines` holds one engine per task.
            max_task_bytes: Bytes that tasks in memory may take; the least recently used leave
                first, the current and pinned ones never. None for no bound.
            engines: Folder where a backend finds engines that were built before; None is the
                bundle's own.

        Raises:
            ConfigError: `threads` or `max_task_bytes` is out of range.
            FormatError: The bundle is damaged.
            BackendError: The backend, the device or the strategy cannot be used here.
            TaskError: A bundle's only task takes more than `max_task_bytes`.
        """
        check_settings(threads, max_task_bytes)
        bundle = Bundle.open(path)
        opened = backends.load(backend, device, threads, bundle.path, engines)
        session = cls(
            bundle, strategies.load(strategy, bundle, opened, blocked), TaskCache(max_task_bytes)
        )
        try:
            if len(bundle.tasks) == 1:
                session.switch(bundle.tasks[0])
        except BaseException:
            session.close()
            raise
        return session

    @property
    def bundle(self) -> Bundle:
        """The bundle as it was at the opening or the last `refresh`."""
        return self._view.bundle

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks that `switch` takes."""
        return self.bundle.tasks

    @property
    def closed(self) -> bool:
        """Whether it was closed, by `close` or because a device failed."""
        return self._closed

    @property
    def task(self) -> str | None:
        """The id of the current task, or None before the first switch."""
        current = self._held.task  # read once: another thread may close the session
        return None if current is None else current.info.id

    @property
    def resident(self) -> tuple[str, ...]:
        """The ids of the tasks in memory, least recently used first."""
        return tuple(loaded.info.id for loaded in self._cache.tasks)

    @property
    def task_bytes(self) -> int:
        """Bytes that the tasks in memory take."""
        return self._cache.nbytes

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
        return self._spec(None)

    def predict(self, frame: Frame, task: str | None = None) -> Prediction:
        """Classify one frame.

        Args:
            frame: (H, W, 3) uint8, RGB, any size; or an image file's path, or a PIL image, whose
                transparent pixels are laid on the task's background.
            task: By which task, which is then the current one; None takes the current one.

        Raises:
            TaskError: No task is selected, or the bundle has no such task, or no room for it.
            DataError: The frame is not an RGB image, or its file cannot be read.
            FormatError: The bundle's parts do not fit together, or give no finite values.
            BackendError: The session is closed, or the engine failed.
        """
        return self.predict_batch([frame], task)[0]

    def predict_batch(self, frames: Sequence[Frame], task: str | None = None) -> list[Prediction]:
        """Classify several frames by one task, in one pass; the order is kept.

        Args:
            frames: Each as for `predict`.
            task: As for `predict`.

        Raises:
            UdaError: As `predict`; also a DataError if there is no frame.
        """

        def classify(loaded: LoadedTask, pixels: Pixels) -> list[Prediction]:
            info = loaded.info
            return [Prediction(info.id, info.classes, row) for row in self._logits(loaded, pixels)]

        return self._see(frames, task, classify)

    def features(self, frames: Sequence[Frame], task: str | None = None) -> NDArray[np.float32]:
        """Return the features (N, D) of frames under one task's encoder, a fresh array.

        Args:
            frames: Each as for `predict`.
            task: As for `predict`.

        Raises:
            UdaError: As `predict`; also a DataError if there is no frame.
        """
        return self._see(
            frames, task, lambda loaded, pixels: self._strategy.features(loaded, pixels).copy()
        )

    def predict_many(self, pairs: Sequence[tuple[Frame, str]]) -> list[Prediction]:
        """Classify each frame by its own task; the order is kept.

        Frames are grouped so that the session switches least. The same array under several tasks
        whose encoders do the same (zero-shot, UniMoS) is encoded once. The last group's task is
        the current one afterwards.

        Args:
            pairs: A frame as for `predict`, and the id of a task.

        Raises:
            UdaError: As `predict`.
        """
        pairs = checked(pairs)
        tasks = [task for _, task in pairs]
        view = self._opened()
        shares = {task: view.share(task) for task in tasks}
        backgrounds = {task: self._spec(task).background for task in shares}
        decoded = {
            (id(frame), backgrounds[task]): as_frame(frame, backgrounds[task])
            for frame, task in pairs
        }
        frames = [decoded[id(frame), backgrounds[task]] for frame, task in pairs]
        found: dict[int, Prediction] = {}
        for batch in plan(frames, tasks, shares, self.task):
            spec = self._spec(next(iter(batch.heads)))
            wanted = [frames[position] for position in batch.frames]
            pixels = self._pixels(wanted, spec)

            def classify(*loaded: LoadedTask) -> bool:
                first = loaded[0]
                if first.preprocess != spec or any(each.share != first.share for each in loaded):  # noqa: B023
                    return False
                features = self._strategy.features(first, pixels)  # noqa: B023
                for each, positions in zip(loaded, batch.heads.values(), strict=True):  # noqa: B023
                    rows = np.ascontiguousarray(features[[row for row, _ in positions]])
                    logits = self._strategy.logits(each, rows)
                    info = each.info
                    for (_, position), row in zip(positions, logits, strict=True):
                        found[position] = Prediction(info.id, info.classes, row)
                return True

            if not self._run(classify, *batch.heads):  # a refresh came between
                return self.predict_many(pairs)
        return [found[position] for position in range(len(pairs))]

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
            if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3) or not len(pixels):
                raise DataError(
                    f"pixels must be (N, {size}, {size}, 3) uint8, found "
                    f"{pixels.dtype}{pixels.shape}"
                )
            return self._logits(loaded, np.ascontiguousarray(pixels))

        return self._run(classify)

    def load(self, task: str) -> int:
        """Bring a task into memory without switching to it; return its bytes there.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        return self._load(task).nbytes

    def prefetch(self, *tasks: str) -> None:
        """Have tasks brought into memory in the background, and return at once.

        What is wrong with a task's file shows when it is loaded or switched to.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        view = self._opened()
        for key, read in [(view.key(task), view.reader(task)) for task in tasks]:
            self._cache.prefetch(key, read)

    def pin(self, task: str) -> None:
        """Bring a task into memory and keep it there; again changes nothing.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device has no room for the task.
        """
        lease = Lease()
        with self._changing:
            view = self._opened()
            key = view.key(task)
            if task in self._held.pins:
                return
            self._cache.lease(lease)
            try:
                view.load(task, lease, pin=True)
                self._held.pins[task] = key
            finally:
                self._cache.end(lease)

    def unpin(self, task: str) -> None:
        """Let a task leave memory again; one that is not pinned may be given.

        Raises:
            TaskError: The bundle has no such task.
            BackendError: The session is closed.
        """
        with self._changing:
            self._opened().key(task)
            self._held.pins.pop(task, None)
        self._cache.trim()

    def switch(self, task: str) -> None:
        """Make `task` the current one, in place; does nothing when it already is.

        The first switch to a task reads its file. A switch that fails leaves the current task; if
        the device does not take that one back, the session is closed.

        Raises:
            TaskError: The bundle has no such task, or there is no room for it.
            FormatError: The task's file is damaged.
            BackendError: The session is closed, or the device took no new weights.
        """
        self._run(_nothing, task)

    def refresh(self, new: Bundle | None = None) -> tuple[str, ...]:
        """Take over what was installed, replaced or removed on disk; return the ids that changed.

        If the current task was replaced, the new version is current; if it was removed, none is.
        After an error the session goes on with the bundle as it knew it.

        Args:
            new: The bundle as it is on disk; None reads its manifest.

        Raises:
            FormatError: The bundle is damaged, has another base or other graphs now (open a new
                session), or the new version of the current or a pinned task is damaged.
            TaskError: There is no room for such a version.
            BackendError: The session is closed, or the device took no new weights.
        """
        lease, held = Lease(), self._held
        with self._changing:
            old = self._opened()
            bundle = Bundle.open(old.bundle.path) if new is None else new
            changed = changes(old.bundle, bundle)
            view = View(bundle, self._strategy, self._cache)
            gone = {old.keys[task] for task in changed if task in old.keys}
            self._cache.lease(lease)
            try:
                # Read before any frame has to wait; errors show before anything changes.
                pins = {task: view.keys[task] for task in held.pins if task in view.keys}
                for task in [task for task in pins if task in changed]:
                    view.load(task, lease, pin=True, instead=gone)
                if self.task in changed and self.task in view.keys:
                    view.load(self.task, lease, beside=False, instead=gone)
                with self._turn:
                    self._opened()
                    current = self.task  # maybe another one than above
                    if current is None or (current in view.keys and current not in changed):
                        self._view, held.pins = view, pins
                    else:
                        loaded = None
                        if current in view.keys:
                            loaded = view.load(current, lease, beside=False, instead=gone)
                        self._commit(view, pins, loaded)
                self._cache.join(held, view.keys.values())
            finally:
                self._cache.end(lease)
                self._close_if_asked()
        return changed

    def base_sha256(self) -> str:
        """Return the digest of the base as it is now in memory; a sound one equals the manifest's.

        Takes the current patch off for a moment: a health check for devices that run for months.
        On a GPU it is the GPU's memory that is read. With `strategy="engines"`, which keeps no base
        in memory, it is the bundle's file.

        Raises:
            FormatError: The bundle's file is damaged.
            BackendError: The session is closed, or the device failed.
        """
        try:
            with self._turn:
                self._opened()
                known, self._known = self._known, False
                digest = self._strategy.base_sha256()
                if known:  # else the next call does it
                    self._change(self._held.task)
                return digest
        finally:
            self._close_if_asked()

    def close(self) -> None:
        """Release the engines and the tasks. Safe to call more than once.

        A call that is running ends before that. From a signal handler that interrupts a call of the
        same thread, this returns at once, and that call releases them when it ends.
        """
        self._closed = True
        if self._turn.mine:
            self._deferred = True
            return
        with self._turn:
            self._release()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, work: Callable[..., T], *tasks: str) -> T:
        """Call `work` with tasks in memory, the first of them current, while no other call runs.

        Args:
            work: Function that is given the loaded tasks.
            tasks: Ids of the tasks; none takes the current one.
        """
        held, cache = self._held, self._cache
        lease: Lease | None = None
        try:
            while True:
                with self._turn:
                    view = self._opened()
                    current = held.task
                    if not tasks and current is not None and self._known:
                        return work(current)
                    try:
                        keys = [view.keys[task] for task in tasks or (view.current(current),)]
                    except (KeyError, TypeError):
                        keys = [view.key(task) for task in tasks]  # says what is wrong
                    try:
                        found = cache.claim(held, keys)
                        if found is not None:
                            if found[0] is not current or not self._known:
                                self._change(found[0])
                            return work(*found)
                    finally:
                        held.coming = ()
                # Files are read while others have the turn, and what was read stays until then.
                if lease is None:
                    lease = Lease()
                    cache.lease(lease)
                for task in tasks or (view.current(held.task),):
                    view.load(task, lease, beside=False)
        finally:
            if lease is not None:
                cache.end(lease)
            if cache.excess:
                cache.trim()
            self._close_if_asked()

    def _load(self, task: str) -> LoadedTask:
        view, lease = self._opened(), Lease()
        self._cache.lease(lease)
        try:
            return view.load(task, lease)
        finally:
            self._cache.end(lease)

    def _change(self, new: LoadedTask | None) -> None:
        """Make a task the current one, which has the session's turn and stays in memory."""
        old, self._known = self._held.task, False
        try:
            self._strategy.switch(new)
        except UdaError as error:
            self._go_back(old, error)
            raise
        self._held.task = new
        self._known = True

    def _go_back(self, old: LoadedTask | None, first: UdaError) -> None:
        """Return to the former task after a switch that failed, or close."""
        if self._strategy.closed:
            self._closed = True
            self._release()
            return
        try:
            self._strategy.switch(old)
            self._known = True
        except UdaError as second:
            self._closed = True
            self._release()
            raise BackendError(
                f"the device took no new weights ({first}) and not the former ones either "
                f"({second}); the session is closed, open a new one"
            ) from second

    def _commit(self, view: View, pins: dict[str, str], current: LoadedTask | None) -> None:
        """Take over another view, whose version of the current task is another one or none."""
        before = self._view, self._held.pins
        self._known = False  # from here on the next call would take the new version
        self._view, self._held.pins = view, pins
        try:
            self._change(current)
        except UdaError:
            self._view, self._held.pins = before
            raise

    def _release(self) -> None:
        self._held.task = None
        self._held.coming = ()
        self._cache.leave(self._held)
        self._strategy.close()

    def _close_if_asked(self) -> None:
        if self._deferred:
            self._deferred = False
            self.close()

    def _opened(self) -> View:
        if self._closed:
            raise BackendError("the session is closed; open a new one")
        return self._view

    def _spec(self, task: str | None) -> Preprocess:
        view, current = self._opened(), self._held.task
        if task is None and current is not None and current.info.id in view.keys:
            return current.preprocess
        return view.preprocess(view.current(current) if task is None else task)

    def _see(
        self,
        frames: Sequence[Frame],
        task: str | None,
        call: Callable[[LoadedTask, Pixels], T],
    ) -> T:
        """Return what `call` makes of a task and the pixels of frames."""
        if not len(frames):
            raise DataError("predict needs at least one frame, found none")
        spec = self._spec(task)
        pixels = self._pixels(frames, spec)

        def see(loaded: LoadedTask) -> T:
            ready = pixels
            if loaded.preprocess != spec:  # another thread switched while this one resized
                ready = self._pixels(frames, loaded.preprocess)
            return call(loaded, ready)

        return self._run(see, *(() if task is None else (task,)))

    def _pixels(self, frames: Sequence[Frame], spec: Preprocess) -> Pixels:
        ready = [as_frame(frame, spec.background) for frame in frames]
        return self._strategy.pixels(ready, spec)

    def _logits(self, loaded: LoadedTask, pixels: Pixels) -> NDArray[np.float32]:
        strategy = self._strategy
        return strategy.logits(loaded, strategy.features(loaded, pixels))


def _nothing(_: LoadedTask) -> None:
    """Do nothing with a task but switch to it."""
