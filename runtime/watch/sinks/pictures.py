"""Save annotated pictures of every source within a budget of bytes; the oldest are removed.

They lie at `DIR/SOURCE/20261201-1410/20261201-141203.512-7.jpg`: a folder per ten minutes, in UTC,
and at the end the number of the frame.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from runtime.errors import ConfigError, StorageError
from runtime.outputs.drawing import annotate, captions, check_text
from runtime.storage import disk
from runtime.storage.files import make_folder, no_empty_folder, storage_errors
from runtime.storage.locks import exclusive
from runtime.storage.mounts import Mount
from runtime.storage.writing import remove_leftovers, write_bytes
from runtime.watch.observation import Observation
from runtime.watch.sinks.backlog import Backlog
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.sinks.trouble import Trouble

BUDGET = 1000
"""Megabytes of all pictures."""
MOST = 100_000
"""Pictures, however small."""
EVERY = 1.0
"""Seconds between two pictures of a source."""
_WAITING = 4
"""Frames that wait to be written: each may have 25 MB."""
_QUALITY = 85
_FOLDER = re.compile(r"\d{8}-\d{3}0")
_PICTURE = re.compile(r"\d{8}-\d{6}\.\d{3}-\d+\.jpg")
_LOCK = ".save.lock"


class _Saved(NamedTuple):
    """A picture that lies in the folder. They sort by time."""

    name: str
    folder: Path
    size: int


class Pictures(Sink):
    """A folder of annotated pictures; what an earlier run left in it counts for the budget."""

    def __init__(
        self, folder: Path, budget: float = BUDGET, every: float = EVERY, top: int = 1
    ) -> None:
        """Choose the folder; `start` opens it.

        Args:
            folder: Folder to write to. Of what it holds, only pictures of this kind are removed.
            budget: Megabytes of all pictures.
            every: Seconds between two pictures of a source whose label and task stay the same;
                0 for every frame.
            top: Number of most likely classes to draw.

        Raises:
            ConfigError: A number is out of range, or this Pillow cannot draw text.
        """
        if not 1 <= budget < 1e9:
            raise ConfigError(f"--save-budget must be at least 1 MB, found {budget:g}")
        if not 0 <= every < 1e9:
            raise ConfigError(f"--save-every must be at least 0 seconds, found {every:g}")
        check_text()
        self._folder, self._budget, self._every, self._top = folder, budget * 1e6, every, top
        self._mount = Mount(folder)
        self._stack = ExitStack()
        self._saved: deque[_Saved] = deque()
        self._bytes = 0
        self._last: dict[str, tuple[object, float]] = {}
        """What was last saved of each source, and when."""
        self._trouble = Trouble("--save", "picture")
        self._backlog: Backlog[Observation] = Backlog(
            self._save, self._trouble, _WAITING, retry=False, finish=self._stack.close
        )

    @property
    def lost(self) -> int:
        """Number of pictures that were not saved."""
        return self._trouble.lost

    def start(self, watched: Watched) -> None:
        """Open the folder, and look for the pictures of an earlier run.

        Raises:
            StorageError: It cannot be written.
            ConfigError: Another process saves there.
        """
        with storage_errors(self._folder):
            make_folder(self._folder)
        lock = self._folder / _LOCK
        self._stack.enter_context(exclusive(lock, required=False, keep=False, busy=self._busy))
        try:
            self._find()
        except BaseException:
            self._stack.close()
            raise
        self._backlog.start()

    def take(self, observation: Observation) -> None:
        """Save a picture soon, if it is time for one of its source."""
        prediction, now = observation.prediction, time.monotonic()
        if prediction is None:
            return
        what = prediction.task, prediction.label
        before = self._last.get(observation.source)
        if before is not None and before[0] == what and now - before[1] < self._every:
            return
        self._last[observation.source] = what, now
        self._backlog.put(observation)

    def close(self) -> None:
        """Save what waits, and end. Safe to call more than once."""
        self._backlog.close()

    def _find(self) -> None:
        """Find earlier pictures, oldest first, and remove what a killed process left."""
        found = []
        for source in disk.matching(self._folder, "*"):
            for folder in disk.matching(source, "*"):
                if not _FOLDER.fullmatch(folder.name):
                    continue
                remove_leftovers(folder)
                for path in disk.matching(folder, "*.jpg"):
                    status = disk.status(path, follow=False)
                    if status is not None and _PICTURE.fullmatch(path.name):
                        found.append(_Saved(path.name, folder, status.st_size))
        self._saved.extend(sorted(found))
        self._bytes = sum(each.size for each in found)

    def _save(self, observation: Observation) -> None:
        """Save a picture, and remove the oldest ones for it.

        Raises:
            StorageError: It cannot be written.
        """
        assert observation.prediction is not None
        image = annotate(observation.frame.image, captions(observation.prediction, self._top))
        content = io.BytesIO()
        image.save(content, "JPEG", quality=_QUALITY)
        size, when = content.tell(), time.gmtime(max(observation.frame.time, 0))
        self._mount.check()
        self._make_room(size)
        folder = self._folder / observation.source / f"{time.strftime('%Y%m%d-%H%M', when)[:-1]}0"
        thousandths = int(observation.frame.time % 1 * 1000)
        stamp = time.strftime("%Y%m%d-%H%M%S", when)
        name = f"{stamp}.{thousandths:03}-{observation.frame.number}.jpg"
        with no_empty_folder(folder):
            write_bytes(folder / name, content.getvalue())
        self._saved.append(_Saved(name, folder, size))
        self._bytes += size

    def _make_room(self, size: int) -> None:
        """Remove the oldest pictures until another one fits.

        Raises:
            StorageError: One cannot be removed.
        """
        while self._saved and (self._bytes + size > self._budget or len(self._saved) >= MOST):
            oldest = self._saved[0]
            path = oldest.folder / oldest.name
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(
                    f"cannot remove '{path}': {error.strerror or error}; make its folder writable"
                ) from error
            self._saved.popleft()
            self._bytes -= oldest.size
            with contextlib.suppress(OSError):  # not empty
                oldest.folder.rmdir()

    def _busy(self, holder: str) -> ConfigError:
        return ConfigError(f"{holder} saves to '{self._folder}'; choose another folder for --save")
