"""Statistics of a task's own images, which tell its frames from unknown ones.

Optional member `statistics` of artifacts and task files: JSON with `version`, `images`, `rest` and
thresholds of drift; the arrays are tensors `statistics.<name>`, the large ones in half precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.monitoring import cusum
from runtime.monitoring.gaussian import AXES, Features, Gaussian, unit

MEMBER = "statistics"
VERSION = 1
"""Version of the member; others are ignored."""
MAX_QUANTILES = 512
"""Most distances, and most affinities, that are kept."""
_NAMES = ("mean", "axes", "variances", "class_means", "distances", "affinities")
_HALF = {"axes", "class_means"}
_DRIFTS, _LIMITS = ("drift", "base_drift"), ("means", "deviations")
_EQUAL = 1e-6
"""Affinities that differ by less are equal but for rounding."""
_TINY = 1e-30
"""Least variance: squared distances along it still fit into float32."""


@dataclass(frozen=True, eq=False)
class TaskStatistics:
    """Statistics of a task's unlabelled target images, from features of its own encoder."""

    gaussian: Gaussian
    """Of the features at unit length."""
    class_means: Features
    """(K, D), unit-length means of the images predicted as each class; 0 where there were none."""
    distances: Features
    """(Q,) Mahalanobis distances of the task's own images, rising; cross-fitted."""
    affinities: Features
    """(Q,) cosines to the nearest mean of a class, of the same images, rising; cross-fitted."""
    images: int
    """Number of images that the statistics were computed from."""
    drift: cusum.Limits | None = None
    """Limits of the distances' drift; None in files of earlier versions."""
    base_drift: cusum.Limits | None = None
    """Limits of `Route.frame_excess`, under the untouched base; None likewise."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(array.nbytes for array in self._arrays().values())

    def check_size(self, size: int) -> None:
        """Check that the statistics are of features of `size` dimensions.

        Raises:
            FormatError: They are not.
        """
        own = self.gaussian.mean.size
        if own != size:
            raise FormatError(
                f"the task's statistics are of {own} features, but its encoder gives {size}; "
                "export the task again"
            )

    def novelty(self, features: NDArray[np.floating]) -> Features:
        """Return how far features (N, D) are from the task's own images, (N,) in [0, 1].

        It is the share of the task's own images that are nearer to their mean, by Mahalanobis
        distance (Lee et al. 2018, arXiv:1807.03888).
        """
        return share_below(self.distances, self.gaussian.distances(unit(features)))

    def affinity(self, features: NDArray[np.floating]) -> Features:
        """Return the cosines (N,) of features (N, D) to the nearest mean of a class."""
        return nearest_cosine(unit(features), self.class_means)

    def known(self, features: NDArray[np.floating], reject: float) -> NDArray[np.bool_]:
        """Return whether features (N, D) are of the task's domain and of one of its classes.

        Args:
            features: Features of frames.
            reject: Share of the task's own images that may be taken for unknown, in (0, 1): half
                for their novelty, half for their affinity.
        """
        return self.accepts(self.novelty(features), self.affinity(features), reject)

    def accepts(
        self,
        novelty: NDArray[np.floating] | float,
        affinity: NDArray[np.floating] | float,
        reject: float,
    ) -> NDArray[np.bool_]:
        """Return what `known` does for novelties and affinities (N,), or for one of each."""
        near = np.asarray(novelty) <= 1 - reject / 2
        alike = share_below(self.affinities, np.asarray(affinity) + _EQUAL) >= reject / 2
        return np.asarray(near & alike)

    def document(self) -> dict[str, Any]:
        """Return the JSON of the member."""
        drift = {name: {"threshold": each.threshold} for name, each in self._drift().items()}
        return {"version": VERSION, "images": self.images, "rest": self.gaussian.rest, **drift}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the tensors of the member by name."""
        return {
            f"{MEMBER}.{name}": array.astype(np.float16 if name in _HALF else np.float32)
            for name, array in self._arrays().items()
        }

    def _arrays(self) -> dict[str, Features]:
        own = {name: getattr(self.gaussian, name) for name in ("mean", "axes", "variances")}
        limits = {
            f"{name}_{each}": getattr(found, each)
            for name, found in self._drift().items()
            for each in _LIMITS
        }
        return own | {name: getattr(self, name) for name in _NAMES if name not in own} | limits

    def _drift(self) -> dict[str, cusum.Limits]:
        found = {name: getattr(self, name) for name in _DRIFTS}
        return {name: limits for name, limits in found.items() if limits is not None}


def read(
    optional: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], classes: int
) -> TaskStatistics | None:
    """Return the statistics that a file carries; None where it has none, or of another version.

    Args:
        optional: Optional members of the file.
        tensors: Tensors of the optional members, `<member>.<name>`.
        classes: Number of the task's classes.

    Raises:
        FormatError: The member is there and is damaged.
    """
    found = optional.get(MEMBER)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    arrays = {name: tensors.get(f"{MEMBER}.{name}") for name in _NAMES}
    try:
        images, rest = found["images"], float(found["rest"])
        if type(images) is not int or images < 2 or not _TINY <= rest < math.inf:
            raise ValueError(f"{images} images and a variance of {rest:g}")
        wide = {name: _checked(name, array) for name, array in arrays.items()}
        _check_shapes(wide, classes)
        drifts = {name: _limits(name, found.get(name), tensors, classes) for name in _DRIFTS}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(
            f"the statistics of the task are damaged ({error}); export the task again"
        ) from error
    gaussian = Gaussian(wide["mean"], wide["axes"], wide["variances"], rest)
    means = unit(wide["class_means"])  # half precision makes them a little longer or shorter
    return TaskStatistics(gaussian, means, wide["distances"], wide["affinities"], images, **drifts)


def share_below(sorted_values: Features, values: NDArray[np.floating]) -> Features:
    """Return the share of sorted values (Q,) that are below each value (N,), in [0, 1]."""
    below = np.searchsorted(sorted_values, values)
    found: Features = (below / len(sorted_values)).astype(np.float32)
    return found


def nearest_cosine(features: Features, means: Features) -> Features:
    """Return the cosine (N,) of unit-length features (N, D) to the nearest of means (K, D)."""
    found: Features = (features @ means.T).max(-1)
    return found


def _limits(
    drift: str, found: Any, tensors: Mapping[str, NDArray[Any]], classes: int
) -> cusum.Limits | None:
    if found is None:
        return None
    names = (f"{drift}_{name}" for name in _LIMITS)
    means, deviations = (_checked(name, tensors.get(f"{MEMBER}.{name}")) for name in names)
    return cusum.checked(means, deviations, found["threshold"], classes)


def _checked(name: str, array: NDArray[Any] | None) -> Features:
    if array is None:
        raise ValueError(f"no '{name}'")
    if array.dtype not in (np.float16, np.float32) or not array.size:
        raise ValueError(f"'{name}' is {array.dtype}{array.shape}")
    found = np.ascontiguousarray(array, np.float32)
    if not bool(np.isfinite(found).all()):
        raise ValueError(f"'{name}' is not finite")
    return found


def _check_shapes(arrays: Mapping[str, Features], classes: int) -> None:
    (size,), (count, _) = arrays["mean"].shape, arrays["axes"].shape
    wanted = {"axes": (count, size), "variances": (count,), "class_means": (classes, size)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape:
            raise ValueError(f"'{name}' has shape {arrays[name].shape}, expected {shape}")
    if count > min(size, AXES):
        raise ValueError(f"{count} axes of {size} dimensions")
    if not bool((arrays["variances"] >= _TINY).all()):
        raise ValueError("a variance is not positive")
    for name in ("mean", "axes", "class_means"):
        if bool((np.linalg.norm(arrays[name].astype(np.float64), axis=-1) > 1.01).any()):
            raise ValueError(f"'{name}' is longer than features of unit length")
    for name in ("distances", "affinities"):
        rising = arrays[name].ndim == 1 and bool((np.diff(arrays[name]) >= 0).all())
        if not rising or len(arrays[name]) > MAX_QUANTILES:
            raise ValueError(f"'{name}' does not rise")
