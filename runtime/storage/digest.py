"""Digests of sets of tensors, independent of their file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
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
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    return sha256_of(tensors, tensors.__getitem__, nbytes)


def sha256_of(names: Iterable[str], get: Callable[[str], NDArray[Any]], nbytes: int) -> str:
    """Return the digest of tensors that are made one by one; see `tensors_sha256`.

    Args:
        names: Names of the tensors.
        get: Function that returns a tensor; several threads call it.
        nbytes: Number of bytes of all tensors.
    """
    if nbytes < _SMALL:
        return combined(line(name, get(name)) for name in names)
    return combined(on_threads(lambda name: line(name, get(name)), names, 4))


def line(name: str, tensor: NDArray[Any]) -> str:
    """Return one tensor's line `name dtype shape sha256`, fields separated by tabs."""
    array = np.ascontiguousarray(tensor).reshape(tensor.shape)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    content = hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()
    return f"{name}\t{array.dtype.name}\t{list(array.shape)}\t{content}\n"


def combined(lines: Iterable[str]) -> str:
    """Return the digest of a set of tensors from their lines, in any order."""
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
