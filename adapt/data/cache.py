"""Cache decoded and resized images on disk, each checked whenever it is read.

Under `$UDA_CACHE` or `~/.cache/uda-adapt`: `pixels/<key>.bin` holds the images one after another,
`pixels/<key>.safetensors`, checksummed and written last, says which files they are and has a digest
of each. The key covers the contents of the files and how they are resized, so that files may be
moved, copied and touched. A cache that is damaged is made again. Of several processes that need
the same pixels one makes them, and the others wait.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapt.data import rows
from adapt.data.base import ImageSet
from adapt.data.contents import Sums, contents, file_sha256, forget
from adapt.data.home import folder
from adapt.data.rows import Rows
from runtime.console import count_of
from runtime.errors import DataError, FormatError, StorageError
from runtime.frames.preprocess import read_pixels
from runtime.models import Background, Preprocess
from runtime.storage import checksummed, disk
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers, replacing

VERSION = 3
"""Version of the cached pixels; raise it when decoding or resizing changes."""
KIND, SCHEMA = "uda-pixels", 1
UNREADABLE = 0.01
"""Share of unreadable images from which on a data set is refused."""
_CHUNK = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Pixels:
    """The readable images of an image set."""

    images: Rows
    """Images (M, S, S, 3), on disk."""
    positions: NDArray[np.int64]
    """Their positions (M,) in the image set."""
    skipped: tuple[int, ...]
    """Positions of the unreadable ones, which were left out."""
    key: str
    """Digest of the contents of the files and of how they are resized."""


def pixels(
    images: ImageSet,
    size: int,
    resize: Literal["squash", "crop"] = "squash",
    interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    background: Background = "drop",
) -> Pixels:
    """Return the pixels of an image set, from the cache if it has them.

    Args:
        images: Images to read.
        size: Side S of the result in pixels.
        resize: Way of resizing, as in `Preprocess`.
        interpolation: Interpolation, as in `Preprocess`.
        background: Background of transparent images, as in `Preprocess`.

    Raises:
        DataError: A file is missing or changes while it is read, or at least 1 % of the images are
            unreadable.
        StorageError: The cache cannot be written.
    """
    spec = Preprocess(size, resize, interpolation, background=background)
    sums = contents(images.paths)
    entry = folder() / "pixels" / _key(sums, spec)
    remove_leftovers(entry.parent)
    found = _ready(images, spec, entry)
    if found is None:
        # Without a lock every process makes the same bytes: slower, and as right.
        with exclusive(folder() / "locks" / entry.name, required=False):
            found = _ready(images, spec, entry, "")  # another process may have made it meanwhile
            if found is None:
                _make(images, sums, spec, entry)
                found = _ready(images, spec, entry)
    if found is None:
        raise StorageError(
            f"the cached pixels in '{entry.parent}' cannot be read back as they were written; "
            "check the disk, or set UDA_CACHE to a folder on another one"
        )
    if found.skipped:
        _log.warning(
            "%d of %d images of '%s' cannot be read and are left out, the first: '%s'",
            len(found.skipped), len(images), images.domain, images.paths[found.skipped[0]],
        )  # fmt: skip
    return found


def _make(images: ImageSet, sums: Sums, spec: Preprocess, entry: Path) -> None:
    positions: list[int] = []
    made: list[bytes] = []
    first: DataError | None = None
    with replacing(entry.with_suffix(".bin")) as temporary, temporary.open("wb") as stream:
        for index, result in enumerate(_read(images.paths, sums, spec)):
            if isinstance(result, DataError):
                first = first or result
            else:
                content = result.tobytes()
                stream.write(content)
                positions.append(index)
                made.append(rows.digest(content))
        lost = len(images) - len(positions)
        if first is not None and lost >= UNREADABLE * len(images):
            raise DataError(
                f"{lost} of {count_of(len(images), 'image')} of '{images.domain}' cannot be read, "
                f"the first: {first}"
            ) from first
    tensors: dict[str, NDArray[Any]] = {
        "kept": np.array(positions, np.int64),
        "digests": np.frombuffer(b"".join(made), np.uint8).reshape(-1, rows.WIDTH),
    }
    checksummed.write(
        entry.with_suffix(".safetensors"), KIND, SCHEMA, _document(images, entry), tensors
    )


def _read(
    paths: tuple[Path, ...], sums: Sums, spec: Preprocess
) -> Iterator[NDArray[np.uint8] | DataError]:
    """Yield each image, or why it cannot be read.

    Raises:
        DataError: A file does not hold what the key says.
    """

    def one(path: Path, known: NDArray[np.uint8]) -> NDArray[np.uint8] | DataError:
        result: NDArray[np.uint8] | DataError
        try:
            result = read_pixels(path, spec)
        except DataError as error:
            result = error
        if (file_sha256(path) or bytes(len(known))) != known.tobytes():
            forget(paths)
            raise DataError(
                f"the image '{path}' changed while it was read; start again once nothing writes to "
                "its folder"
            )
        return result

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        for start in range(0, len(paths), _CHUNK):  # `map` would hold every result in memory
            part = slice(start, start + _CHUNK)
            yield from pool.map(one, paths[part], sums[part])


def _key(sums: Sums, spec: Preprocess) -> str:
    text = f"{VERSION} {spec.size} {spec.resize} {spec.interpolation} {spec.background}\n"
    return hashlib.sha256(text.encode() + sums.tobytes()).hexdigest()


def _document(images: ImageSet, entry: Path) -> dict[str, str | int]:
    return {"key": entry.name, "images": len(images)}


def _ready(
    images: ImageSet, spec: Preprocess, entry: Path, note: str = "cached pixels are made again: %s"
) -> Pixels | None:
    """Return the cached images, or None if they must be made (again); `note` is then logged."""
    header, content = entry.with_suffix(".safetensors"), entry.with_suffix(".bin")
    shape = (spec.size, spec.size, 3)
    try:
        if not disk.is_file(header):
            return None
        file = checksummed.read(header, KIND, SCHEMA)
        positions, digests = file.tensors.get("kept"), file.tensors.get("digests")
        if (
            file.document != _document(images, entry)
            or positions is None
            or digests is None
            or not _are_positions(positions, len(images))
            or digests.dtype != np.uint8
            or digests.shape != (len(positions), rows.WIDTH)
        ):
            raise FormatError(f"'{header}' belongs to other images")
        array = Rows(
            content,
            shape,
            digests,
            lambda row: read_pixels(images.paths[positions[row]], spec),
        )
        if array.stored != array.nbytes:
            raise FormatError(f"'{content}' has {array.stored} bytes, expected {array.nbytes}")
    except (FormatError, StorageError, OSError) as error:
        if note:
            _log.warning(note, error)
        return None
    skipped = tuple(sorted({*range(len(images))} - {*positions.tolist()}))
    return Pixels(array, positions, skipped, entry.name)


def _are_positions(positions: NDArray[np.int64], count: int) -> bool:
    """Return whether these are positions among `count` images, in order."""
    if positions.ndim != 1 or positions.dtype != np.int64:
        return False
    return bool((np.diff(np.concatenate([[-1], positions, [count]])) > 0).all())
