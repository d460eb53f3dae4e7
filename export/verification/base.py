"""Types that verification shares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
Infer = Callable[[NDArray[np.uint8]], Logits]
"""From pixels (N, S, S, 3) uint8 to logits (N, K)."""
