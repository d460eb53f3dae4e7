"""Collect frames of a scene that a task should be adapted to, within bounds of space and age.

On the demo world (`benchmarks.monitoring --harvest`), a task learns about as much from spread-out
images of the half that the old task is surer of as from random ones. The surest ones alone can be
much worse, and so can the least sure ones, which are kept apart for a person.

Longer than most files: it is a public class, and a third of it says what its calls take and raise.
Files are kept by `runtime.monitoring.store`.
"""

from __future__ import annotations

import hashlib
import io
import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import ConfigError, DataError, TaskError
from runtime.frames.preprocess import Frame, as_frame
from runtime.monitoring.gaussian import unit
from runtime.monitoring.harvested import (
    HELD_OUT,
    LOCK,
    MAX_IMAGES,
    TRUSTED,
    UNSURE,
    Entry,
    Part,
    encoded,
)
from runtime.monitoring.manifest_file import fits
from runtime.monitoring.store import Store
from runtime.monitoring.watched import Watched
from runtime.storage.locks import exclusive

BUDGET = 500 << 20
"""Bytes of a harvest."""
SIDE = 512
"""Pixels of the shorter side of an image, at most."""
EVERY = 10
"""One offered frame in so many is looked at: those of a video are nearly alike."""
BLOCK, HELD_OUT_EACH = 25, 5
"""Frames of a block, and blocks of which one is held out. Single held-out frames would be nearly
equal to their neighbours that are trained on."""
RECENT, FEWEST = 512, 20
"""Most and fewest recent frames whose median score separates sure frames from unsure ones."""
_WAITING = 4
"""Most frames that wait to be written."""
_PATIENCE = 0.1
"""Seconds after which a call looks whether another thread has closed the harvest."""


class Harvester:
    """Collects a camera's frames in a folder of this user alone. Safe to use from threads.

    Nothing is collected unless a program makes one. A thread of its own writes the frames, and some
    are skipped while it is busy, so that a camera does not wait for a disk. A killed process leaves
    whole files, and the next one continues with them.

    Example:
        with Harvester("harvest") as harvester:
            for frame in camera:
                prediction = session.predict(frame)
                if monitor.see(prediction).state == "drifting":
                    harvester.offer(frame, prediction)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        budget: int = BUDGET,
        *,
        images: int = 800,
        days: float = 30.0,
        every: int = EVERY,
        side: int = SIDE,
        seed: int = 0,
    ) -> None:
        """Open a harvest, or make its folder with mode 0700.

        Args:
            folder: Folder of the harvest; a new or empty one, or an earlier harvest.
            budget: Bytes of all images and their lines in the manifest, and for a moment one image
                more. Half are for trusted images, a quarter each for unsure and held-out ones.
            images: Number of images, divided likewise.
            days: Age at which an image is removed.
            every: Looks at one offered frame in so many.
            side: Most pixels of an image's shorter side; larger frames are reduced.
            seed: Seed of the draws of unsure and held-out images.

        Raises:
            ConfigError: A number is out of range, another process harvests there, the folder holds
                something else, or other users have access to it.
            FormatError: The manifest is damaged.
            StorageError: The folder cannot be written.
        """
        _check_bounds(budget, images, days, every, side)
        self.skipped = 0
        """Number of frames that were skipped because the thread was busy."""
        self._every, self._side, self._offered = every, side, 0
        self._random, self._process = random.Random(seed), os.getpid()
        self._queue: queue.Queue[tuple[NDArray[np.uint8], Watched] | None]
        self._queue = queue.Queue(_WAITING)
        self._error: Exception | None = None
        self._stack = ExitStack()
        path = Path(folder)
        try:
            Store.prepare(path)
            self._stack.enter_context(
                exclusive(path / LOCK, required=False, keep=False, busy=_busy(path))
            )
            self._store = Store(path, budget, images, days * 86400)
            self._stack.callback(self._store.close)
        except BaseException:
            self._stack.close()
            raise
        # Held-out images are drawn from all; the other parts are chosen by the score.
        held_out = (entry.score for entry in self._store.entries if entry.part == HELD_OUT)
        self._scores = deque(held_out, RECENT)
        self._looked = 0
        self._thread: threading.Thread | None
        self._thread = threading.Thread(target=self._work, name="harvest", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame, prediction: Watched, *, wait: bool = False) -> None:
        """Offer the next frame; whether it is kept is decided in another thread.

        Args:
            frame: Frame as for `Session.predict`.
            prediction: Prediction of a session for it.
            wait: Whether to wait while the thread is busy, instead of skipping the frame: for
                images that are not live.

        Raises:
            TaskError: The task carries no statistics.
            DataError: The frame is not an RGB image.
            ConfigError: The harvest is closed, or the process was forked since it was opened.
            StorageError: An earlier frame could not be written, as on a full disk; this one is not
                taken, later ones are. Likewise a ConfigError if an earlier frame exceeds the
                budget, and a DataError if its prediction has no finite score.
        """
        self._check()
        if prediction.statistics is None or prediction.features is None:
            raise TaskError(
                f"task '{prediction.task}' has no statistics to harvest by; train it with at least "
                "20 target images and this version, and export it again"
            )
        self._offered += 1
        if (self._offered - 1) % self._every or prediction.blank:
            return
        if not wait and self._queue.full():
            self.skipped += 1
            return
        pixels = as_frame(frame, "white")
        item = pixels.copy() if pixels is frame else pixels, prediction
        while not self._put(item, wait):
            if not wait:
                self.skipped += 1
                return
            self._check()  # another thread may have closed it

    def flush(self) -> None:
        """Wait until all frames that were taken are on the disk.

        Raises:
            UdaError: As `offer`.
        """
        self._check()
        while self._queue.unfinished_tasks and self._thread is not None:
            time.sleep(_PATIENCE / 50)
        self._raise()

    def counts(self) -> dict[Part, int]:
        """Return the number of images of each part."""
        return self._store.counts()

    def close(self) -> None:
        """Write the frames that were taken, and end. Safe to call more than once.

        Raises:
            StorageError: A frame could not be written.
        """
        thread = self._thread
        if thread is None or os.getpid() != self._process:
            return
        # Repeated, as an earlier call may have been interrupted, and others may run at once.
        while thread.is_alive():
            self._put(None, wait=True)
            thread.join(_PATIENCE)
        self._stack.close()
        self._thread = None
        self._raise()

    def __enter__(self) -> Harvester:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _put(self, item: tuple[NDArray[np.uint8], Watched] | None, wait: bool) -> bool:
        """Hand something to the thread; return whether its queue had room."""
        try:
            self._queue.put(item, wait, _PATIENCE)
        except queue.Full:
            return False
        return True

    def _check(self) -> None:
        if os.getpid() != self._process:
            raise ConfigError("the harvest was opened before this process was forked; open another")
        if self._thread is None:
            raise ConfigError("the harvest is closed; open another")
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._take(*item)
            except Exception as error:  # raised where the next frame is offered
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _take(self, frame: NDArray[np.uint8], prediction: Watched) -> None:
        """Keep a frame, or not."""
        score = min(float(prediction.score), 1.0)
        if not score >= 0:
            raise DataError(f"a prediction of task '{prediction.task}' has a score of {score:g}")
        recent = list(self._scores)
        self._scores.append(score)
        held_out = self._looked // BLOCK % HELD_OUT_EACH == HELD_OUT_EACH - 1
        self._looked += 1
        if len(recent) < FEWEST:  # too few to tell sure frames from unsure ones
            return
        sure = score >= median(recent)
        part = HELD_OUT if held_out else TRUSTED if sure else UNSURE
        basis, point = _whitened(prediction) if part == TRUSTED else ("", None)
        if not self._store.wants(part, basis, point, self._random):
            return
        content = _png(frame, self._side)
        digest = hashlib.sha256(content).hexdigest()
        entry = Entry(
            file=f"{digest[:16]}.png",
            sha256=digest,
            part=part,
            sure=sure,
            task=prediction.task,
            label=prediction.label,
            score=score,
            seen=self._store.seen[part],
            time=self._store.now(),
            basis=basis,
            whitened="" if point is None else encoded(point),
        )
        if fits(entry):
            self._store.keep(entry, content, self._random)


def _check_bounds(budget: int, images: int, days: float, every: int, side: int) -> None:
    whole = (("every", every, 1), ("side", side, 32), ("budget", budget, 1 << 20))
    for name, value, least in whole:
        if type(value) is not int or value < least:
            wanted = f"must be a whole number of at least {least}"
            raise ConfigError(f"{name} {wanted}, found {value!r:.40}")
    if type(images) is not int or not 4 <= images <= MAX_IMAGES:
        wanted = f"must be a whole number from 4 to {MAX_IMAGES}"
        raise ConfigError(f"images {wanted}, found {images!r:.40}")
    if type(days) not in (int, float) or not 0 < days < 1e6:
        raise ConfigError(f"days must be above 0 and below 1,000,000, found {days!r:.40}")


def _busy(folder: Path) -> Callable[[str], ConfigError]:
    return lambda holder: ConfigError(
        f"{holder} is harvesting into '{folder}'; choose another folder for each camera"
    )


def _whitened(prediction: Watched) -> tuple[str, NDArray[np.float32]]:
    statistics, features = prediction.statistics, prediction.features
    if statistics is None or features is None:
        raise TaskError(f"task '{prediction.task}' has no statistics to harvest by")
    gaussian = statistics.gaussian
    basis = hashlib.sha256(gaussian.axes.tobytes() + gaussian.mean.tobytes()).hexdigest()[:16]
    return basis, gaussian.whitened(unit(features)[None])[0]


def _png(frame: NDArray[np.uint8], side: int) -> bytes:
    image = Image.fromarray(frame)
    shorter = min(image.size)
    if shorter > side:
        width, height = (max(round(n * side / shorter), 1) for n in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
