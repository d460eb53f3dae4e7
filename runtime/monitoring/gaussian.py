"""A normal distribution of features, and how far a feature lies from its mean.

The covariance is kept as its largest axes and one variance for all others, as in probabilistic PCA
(Tipping and Bishop 1999): a task seldom has enough images for more, and at D = 512 a full triangle
takes twice the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AXES = 128
"""Most axes that are kept; in half precision 0.13 MB at D = 512."""
Features = NDArray[np.float32]
_SHORT, _LONG = 1e-15, 1e18
"""Lengths between which squares neither vanish nor overflow in single precision."""
_ROUNDING = 1e-3
"""Distance between unit-length features of one image from encoders of different precision."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of unit-length features."""

    mean: Features
    """(D,)."""
    axes: Features
    """(R, D), of unit length and orthogonal, R <= D."""
    variances: Features
    """(R,), along the axes, positive."""
    rest: float
    """Variance along every direction that is orthogonal to the axes."""

    def distances(self, features: Features) -> Features:
        """Return the Mahalanobis distances (N,) of unit-length features (N, D) from the mean.

        Lee et al. 2018 (arXiv:1807.03888), with one class.
        """
        apart = features - self.mean
        along = apart @ self.axes.T
        squares: Features = (along**2 / self.variances).sum(-1)
        if len(self.axes) < apart.shape[-1]:
            outside = (apart**2).sum(-1) - (along**2).sum(-1)
            squares += (np.maximum(outside, 0) / self.rest).astype(np.float32)
        found: Features = np.sqrt(squares).astype(np.float32)
        return found

    def whitened(self, features: Features) -> Features:
        """Return unit-length features (N, D) along the axes, (N, R), in standard deviations.

        Distances between the rows are Mahalanobis distances, less what lies off the axes.
        """
        along = (features - self.mean) @ self.axes.T
        found: Features = (along / np.sqrt(self.variances)).astype(np.float32)
        return found

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance matrix (D, D)."""
        axes = self.axes.astype(np.float64)
        found: NDArray[np.float64] = (axes.T * (self.variances - self.rest)) @ axes
        found += self.rest * np.eye(axes.shape[1])
        return found


def unit(features: NDArray[np.floating]) -> Features:
    """Return features (N, D), or one (D,), at unit length; those of length 0 stay as they are."""
    wide = np.asarray(features, np.float32)
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not _SHORT < lengths.min(initial=1) <= lengths.max(initial=1) < _LONG:
        lengths = np.linalg.norm(wide.astype(np.float64), axis=-1, keepdims=True)
        lengths[lengths == 0] = 1
    found: Features = (wide / lengths).astype(np.float32)
    return found


def fit(features: Features, most: int = AXES) -> Gaussian:
    """Return the distribution of unit-length features (N, D), N at least 2; see `shrunk`.

    Args:
        features: Unit-length features (N, D).
        most: Most axes to keep.
    """
    wide = np.asarray(features, np.float64)
    mean = wide.mean(0)
    covariance = shrunk(wide - mean)
    variances, vectors = np.linalg.eigh(covariance)
    variances = np.maximum(variances, least_variance(len(mean)))
    kept = min(most, len(variances))
    rest = variances[: len(variances) - kept]
    return Gaussian(
        mean.astype(np.float32),
        vectors[:, ::-1][:, :kept].T.astype(np.float32),
        variances[::-1][:kept].astype(np.float32),
        float(rest.mean()) if len(rest) else float(variances[0]),
    )


def least_variance(size: int) -> float:
    """Return the variance along each of `size` directions that rounding alone causes."""
    return _ROUNDING**2 / size


def shrunk(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance (D, D) of centred rows (N, D), shrunk towards a multiple of identity.

    The share is that of Ledoit and Wolf 2004 (doi:10.1016/S0047-259X(03)00096-4).
    """
    count, size = centred.shape
    sample = centred.T @ centred / count
    scale = np.trace(sample) / size
    away = ((sample - scale * np.eye(size)) ** 2).sum()
    # Mean over the rows of |x x^T - sample|^2, without a matrix per row.
    noise = (((centred**2).sum(1) ** 2).mean() - (sample**2).sum()) / count
    share = min(max(noise, 0.0) / away, 1.0) if away else 1.0
    least = 1e-9 * max(scale, 1e-9)  # so that it can be inverted
    found: NDArray[np.float64] = (1 - share) * sample + (share * scale + least) * np.eye(size)
    return found
