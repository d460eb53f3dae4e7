"""How far the answers of an engine may be from those of its reference, by precision."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.models import Precision


@dataclass(frozen=True)
class Tolerance:
    """Largest differences allowed between an engine and its reference."""

    agreement: float
    """Smallest share of images with the same top class, in [0, 1]."""
    difference: float
    """Largest logit difference, as a share of the mean spread of one image's logits."""
    accuracy_drop: float
    """Largest loss of accuracy in percentage points, where labels are known."""
    noise: float
    """As `difference`, for frames of noise, whose top class means nothing."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(agreement=1.0, difference=1e-3, accuracy_drop=0.0, noise=1e-3),
    "fp16": Tolerance(agreement=0.98, difference=float("inf"), accuracy_drop=1.0, noise=5e-2),
    "bf16": Tolerance(agreement=0.98, difference=float("inf"), accuracy_drop=1.0, noise=5e-2),
}
"""Measured (tests/export, benchmarks/latency.py): fp32 differs by 2e-6 of the spread at most."""
