"""Decoded and resized images on disk, made once and mapped into memory.

Under `$UDA_CACHE` or `~/.cache/uda-adapt`: `pixels/<key>.bin` holds the images one after another,
`pixels/<key>.json`, written last, says how many there are and which files were unreadable. The key
covers the paths, sizes and times of the files, and how they are resized. Of several processes that
need the same pixels one makes them, and the others wait.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapt.data.base import ImageSet
from adapt.data.contents import stat
from adapt.data.home import folder
from runtime.errors import DataError
from runtime.frames.preprocess import preprocess, read_image
from runtime.spec import Preprocess
from runtime.storage.files import replacing, write_bytes
from runtime.storage.locks import exclusive

VERSION = 1
"""Of the cached pixels; raise it when decoding or resizing changes."""
UNREADABLE = 0.01
"""Share of unreadable images from which on a data set is refused."""
_CHUNK = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pixels:
    """The readable images of an image set."""

    images: NDArray[np.uint8]
    """(M, S, S, 3), read-only, mapped from the disk."""
    kept: NDArray[np.int64]
    """(M,) positions in the image set."""
    skipped: tuple[int, ...]
    """Positions of the unreadable ones, which were left out."""
    key: str
    """Names the pixels: changes with the files, their contents and how they are resized."""


def pixels(
    images: ImageSet,
    size: int,
    resize: Literal["squash", "crop"] = "squash",
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
) -> Pixels:
    """Return the pixels of an image set, from the cache if they are there.

    Args:
        images: What to read.
        size: Side S of the result.
        resize: As in `Preprocess`.
        interpolation: As in `Preprocess`.

    Raises:
        DataError: A file is missing, or at least 1 % of the images are unreadable.
        StorageError: The cache cannot be written.
    """
    spec = Preprocess(size, resize, interpolation)
    place = folder() / "pixels" / _key(images, spec)
    kept = _ready(place, len(images), size)
    if kept is None:
        # Without a lock every process makes the same bytes: slower, and as right.
        with exclusive(folder() / "locks" / place.name, required=False) as locked:
            kept = _ready(place, len(images), size)  # another process may have made it meanwhile
            if kept is None:
                for left in place.parent.glob(f".{place.name}.*.tmp") if locked else ():
                    left.unlink(missing_ok=True)  # of a process that was killed
                kept = _make(images, spec, place)
    skipped = tuple(sorted({*range(len(images))} - {*kept.tolist()}))
    if skipped:
        _log.warning(
            "%d of %d images of '%s' cannot be read and are left out, the first: '%s'",
            len(skipped), len(images), images.domain, images.paths[skipped[0]],
        )  # fmt: skip
    array = np.memmap(place.with_suffix(".bin"), np.uint8, "r", shape=(len(kept), size, size, 3))
    return Pixels(array, kept, skipped, place.name)


def _make(images: ImageSet, spec: Preprocess, place: Path) -> NDArray[np.int64]:
    kept: list[int] = []
    first: DataError | None = None
    with replacing(place.with_suffix(".bin")) as temporary, temporary.open("wb") as stream:
        for index, result in enumerate(_read(images.paths, spec)):
            if isinstance(result, DataError):
                first = first or result
            else:
                stream.write(result.tobytes())
                kept.append(index)
        lost = len(images) - len(kept)
        if first is not None and lost >= UNREADABLE * len(images):
            raise DataError(
                f"{lost} of {len(images)} images of '{images.domain}' cannot be read, the first: "
                f"{first}"
            ) from first
    note = json.dumps({"images": len(images), "skipped": sorted({*range(len(images))} - {*kept})})
    write_bytes(place.with_suffix(".json"), note.encode())
    return np.array(kept, np.int64)


def _read(paths: tuple[Path, ...], spec: Preprocess) -> Iterator[NDArray[np.uint8] | DataError]:
    def one(path: Path) -> NDArray[np.uint8] | DataError:
        try:
            return preprocess(read_image(path), spec)
        except DataError as error:
            return error

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        for start in range(0, len(paths), _CHUNK):  # `map` would hold every result in memory
            yield from pool.map(one, paths[start : start + _CHUNK])


def _key(images: ImageSet, spec: Preprocess) -> str:
    digest = hashlib.sha256(f"{VERSION} {spec.size} {spec.resize} {spec.interpolation}".encode())
    for path in images.paths:
        found = stat(path)
        name = os.fsencode(path.resolve())
        digest.update(b"%b\0%d\0%d\n" % (name, found.st_size, found.st_mtime_ns))
    return digest.hexdigest()


def _ready(place: Path, count: int, size: int) -> NDArray[np.int64] | None:
    """Return the positions of the cached images, or None if they must be made (again)."""
    try:
        note = json.loads(place.with_suffix(".json").read_bytes())
        skipped = set(note["skipped"])
        kept = np.array([i for i in range(count) if i not in skipped], np.int64)
        found = place.with_suffix(".bin").stat().st_size
        if note["images"] != count or found != len(kept) * size * size * 3:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or not whole
    return kept
