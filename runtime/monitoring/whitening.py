"""The whitening of a bundle: how far apart two features of its untouched base are.

Distances are those under the covariance of the base's features within a task's own images, pooled
over the tasks of the bundle: directions in which frames of one domain differ anyway count little.
Optional member `whitening` of the manifest, a file reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.monitoring.gaussian import Features, least_variance, shrunk
from runtime.storage import checksummed

MEMBER = "whitening"
KIND, SCHEMA = "uda-whitening", 1
MAX_SIZE = 8192
"""Most dimensions of a feature."""
MAX_BYTES = 80 << 20
"""Largest file."""
_MOST = 1e6
"""Largest absolute value in a factor, so that squared distances do not overflow."""
_TENSOR = "triangle"
_TOP = 1024.0
"""Largest absolute value as stored: half precision ends at 65,504 and loses digits below 6e-5."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """The linear map after which features within a task have variance 1 in every direction."""

    factor: Features
    """(D, D), upper triangular."""

    @property
    def size(self) -> int:
        """Number D of a feature's dimensions."""
        return len(self.factor)

    def apply(self, features: Features) -> Features:
        """Return whitened features (N, D) of unit-length features (N, D)."""
        found: Features = features @ self.factor.T
        return found

    def encode(self) -> bytes:
        """Return the bytes of the file: the triangle, row by row, in half precision."""
        packed = self.factor[np.triu_indices(self.size)]
        scale = float(np.abs(packed).max()) / _TOP
        document = {"dimensions": self.size, "scale": scale}
        return checksummed.encode(
            KIND, SCHEMA, document, {_TENSOR: (packed / scale).astype(np.float16)}
        )

    @classmethod
    def decode(cls, content: bytes, path: Path) -> Whitening:
        """Return the whitening of a file.

        Args:
            content: Content of the file.
            path: Path of the file, for messages.

        Raises:
            FormatError: The file is damaged.
        """
        file = checksummed.read(path, KIND, SCHEMA, content=content)
        try:
            if file.document.keys() != {"dimensions", "scale"} or file.tensors.keys() != {_TENSOR}:
                raise ValueError("its members are others than those of this version")
            size, scale = file.document["dimensions"], float(file.document["scale"])
            if type(size) is not int or not 1 <= size <= MAX_SIZE:
                raise ValueError(f"found {str(size)[:20]} dimensions, expected 1 to {MAX_SIZE}")
            return cls(_unpacked(file.tensors[_TENSOR], size, scale))
        except (TypeError, ValueError, OverflowError) as error:
            raise FormatError(
                f"'{path}' is not a whitening ({error}); export the bundle again"
            ) from error


def fit(groups: Sequence[Features]) -> Whitening:
    """Return the whitening of the tasks of a bundle.

    Args:
        groups: For each task, unit-length features (N, D) of the untouched base, N at least 2.
    """
    wide = [np.asarray(group, np.float64) for group in groups]
    centred = np.concatenate([group - group.mean(0) for group in wide])
    variances, axes = np.linalg.eigh(shrunk(centred))
    # Without a least variance, equal images would be infinitely far from all others.
    inverse = (axes / np.maximum(variances, least_variance(len(axes)))) @ axes.T
    lower = np.linalg.cholesky((inverse + inverse.T) / 2)
    return Whitening(lower.T.astype(np.float32))


def _unpacked(packed: NDArray[np.generic], size: int, scale: float) -> Features:
    count = size * (size + 1) // 2
    if packed.dtype != np.float16 or packed.shape != (count,):
        raise ValueError(f"found {packed.dtype}{packed.shape}, expected float16({count},)")
    if not 0 < scale < math.inf:
        raise ValueError(f"a scale of {scale:g}")
    if not bool(np.isfinite(packed).all()):
        raise ValueError("a value is not finite")
    if float(np.abs(packed).max()) > _MOST / scale:
        raise ValueError(f"a value is above {_MOST:g}")
    factor, start = np.zeros((size, size), np.float32), 0
    for row in range(size):  # np.triu_indices would take eight times the bytes of the values
        stop = start + size - row
        factor[row, row:] = packed[start:stop].astype(np.float64) * scale
        start = stop
    return factor
