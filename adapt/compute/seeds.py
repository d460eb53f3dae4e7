"""Seeds of random generators that depend on counters alone."""

from __future__ import annotations

import hashlib


def draw_seed(*counters: object) -> int:
    """Return a well mixed generator seed in [0, 2^63) that depends on the counters alone."""
    digest = hashlib.sha256("/".join(map(str, counters)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
