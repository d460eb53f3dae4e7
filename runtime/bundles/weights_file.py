"""Read and write the base weights: a plain safetensors file, read once into one buffer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.memory.form import PLAIN, Form
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.storage import digest
from runtime.storage.files import open_regular, unreadable
from runtime.storage.header import read_header
from runtime.workers import on_threads

_DTYPES: dict[str, Literal["float32", "float16"]] = {"F32": "float32", "F16": "float16"}


class Known(Protocol):
    """Knowledge of a file from earlier starts."""

    def holds(self, file: int, found: os.stat_result) -> bool:
        """Return whether an open file of this status need not be verified before it is used."""

    def remember(self, found: os.stat_result) -> None:
        """Note that the open file of this status was verified."""


def read_weights(
    path: Path, size: int, sha256: str, known: Known | None = None, form: Form = PLAIN
) -> Weights:
    """Read the base weights, checking their digest on the way.

    Args:
        path: Safetensors file of float32 and float16 tensors.
        size: Expected size in bytes.
        sha256: Expected digest of the tensors (`runtime.storage.digest`).
        known: Knowledge of the file, which may make its verification unnecessary.
        form: How the tensors shall lie in memory.

    Raises:
        FormatError: The file is missing, damaged, or not the expected one, or the tensors cannot
            be held in this form.
    """
    layout, start = read_layout(path, size)
    nbytes = sum(spec.nbytes for spec in form.held(layout))
    weights = Weights(np.empty(nbytes, np.uint8), layout, form)
    own = weights.views()
    straight = {spec.name for spec in layout if own[spec.name].dtype == spec.dtype}

    def room(spec: TensorSpec) -> NDArray[Any] | None:
        return own[spec.name] if spec.name in straight else None

    def took(spec: TensorSpec, tensor: NDArray[Any]) -> None:
        if spec.name not in straight:
            weights.put(spec.name, tensor)

    read_all(path, layout, start, sha256, room, took, known)
    for spec in layout:  # one at a time: each takes a copy
        if spec.name in straight and not form.keeps(spec):
            weights.put(spec.name, own[spec.name])
    return weights


def check_weights(
    path: Path, size: int, sha256: str, stopped: Callable[[], bool], opened: BinaryIO | None = None
) -> bool:
    """Check the digest of base weights, a tensor at a time; return whether it came to an end.

    Args:
        path: As for `read_weights`.
        size: As for `read_weights`.
        sha256: As for `read_weights`.
        stopped: Whether to end without a result, asked before each tensor.
        opened: The file, if it is open already: at its path there may be another one by now.

    Raises:
        FormatError: The file is missing, damaged, or not the expected one.
    """
    lines = []
    try:
        with open_regular(path) if opened is None else opened as file:
            layout, start = _read_layout(file, path, size)
            for spec in layout:
                if stopped():
                    return False
                part = np.empty(spec.nbytes, np.uint8)
                fill(file.fileno(), part, start, path)
                lines.append(digest.line(spec.name, Weights(part, [spec])[spec.name]))
                start += spec.nbytes
    except OSError as error:
        raise unreadable(path, error) from error
    _check(path, digest.combined(lines), sha256)
    return True


def read_layout(path: Path, size: int) -> tuple[list[TensorSpec], int]:
    """Return the tensors of a safetensors file in file order, and where their bytes start.

    Reads the header only.

    Args:
        path: Safetensors file of float32 and float16 tensors.
        size: Expected size in bytes.

    Raises:
        FormatError: The file is missing, damaged, or of another size.
    """
    try:
        with open_regular(path) as file:
            return _read_layout(file, path, size)
    except OSError as error:
        raise unreadable(path, error) from error


def _read_layout(file: BinaryIO, path: Path, size: int) -> tuple[list[TensorSpec], int]:
    if (found := os.fstat(file.fileno()).st_size) != size:
        raise FormatError(f"'{path}' has {found} bytes, expected {size}; copy it again")
    try:
        return _layout(file, size)
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(f"'{path}' is damaged ({error}); copy the bundle again") from error


def _layout(file: BinaryIO, size: int) -> tuple[list[TensorSpec], int]:
    """Return the tensors that a header lists, in file order, and where their bytes start.

    Parsed here since the library maps the file: one that is truncated meanwhile kills the process.

    Raises:
        ValueError: A tensor is neither float32 nor float16, or the tensors do not fill the file.
        TypeError: A field has the wrong type.
        KeyError: A field is missing.
    """
    header = read_header(file)
    header.pop("__metadata__", None)
    layout, start, end = [], file.tell(), 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"tensor '{name}' is {entry['dtype']}, expected F32 or F16")
        if any(type(side) is not int for side in entry["shape"]):
            raise ValueError(f"the shape of tensor '{name}' is not a list of whole numbers")
        spec = TensorSpec(name, _DTYPES[entry["dtype"]], tuple(entry["shape"]))
        if entry["data_offsets"] != [end, end + spec.nbytes]:
            raise ValueError(f"tensor '{name}' does not start at byte {end}, or has another length")
        layout.append(spec)
        end += spec.nbytes
    if start + end != size:
        raise ValueError(f"its tensors have {end} bytes, expected {size - start}")
    return layout, start


def read_all(
    path: Path,
    layout: Sequence[TensorSpec],
    start: int,
    sha256: str,
    room: Callable[[TensorSpec], NDArray[Any] | None],
    took: Callable[[TensorSpec, NDArray[Any]], None],
    known: Known | None,
) -> None:
    """Read every tensor, in several threads, and check the digest.

    Args:
        path: Path of the file.
        layout: Tensors of the file, in its order.
        start: Where their bytes start.
        sha256: Expected digest.
        room: Function that returns the array to read a tensor into; None if it is of use no longer
            than `took` runs.
        took: Function that is called with each tensor once it was read.
        known: Knowledge of the file, which may make its verification unnecessary.

    Raises:
        FormatError: The file is missing, damaged, or not the expected one.
    """
    offsets = itertools.accumulate((spec.nbytes for spec in layout), initial=start)
    largest = max((spec.nbytes for spec in layout), default=0)
    free: list[NDArray[np.uint8]] = []  # used again: fresh memory is slow, and may not go back

    def take(file: int, spec: TensorSpec, offset: int, verify: bool) -> str:
        tensor, lent = room(spec), None
        if tensor is None:
            try:
                lent = free.pop()
            except IndexError:
                lent = np.empty(largest, np.uint8)
            tensor = lent[: spec.nbytes].view(spec.dtype).reshape(spec.shape)
        # Reading, hashing and moving one tensor together keeps its bytes in the cache.
        fill(file, tensor.reshape(-1).view(np.uint8), offset, path)
        line = digest.line(spec.name, tensor) if verify else ""
        took(spec, tensor)
        if lent is not None:
            free.append(lent)
        return line

    try:
        with open_regular(path) as file:
            number = file.fileno()
            found = os.fstat(number)
            verify = known is None or not known.holds(number, found)
            tensors = zip(layout, offsets, strict=False)
            lines = on_threads(lambda tensor: take(number, *tensor, verify), tensors, 4)
            same = os.fstat(number).st_ctime_ns == found.st_ctime_ns
    except OSError as error:
        raise unreadable(path, error) from error
    if verify:
        _check(path, digest.combined(lines), sha256)
        if known is not None and same:
            known.remember(found)


def _check(path: Path, found: str, sha256: str) -> None:
    if found != sha256:
        raise FormatError(f"'{path}' was altered: its digest does not match; copy it again")


def fill(file: int, into: NDArray[np.uint8], offset: int, path: Path) -> None:
    """Read bytes (N,) of an open file from an offset on.

    Raises:
        FormatError: The file ends too early.
        OSError: It cannot be read.
    """
    view = into.data
    while view:
        count = os.preadv(file, [view], offset)
        if count == 0:
            raise FormatError(f"'{path}' ends too early; copy the bundle again")
        view, offset = view[count:], offset + count
