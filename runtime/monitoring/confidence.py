"""Calibrated probabilities: a temperature of a task's logits, from images that a person sorted.

Optional member `calibration` of artifacts and task files: `version`, `temperature`, `images`.
Without sorted images there is none. Methods that need no labels, such as PseudoCal (Hu et al. 2024,
PMLR 235:19304), made some of the demo's tasks worse; `benchmarks.monitoring` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError, FormatError

MEMBER = "calibration"
VERSION = 1
"""Version of the member; others are ignored."""
FEWEST = 50
"""Fewest sorted images that a temperature is fitted to."""
UNCALIBRATED = "uncalibrated"
LEAST, MOST = 0.05, 20.0
"""Range of temperatures."""
_SPREAD = 0.5
"""Standard deviation of log T before any image is seen. Without this prior, T would go to 0 where
all sorted images are classified correctly."""
_STEPS = 60
"""Halvings of the range of log T."""


@dataclass(frozen=True)
class Calibration:
    """A temperature that the logits are divided by (Guo et al. 2017, arXiv:1706.04599)."""

    temperature: float
    images: int
    """Number of sorted images that it was fitted to."""

    def __str__(self) -> str:
        return f"{self.images} sorted images"

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the calibrated probabilities (N, K) of logits (N, K), or (K,) of (K,)."""
        return softmax(logits, self.temperature)

    def document(self) -> dict[str, Any]:
        """Return the JSON of the member."""
        return {"version": VERSION, "temperature": self.temperature, "images": self.images}


def described(calibration: Calibration | None) -> str:
    """Return what confidences are from: `50 sorted images`, or `uncalibrated`."""
    return UNCALIBRATED if calibration is None else str(calibration)


def read(optional: Mapping[str, Any]) -> Calibration | None:
    """Return the calibration that a file carries; None where it has none, or of another version.

    Args:
        optional: Optional members of the file.

    Raises:
        FormatError: The member is there and is damaged.
    """
    found = optional.get(MEMBER)
    if not isinstance(found, dict) or found.get("version") != VERSION:
        return None
    temperature, images = found.get("temperature"), found.get("images")
    if type(temperature) not in (int, float) or not LEAST <= float(str(temperature)) <= MOST:
        raise _damaged(f"a temperature of {str(temperature)[:40]}")
    if type(images) is not int or images < FEWEST:
        raise _damaged(f"{str(images)[:40]} images")
    return Calibration(float(str(temperature)), images)


def fit(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Return the most probable temperature of logits (N, K) with labels (N,), N at least 50.

    Args:
        logits: Logits of the sorted images.
        labels: Their classes.

    Raises:
        DataError: There are too few images.
    """
    if len(logits) < FEWEST:
        raise DataError(f"a temperature needs at least {FEWEST} sorted images, found {len(logits)}")
    wide = np.asarray(logits, np.float64)
    wide = wide - wide.max(-1, keepdims=True)
    own = wide[np.arange(len(wide)), labels]

    def slope(inverse: float) -> float:
        """Return the derivative of the negative log posterior by the logarithm of 1/T."""
        weights = np.exp(inverse * wide)
        expected = (weights * wide).sum(-1) / weights.sum(-1)
        return inverse * float((expected - own).sum()) + math.log(inverse) / _SPREAD**2

    low, high = -math.log(MOST), -math.log(LEAST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return Calibration(round(math.exp(-(low + high) / 2), 6), len(wide))


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float32]:
    """Return the softmax (N, K) of logits (N, K) that are divided by a temperature."""
    wide = np.asarray(logits, np.float64) / temperature
    shifted = np.exp(wide - wide.max(-1, keepdims=True))
    found: NDArray[np.float32] = (shifted / shifted.sum(-1, keepdims=True)).astype(np.float32)
    return found


def _damaged(found: str) -> FormatError:
    return FormatError(
        f"the calibration of the task is damaged (it has {found}); score the spot check and export "
        "the task again"
    )
