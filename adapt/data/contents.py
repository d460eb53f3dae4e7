"""Compute digests of image files; a file that did not change is not read again.

Under `$UDA_CACHE/contents`, one checksummed file per folder of images holds the SHA-256 of each
file beside its size, its times of modification and of change, and its inode. A file whose four
values are unchanged is not read again; a damaged index is made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.data.home import folder
from runtime.errors import DataError, FormatError, StorageError
from runtime.storage import checksummed, disk
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers

KIND, SCHEMA = "uda-contents", 1
WIDTH = 32
"""Length of a SHA-256 in bytes."""
SETTLED = 2 * 10**9
"""Nanoseconds after which another change of a file must show in its times: the coarsest file
systems count in steps of two seconds. A file that changed more recently is read every time."""
_CHUNK, _PART = 1 << 20, 4096
"""Bytes read at once, and files read before their digests are noted."""
_BITS = (1 << 64) - 1

_log = logging.getLogger(__name__)
Sums = NDArray[np.uint8]
States = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class _Index:
    """Known digests of the files of one folder."""

    rows: dict[bytes, int]
    """Position of each file by its name, relative to the folder."""
    states: States
    """Size, times and inode (N, 4) of each file, see `_states`."""
    sums: Sums
    """SHA-256 (N, 32) of each file."""


def contents(paths: Sequence[Path]) -> Sums:
    """Return the SHA-256 (N, 32) of each file's content; zeros for a file that cannot be read.

    Raises:
        DataError: A file no longer exists.
    """
    if not paths:
        return np.empty((0, WIDTH), np.uint8)
    states = _states(paths)
    root, names = _relative(paths)
    path = _index_path(root)
    remove_leftovers(path.parent)
    sums, unknown = _known(_load(path, root), names, states)
    if not len(unknown):
        return sums
    with _one_reader(path):
        before = _load(path, root, quiet=True)  # another process may have read them meanwhile
        sums, unknown = _known(before, names, states)
        lasting = sorted({*range(len(paths))} - {*unknown.tolist()})
        old = len(lasting)
        try:
            for start in range(0, len(unknown), _PART):
                lasting += _read(paths, states, sums, unknown[start : start + _PART].tolist())
        finally:  # what was read before an interruption is not read again
            if len(lasting) > old:
                _save(path, root, before, {names[i]: (states[i], sums[i]) for i in lasting})
    return sums


def _read(paths: Sequence[Path], states: States, sums: Sums, some: Sequence[int]) -> list[int]:
    """Fill in the digests of some files; return which of them can be known by their states."""
    started = time.time_ns()
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        found = list(pool.map(file_sha256, [paths[i] for i in some]))
    read = [i for i, digest in zip(some, found, strict=True) if digest]
    for i, digest in zip(some, found, strict=True):
        sums[i] = np.frombuffer(digest or bytes(WIDTH), np.uint8)
    unchanged = (_states([paths[i] for i in read]) == states[read]).all(1)
    settled = [started - int(state[2]) > SETTLED for state in states[read]]
    return [i for i, same, old in zip(read, unchanged, settled, strict=True) if same and old]


def forget(paths: Sequence[Path]) -> None:
    """Drop the known digests of the paths' folder, so that its files are read again."""
    if paths:
        with contextlib.suppress(OSError):
            _index_path(_relative(paths)[0]).unlink(missing_ok=True)


def stat(path: Path) -> os.stat_result:
    """Return the file status of an image.

    Raises:
        DataError: The file does not exist, or a link is broken.
    """
    try:
        return path.stat()
    except OSError as error:
        hint = "check its permissions and those of the folders above it"
        if not isinstance(error, PermissionError):
            hint = f"repair or delete the {'link' if disk.is_link(path) else 'file'}"
        raise DataError(
            f"cannot read the image '{path}' ({error.strerror}); {hint}, then start again"
        ) from error


def file_sha256(path: Path) -> bytes | None:
    """Return the SHA-256 of a file's content; None if it is not a regular, readable file.

    Raises:
        StorageError: Too many files are open.
    """
    try:
        # A named pipe without a writer would be waited for.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if disk.too_many_open(error):  # else a good image would be left out
            raise disk.refused(path, error) from error
        return None
    try:
        if not S_ISREG(os.fstat(handle).st_mode):
            return None
        digest = hashlib.sha256()
        while chunk := os.read(handle, _CHUNK):
            digest.update(chunk)
        return digest.digest()
    except OSError:
        return None
    finally:
        os.close(handle)


def _states(paths: Sequence[Path]) -> States:
    """Return size, time of modification, time of change and inode (N, 4) of each file."""
    found = np.empty((len(paths), 4), np.uint64)
    for row, path in zip(found, paths, strict=True):
        is_now = stat(path)
        numbers = is_now.st_size, is_now.st_mtime_ns, is_now.st_ctime_ns, is_now.st_ino
        row[:] = [number & _BITS for number in numbers]
    return found


def _relative(paths: Sequence[Path]) -> tuple[str, list[bytes]]:
    """Return the folder that all paths lie in, absolute, and their names from there."""
    texts = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath({os.path.dirname(text) for text in texts})
    start = len(root) if root.endswith(os.sep) else len(root) + 1
    return root, [os.fsencode(text[start:]) for text in texts]


def _index_path(root: str) -> Path:
    name = hashlib.sha256(os.fsencode(root)).hexdigest()
    return folder() / "contents" / f"{name}.safetensors"


def _known(index: _Index, names: Sequence[bytes], states: States) -> tuple[Sums, NDArray[np.int64]]:
    """Return the digests that are still valid, and the positions of the files that must be read."""
    sums = np.zeros((len(names), WIDTH), np.uint8)
    rows = np.array([index.rows.get(name, -1) for name in names], np.int64)
    old = rows >= 0
    old[old] = (index.states[rows[old]] == states[old]).all(1)
    sums[old] = index.sums[rows[old]]
    return sums, np.flatnonzero(~old)


def _load(path: Path, root: str, quiet: bool = False) -> _Index:
    empty = _Index({}, np.empty((0, 4), np.uint64), np.empty((0, WIDTH), np.uint8))
    try:
        if not disk.is_file(path):
            return empty
        file = checksummed.read(path, KIND, SCHEMA)
        names, states, sums = (file.tensors[n] for n in ("names", "states", "sums"))
        listed = names.tobytes().split(b"\0")
        found = [(tensor.dtype.name, tensor.shape) for tensor in (states, sums)]
        if found != [("uint64", (len(listed), 4)), ("uint8", (len(listed), WIDTH))]:
            raise FormatError(f"'{path}' has tensors of another type or shape")
        if file.document.get("folder") != root:
            raise FormatError(f"'{path}' belongs to another folder")
    except (FormatError, StorageError, KeyError) as error:
        if not quiet:
            _log.warning("the images in '%s' are read again: %s", root, error)
        return empty
    return _Index({name: row for row, name in enumerate(listed)}, states, sums)


def _save(path: Path, root: str, before: _Index, new: dict[bytes, tuple[States, Sums]]) -> None:
    """Write the index with new files added, and without those that no longer exist."""
    merged = dict(new)
    for name, row in before.rows.items():
        if name not in new and os.path.lexists(os.path.join(os.fsencode(root), name)):
            merged[name] = before.states[row], before.sums[row]
    tensors: dict[str, NDArray[Any]] = {
        "names": np.frombuffer(b"\0".join(merged), np.uint8),
        "states": np.stack([state for state, _ in merged.values()]),
        "sums": np.stack([digest for _, digest in merged.values()]),
    }
    try:
        checksummed.write(path, KIND, SCHEMA, {"folder": root}, tensors)
    except StorageError as error:
        _warn_once(folder(), getattr(error.__cause__, "strerror", None) or str(error))


@functools.cache  # once per process: a run has many folders
def _warn_once(cache: Path, reason: str) -> None:
    _log.warning(
        "cannot write the cache '%s': %s; images are read again next time, unless UDA_CACHE is a "
        "writable folder",
        cache, reason,
    )  # fmt: skip


@contextlib.contextmanager
def _one_reader(path: Path) -> Iterator[None]:
    """Let one process read the files while others wait, where the cache can be written."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(StorageError):  # slower, and as right
            stack.enter_context(exclusive(folder() / "locks" / path.name, required=False))
        yield
