"""The base weights' file: a plain safetensors file, read once into one buffer."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from runtime import digest
from runtime.errors import FormatError
from runtime.spec import TensorSpec
from runtime.weights import Weights

_DTYPES = {"F32": "float32", "F16": "float16"}


def read_weights(path: Path, size: int, sha256: str) -> Weights:
    """Read the base weights, checking their digest on the way.

    Args:
        path: A safetensors file of float32 and float16 tensors.
        size: The bytes it must have.
        sha256: The digest its tensors must have (`runtime.digest`).

    Raises:
        FormatError: The file is missing, damaged, or not the one that was meant.
    """
    layout, start = read_layout(path, size)
    buffer = np.empty(size - start, np.uint8)
    weights = Weights(buffer, layout)
    offsets = np.cumsum([0, *(spec.nbytes for spec in layout)])

    def read(spec: TensorSpec, offset: int) -> str:
        # Reading and hashing one tensor together keeps its bytes in the cache.
        _fill(file.fileno(), buffer[offset : offset + spec.nbytes], start + offset, path)
        return digest.line(spec.name, weights[spec.name])

    try:
        with path.open("rb") as file, ThreadPoolExecutor(max_workers=4) as pool:
            found = digest.combined(pool.map(read, layout, offsets[:-1].tolist()))
    except OSError as error:
        raise FormatError(
            f"cannot read '{path}': {error.strerror or error}; copy the bundle again"
        ) from error
    if found != sha256:
        raise FormatError(f"'{path}' was altered: its digest does not match; copy it again")
    return weights


def read_layout(path: Path, size: int) -> tuple[list[TensorSpec], int]:
    """Return the tensors of a safetensors file in file order, and where their bytes start.

    Reads the header only.

    Args:
        path: A safetensors file of float32 and float16 tensors.
        size: The bytes it must have.

    Raises:
        FormatError: The file is missing, damaged, or of another size.
    """
    try:
        if path.stat().st_size != size:
            raise FormatError(
                f"'{path}' has {path.stat().st_size} bytes, needed {size}; copy it again"
            )
        with safe_open(path, framework="numpy") as file:
            layout = []
            for name in file.offset_keys():
                part = file.get_slice(name)
                if part.get_dtype() not in _DTYPES:
                    raise FormatError(f"'{path}': tensor '{name}' is {part.get_dtype()}")
                layout.append(
                    TensorSpec(name, _DTYPES[part.get_dtype()], tuple(part.get_shape()))  # type: ignore[arg-type]
                )
    except (OSError, SafetensorError, ValueError) as error:
        raise FormatError(
            f"'{path}' is missing or damaged ({error}); copy the bundle again"
        ) from error
    # The format allows no holes, so the data is the end of the file.
    return layout, size - sum(spec.nbytes for spec in layout)


def _fill(file: int, into: NDArray[np.uint8], offset: int, path: Path) -> None:
    view = into.data
    while view:
        count = os.preadv(file, [view], offset)
        if count == 0:
            raise FormatError(f"'{path}' ends too early; copy the bundle again")
        view, offset = view[count:], offset + count
