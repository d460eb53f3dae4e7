"""How long to wait before the next try."""

from __future__ import annotations

import random

FIRST, LONGEST = 0.5, 30.0
"""Seconds before the second try, and before any."""
STEADY = 10.0
"""Seconds with frames after which a connection counts as good, and the next wait is short again."""


class Backoff:
    """Doubles the wait with every failure, with jitter so that many devices do not try at once."""

    def __init__(self, seed: object = None) -> None:
        """Start with the shortest wait.

        Args:
            seed: Seed of the jitter, any text or number; None for another one each time.
        """
        self._random = random.Random(seed)  # type: ignore[arg-type]
        self._next = FIRST

    def wait(self) -> float:
        """Return the seconds to wait: half to all of 0.5, 1, 2, ... at most 30."""
        longest, self._next = self._next, min(2 * self._next, LONGEST)
        return longest * (0.5 + 0.5 * self._random.random())

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self._next = FIRST
