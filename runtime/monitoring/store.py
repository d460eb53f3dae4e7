"""The images of a harvest on the disk, within a budget of bytes, files and age."""

from __future__ import annotations

import os
import random
import stat
import time
from dataclasses import replace
from pathlib import Path

from runtime.errors import ConfigError
from runtime.monitoring.coverage import Coverage
from runtime.monitoring.gaussian import Features
from runtime.monitoring.harvested import (
    LOCK,
    MANIFEST,
    PARTS,
    TRUSTED,
    Entry,
    Part,
    find,
    is_harvest,
    read,
    sorted_classes,
)
from runtime.monitoring.manifest_file import ManifestFile
from runtime.mutex import Mutex
from runtime.storage import disk
from runtime.storage.files import make_folder, storage_errors
from runtime.storage.writing import remove_leftovers, write_bytes

_SHARES: dict[Part, int] = {"trusted": 2, "unsure": 4, "held-out": 4}
"""Divisors of the bounds: half for trusted images, a quarter for each other part."""
_MODE = 0o700
_OTHERS = 0o077
"""Permissions of other users."""
_SET = 1704067200
"""Start of 2024: a clock that shows an earlier time has not been set."""
_LINE = 1024
"""Bytes that an image's two lines in the manifest are taken to need: it is added, then removed."""
_SLACK = 256
"""Lines about removed images that the manifest may have."""


class Store:
    """The images of a harvest; one thread changes them."""

    @staticmethod
    def prepare(folder: Path) -> None:
        """Make the folder of a harvest, or check that it may be one.

        Raises:
            ConfigError: It holds something else, or other users have access to it.
            StorageError: It cannot be made.
        """
        with storage_errors(folder):
            make_folder(folder, _MODE)
            if not disk.is_folder(folder):
                raise ConfigError(f"'{folder}' is not a folder; choose another")
            found = folder.stat()
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & _OTHERS:
                raise ConfigError(
                    f"'{folder}' is to hold frames of a camera, but other users have access to it; "
                    "run `chmod 700` on it, or choose another folder"
                )
            names = {name for name in os.listdir(folder) if not name.startswith(".")} - {LOCK}
        if names and not is_harvest(folder):
            raise ConfigError(
                f"'{folder}' is not empty and not a harvest (no {MANIFEST}); choose another folder"
            )

    def __init__(self, folder: Path, budget: int, images: int, seconds: float) -> None:
        """Read what an earlier process left, and remove what exceeds the bounds.

        Args:
            folder: Folder from `prepare`, locked.
            budget: Most bytes.
            images: Most images.
            seconds: Most seconds that an image is kept.

        Raises:
            FormatError: The manifest is damaged.
            StorageError: The folder cannot be written.
        """
        self.folder, self._seconds = folder, seconds
        self._bytes = {part: budget // share for part, share in _SHARES.items()}
        self._most = {part: max(images // share, 1) for part, share in _SHARES.items()}
        self._kept: dict[Part, dict[str, tuple[Entry, int]]] = {part: {} for part in PARTS}
        self._elsewhere: list[Entry] = []
        """Images that a person has moved."""
        self.seen: dict[Part, int] = dict.fromkeys(PARTS, 0)
        """Number of frames that were looked at for each part."""
        self._coverage, self._mutex = Coverage(), Mutex()
        remove_leftovers(folder)
        if not disk.exists(folder / MANIFEST):  # first, since it makes the folder a harvest
            ManifestFile(folder, ()).close()
        with storage_errors(folder):
            for part in PARTS:
                make_folder(folder / part, _MODE)
                remove_leftovers(folder / part)
        found = read(folder)
        newest = max((entry.time for entry in found), default=0.0)
        self._ahead = newest - time.monotonic()
        with storage_errors(folder):
            self._restore(found)
        self._manifest = ManifestFile(folder, self.entries)
        self._expire()
        for part in PARTS:
            while self._kept[part] and self._is_over(part, 0):
                self._remove(part, self._victim(part, random.Random(0)))

    def now(self) -> float:
        """Return the time for a new image, in seconds since 1970.

        A device without a battery-backed clock starts in 1970. Until its clock is set, time
        continues from the newest image.
        """
        found = time.time()
        return found if found >= _SET else self._ahead + time.monotonic()

    @property
    def entries(self) -> list[Entry]:
        """All images, oldest first, with those that a person has moved."""
        kept = [entry for part in PARTS for entry, _ in self._kept[part].values()]
        return sorted(kept + self._elsewhere, key=lambda entry: entry.time)

    def counts(self) -> dict[Part, int]:
        """Return the number of images of each part."""
        with self._mutex:
            return {part: len(self._kept[part]) for part in PARTS}

    def wants(self, part: Part, basis: str, point: Features | None, draws: random.Random) -> bool:
        """Count a frame for its part, and return whether it should be kept there.

        Args:
            part: Part of the harvest.
            basis: Digest of what the point is whitened by.
            point: Whitened features of a trusted frame.
            draws: Random numbers; in the other parts every frame has the same chance to be kept
                (reservoir sampling, Vitter 1985).
        """
        self.seen[part] += 1
        sizes = [size for _, size in self._kept[part].values()]
        full = self._is_over(part, sum(sizes) // max(len(sizes), 1), one_more=True)
        if point is not None:
            if not self._coverage.is_new(basis, point):
                return False
            return not full or len(self._coverage) < 2 or bool(self._coverage.leaves(basis, point))
        return not full or draws.random() < len(self._kept[part]) / self.seen[part]

    def keep(self, entry: Entry, content: bytes, draws: random.Random) -> None:
        """Write an image, then remove others so that all fit.

        If it cannot be written, as on a full disk, none is removed for it.

        Args:
            entry: Image that is wanted.
            content: Content of its file.
            draws: Random numbers.

        Raises:
            ConfigError: It is larger than all images of its part together may be.
            StorageError: It cannot be written.
        """
        part, size = entry.part, len(content) + _LINE
        known = {e.file for kept in self._kept.values() for e, _ in kept.values()}
        known |= {e.file for e in self._elsewhere}
        if entry.file in known:
            return
        if size > self._bytes[part]:
            if self._kept[part]:
                return
            raise ConfigError(
                f"an image takes {size} bytes, but all {part} ones together may take "
                f"{self._bytes[part]}; give a larger budget, or a smaller side"
            )
        self._expire()
        while self._kept[part] and self._is_over(part, 0):  # an earlier removal has failed
            self._remove(part, self._victim(part, draws))
        path = self.folder / part / entry.file
        # Listed before it is written: what is not listed is somebody's own, and stays.
        with self._manifest.adding(entry), storage_errors(path):
            path.parent.mkdir(_MODE, exist_ok=True)
            write_bytes(path, content)
        try:
            while self._kept[part] and self._is_over(part, size, one_more=True):
                self._remove(part, self._victim(part, draws, entry))
        finally:
            self._add(entry, size)
        if self._manifest.lines > 2 * len(self.entries) + _SLACK:
            self._manifest.rewrite(self.entries)

    def close(self) -> None:
        """Close the manifest. Safe to call more than once."""
        self._manifest.close()

    def _restore(self, found: list[Entry]) -> None:
        classes = sorted_classes(self.folder)
        for entry in found:
            found_at = find(self.folder, entry, classes)
            self.seen[entry.part] = max(self.seen[entry.part], min(entry.seen, 1 << 53))
            if found_at is None:
                continue
            path, where = found_at
            # A clock that was ahead would keep its images for too long.
            entry = replace(entry, time=min(entry.time, self.now()))
            part = next((part for part in PARTS if part == where), None)
            if part is None:
                self._elsewhere.append(entry)
            else:
                self._add(replace(entry, part=part), path.stat().st_size + _LINE)

    def _add(self, entry: Entry, size: int) -> None:
        with self._mutex:
            self._kept[entry.part][entry.file] = entry, size
        if entry.part == TRUSTED:
            self._coverage.add(entry.file, entry.basis or entry.file, entry.features())

    def _remove(self, part: Part, file: str) -> None:
        """Remove an image, its file first: that frees space, and a line needs some."""
        with storage_errors(self.folder):
            (self.folder / part / file).unlink(missing_ok=True)
        with self._mutex:
            del self._kept[part][file]
        if part == TRUSTED:
            self._coverage.remove(file)
        self._manifest.remove(file)

    def _victim(self, part: Part, draws: random.Random, entry: Entry | None = None) -> str:
        if part != TRUSTED:
            return draws.choice(list(self._kept[part]))
        if entry is not None and len(self._coverage) > 1:
            found = self._coverage.leaves(entry.basis, entry.features())
            if found is not None:
                return found
        return self._coverage.closest()

    def _is_over(self, part: Part, size: int, *, one_more: bool = False) -> bool:
        kept = self._kept[part]
        used = sum(own for _, own in kept.values())
        return used + size > self._bytes[part] or len(kept) + one_more > self._most[part]

    def _expire(self) -> None:
        oldest = self.now() - self._seconds
        for part in PARTS:
            for file, (entry, _) in list(self._kept[part].items()):
                if entry.time < oldest:
                    self._remove(part, file)
