"""Digests of sets of tensors, independent of their file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.workers import on_threads

_SMALL = 1 << 22
"""Number of bytes below which a second thread does not pay."""


def tensors_sha256(tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of tensors.

    The bytes of each tensor are hashed on their own, so that several cores share the work.
    """
    if sum(tensor.nbytes for tensor in tensors.values()) < _SMALL:
        return combined(line(*item) for item in tensors.items())
    return combined(on_threads(lambda item: line(*item), tensors.items(), 4))


def line(name: str, tensor: NDArray[Any]) -> str:
    """Return one tensor's line `name dtype shape sha256`, fields separated by tabs."""
    array = np.ascontiguousarray(tensor).reshape(tensor.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    content = hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()
    return f"{name}\t{array.dtype.name}\t{list(array.shape)}\t{content}\n"


def combined(lines: Iterable[str]) -> str:
    """Return the digest of a set of tensors from their lines, in any order."""
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
