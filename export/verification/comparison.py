"""Compare an engine's logits with PyTorch's and check the tolerances."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from adapt.data.base import UNKNOWN
from export.verification.base import Logits
from export.verification.images import Sample
from runtime.benchmark.tolerances import TOLERANCES
from runtime.errors import VerifyError
from runtime.models import Precision


@dataclass(frozen=True, eq=False)
class Reference:
    """Logits of PyTorch, computed by adapt's own code in float32."""

    merged: Logits
    """(N, K) of the adapted encoder."""
    base: Logits
    """(N, K) of the untouched encoder with the same head."""
    adapted: bool
    """Whether a residual or tokens change the encoder."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of one task's engine with PyTorch."""

    task: str
    images: int
    available: int
    """Number of images to choose from."""
    labelled: int
    max_difference: float
    """Largest logit difference."""
    spread: float
    """Mean over the images of the largest minus the smallest logit, in PyTorch."""
    agreement: float
    """Share of images with the same top class."""
    accuracy_torch: float | None
    """Percent of the labelled images."""
    accuracy_engine: float | None
    distance_merged: float
    """Mean logit difference from the adapted PyTorch model."""
    distance_base: float | None
    """Mean logit difference from the unadapted one; None if the encoder is untouched."""

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, JSON-serialisable."""
        return asdict(self)


def compare(task: str, found: Logits, expected: Reference, sample: Sample) -> Comparison:
    """Compare an engine's logits with PyTorch's.

    Args:
        task: Id of the task.
        found: Logits of the engine (N, K).
        expected: Logits of PyTorch for the same images.
        sample: Images with their labels.

    Raises:
        VerifyError: The logits are not finite, or have another shape.
    """
    merged = expected.merged
    if found.shape != merged.shape or not bool(np.isfinite(found).all()):
        raise VerifyError(
            f"task '{task}': the engine's logits have shape {found.shape} or are not finite, "
            f"PyTorch's are {merged.shape}; export again, with --precision fp32 if it was fp16"
        )
    known = sample.labels != UNKNOWN
    distance_base = np.abs(found - expected.base).mean() if expected.adapted else None

    def accuracy(logits: Logits) -> float | None:
        right = logits.argmax(-1)[known] == sample.labels[known]
        return 100 * float(right.mean()) if known.any() else None

    return Comparison(
        task=task,
        images=len(found),
        available=sample.available,
        labelled=int(known.sum()),
        max_difference=float(np.abs(found - merged).max()),
        spread=float((merged.max(-1) - merged.min(-1)).mean()),
        agreement=float((found.argmax(-1) == merged.argmax(-1)).mean()),
        accuracy_torch=accuracy(merged),
        accuracy_engine=accuracy(found),
        distance_merged=float(np.abs(found - merged).mean()),
        distance_base=None if distance_base is None else float(distance_base),
    )


def check(result: Comparison, precision: Precision) -> None:
    """Check a comparison against the tolerances of a precision.

    Raises:
        VerifyError: The engine is too far from PyTorch, or nearer to the unadapted model.
    """
    limit = TOLERANCES[precision]
    problems = []
    if result.agreement < limit.agreement:
        problems.append(
            f"agrees with PyTorch on {result.agreement:.2%} of {result.images} images, needed "
            f"{limit.agreement:.0%}"
        )
    if result.max_difference > limit.difference * result.spread:
        problems.append(
            f"differs by {result.max_difference:.3g} in a logit, allowed "
            f"{limit.difference * result.spread:.3g}"
        )
    if result.accuracy_torch is not None and result.accuracy_engine is not None:
        drop = result.accuracy_torch - result.accuracy_engine
        if drop > limit.accuracy_drop:
            problems.append(
                f"has {result.accuracy_engine:.2f} % accuracy where PyTorch has "
                f"{result.accuracy_torch:.2f} %"
            )
    if result.distance_base is not None and result.distance_base <= result.distance_merged:
        problems.append("is nearer to the unadapted model than to the adapted one")
    if problems:
        hint = (
            f"train with --grid {precision}, or export with --precision fp32"
            if precision != "fp32"
            else "check that base and artifact are the ones it was trained with"
        )
        raise VerifyError(
            f"task '{result.task}' in {precision}: the engine {', and '.join(problems)}; {hint}"
        )
