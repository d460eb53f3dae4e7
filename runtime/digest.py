"""The identity of a set of tensors, whatever file holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray


def tensors_sha256(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes, in the order of the names.

    The bytes of each tensor are hashed on their own, so that several cores can share the work; the
    result hashes one line `name dtype shape sha256` per tensor, fields separated by tabs.
    """
    names = sorted(tensors)

    def line(name: str) -> str:
        array = np.ascontiguousarray(tensors[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        content = hashlib.sha256(little.reshape(-1).view(np.uint8)).hexdigest()
        return f"{name}\t{array.dtype.name}\t{list(array.shape)}\t{content}\n"

    with ThreadPoolExecutor(max_workers=4) as pool:
        lines = "".join(pool.map(line, names))
    return hashlib.sha256(lines.encode()).hexdigest()
