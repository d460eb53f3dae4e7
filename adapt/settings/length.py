"""Decide the number of steps of a run on the user's own images."""

from __future__ import annotations

PASSES, EPOCHS = 40, 20
"""Number of passes over the larger domain, and of evaluations."""
FEWEST_STEPS, MOST_STEPS, MOST_PASSES = 300, 10_000, 100
"""Bounds of such a run; the most steps are CMKD's for any data set but the largest."""


def steps(batch_size: int, images: int) -> int:
    """Return the optimizer steps of a run on the user's own images.

    Args:
        batch_size: Images per step.
        images: Number of images of the larger domain.
    """
    one_pass = max(images // batch_size, 1)
    fewest = min(FEWEST_STEPS, MOST_PASSES * one_pass)
    return min(max(PASSES * one_pass, fewest), MOST_STEPS)
