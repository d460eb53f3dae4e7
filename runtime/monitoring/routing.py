"""What a task carries so that a device can choose it for frames of its domain.

Optional member `routing` of a task file: `version` in the document; tensors `routing.centres` and
`routing.sample`, features of the untouched base at unit length, of half precision. They are not
whitened: a task that is installed later is read under the whitening of the bundle it comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.kmeans import kmeans, means
from runtime.monitoring.whitening import MAX_SIZE, Whitening

MEMBER = "routing"
VERSION = 1
"""Version of the member; others are ignored."""
CENTRES, SAMPLE = 8, 64
"""Number of centres and of sampled images that the export writes, if there are enough images."""
MAX_CENTRES, MAX_SAMPLE = 64, 1024
FEWEST = 20
"""Fewest images that it is computed from."""
_NAMES = ("centres", "sample")


@dataclass(frozen=True, eq=False)
class TaskRouting:
    """Where the images of a task lie, in features of the untouched base."""

    centres: Features
    """(C, D), means of clusters of the task's own images."""
    sample: Features
    """(M, D), features of own images that are in no cluster, to which distances are usual."""

    @staticmethod
    def document() -> dict[str, Any]:
        """Return the JSON of the member."""
        return {"version": VERSION}

    def tensors(self) -> dict[str, NDArray[np.float16]]:
        """Return the tensors of the member by name."""
        return {f"{MEMBER}.{name}": getattr(self, name).astype(np.float16) for name in _NAMES}


def sampled(count: int) -> NDArray[np.bool_]:
    """Return which of a task's images (N,) are its sample; whitening and clusters use the others.

    They are spread evenly, since images often come class by class.

    Args:
        count: Number of images, at least `FEWEST`.
    """
    some = min(SAMPLE, count // 4)
    chosen = np.zeros(count, np.bool_)
    chosen[((np.arange(some) + 0.5) * count / some).astype(np.int64)] = True
    return chosen


def fit(features: Features, whitening: Whitening) -> TaskRouting:
    """Return the centres of a task's images, and the sample.

    Args:
        features: Unit-length features (N, D) of the untouched base, N at least `FEWEST`.
        whitening: Whitening of the bundle, in whose space they are clustered.
    """
    left_out = sampled(len(features))
    seen = np.asarray(features[~left_out], np.float64)
    clusters = kmeans(np.asarray(whitening.apply(features[~left_out]), np.float64), CENTRES)
    filled = np.unique(clusters)  # equal rows leave clusters empty
    centres = means(seen, np.searchsorted(filled, clusters), np.zeros((len(filled), seen.shape[1])))
    return TaskRouting(centres.astype(np.float32), features[left_out])


def read(optional: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> TaskRouting | None:
    """Return what a task file carries; None where it has nothing, or of another version.

    Args:
        optional: Optional members of the file.
        tensors: Tensors of the optional members, `<member>.<name>`.

    Raises:
        FormatError: The member is there and is damaged.
    """
    found = optional.get(MEMBER)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    try:
        centres, sample = (_checked(name, tensors.get(f"{MEMBER}.{name}")) for name in _NAMES)
        if centres.shape[1] != sample.shape[1]:
            raise ValueError(f"centres {centres.shape}, but a sample {sample.shape}")
    except ValueError as error:
        raise FormatError(f"member '{MEMBER}' is damaged ({error}); export it again") from error
    return TaskRouting(centres, unit(sample))


def _checked(name: str, array: NDArray[Any] | None) -> Features:
    most = MAX_CENTRES if name == "centres" else MAX_SAMPLE
    least = 1 if name == "centres" else 2
    if array is None:
        raise ValueError(f"no '{name}'")
    if (
        array.dtype not in (np.float16, np.float32)
        or array.ndim != 2
        or not least <= len(array) <= most
        or not 1 <= array.shape[1] <= MAX_SIZE
        or not bool(np.isfinite(array).all())
    ):
        raise ValueError(f"'{name}' is {array.dtype}{array.shape}, or not finite")
    found = array.astype(np.float32)
    lengths = np.linalg.norm(found.astype(np.float64), axis=1)
    if float(lengths.max()) > 1.01:  # means of unit vectors are shorter
        raise ValueError(f"'{name}' is not of unit-length features")
    return found
