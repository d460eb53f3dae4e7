"""How far a candidate's answers agree with those of the reference, and with labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.tolerances import TOLERANCES
from runtime.models import Precision

Logits = NDArray[np.float64]


@dataclass
class Agreement:
    """Answers of one candidate for one task, counted."""

    frames: int = 0
    """Frames that the reference has answered as well."""
    same: int = 0
    """Frames with the same top class."""
    max_difference: float = 0.0
    """Largest logit difference."""
    spread: float = 0.0
    """Sum over the frames of the largest minus the smallest logit of the reference."""
    labelled: int = 0
    right: int = 0
    """Labelled frames with the right top class."""

    def add(self, logits: Logits, reference: Logits | None, label: int | None) -> None:
        """Count one answer.

        Args:
            logits: Logits (K,) of the candidate.
            reference: Logits (K,) of the reference; None if it gave none.
            label: Index of the frame's class; None where it is unknown.
        """
        best = int(logits.argmax())
        if reference is not None:
            self.frames += 1
            self.same += best == int(reference.argmax())
            self.max_difference = max(self.max_difference, float(np.abs(logits - reference).max()))
            self.spread += float(reference.max() - reference.min())
        if label is not None:
            self.labelled += 1
            self.right += best == label

    @property
    def share_of_spread(self) -> float:
        """The largest logit difference as a share of the mean spread of one frame's logits."""
        if not self.max_difference:
            return 0.0
        return self.max_difference * self.frames / self.spread if self.spread else float("inf")


def summed(parts: Iterable[Agreement]) -> dict[str, Any] | None:
    """Return the counts of several tasks together, JSON-serialisable; None without any frame."""
    each = [part for part in parts if part.frames or part.labelled]
    if not each:
        return None
    labelled = sum(part.labelled for part in each)
    frames = sum(part.frames for part in each)
    return {
        "frames": frames,
        "same_top_class": sum(part.same for part in each),
        "max_difference": max(part.max_difference for part in each),
        "spread": sum(part.spread for part in each) / frames if frames else None,
        "max_share_of_spread": min(max(part.share_of_spread for part in each), 1e9),
        "labelled": labelled,
        "right": sum(part.right for part in each),
        "accuracy": 100 * sum(part.right for part in each) / labelled if labelled else None,
    }


def problem(
    found: dict[str, Any], reference: dict[str, Any], precision: Precision, noise: bool
) -> str:
    """Return why a candidate does not agree with the reference; empty if it does.

    Args:
        found: Counts of the candidate, see `summed`.
        reference: Counts of the reference.
        precision: Precision of the candidate.
        noise: Whether the frames are noise instead of images.
    """
    limit, share = TOLERANCES[precision], found["max_share_of_spread"]
    allowed = limit.noise if noise else limit.difference
    if not noise and found["same_top_class"] < limit.agreement * found["frames"]:
        return (
            f"has a different top class on {found['frames'] - found['same_top_class']} of "
            f"{found['frames']} images"
        )
    if share > allowed:
        return f"differs by {share:.2g} of the spread of the logits, allowed {allowed:g}"
    if found["accuracy"] is not None and reference["accuracy"] is not None:
        drop = reference["accuracy"] - found["accuracy"]
        if drop > limit.accuracy_drop:
            return f"has {drop:.1f} points less accuracy"
    return ""
